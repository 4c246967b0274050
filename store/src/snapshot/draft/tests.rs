//! Drafts in both forms: what is seen through the stack is the same.

use std::{collections::BTreeMap, os::unix::fs::symlink};

use super::*;
use crate::{
    db::Db,
    layer::{LayerFormat, Time, read_directory},
};

type Entries<'a> = &'a [(&'a str, EntryKind, &'a str)];

/// When the files of drafts were written.
const WRITTEN: i64 = 1_600_000_000;

fn write(writer: &mut dyn LayerWriter, entries: Entries<'_>) -> Result<()> {
    for (path, kind, text) in entries {
        let kind = match kind {
            EntryKind::File { .. } => EntryKind::File { size: text.len() as u64 },
            kind => kind.clone(),
        };
        let mtime = Time { seconds: WRITTEN, nanos: 0 };
        let entry = Entry { kind, mode: 0o640, uid: 7, mtime, ..Entry::directory(PathBuf::from(path)) };
        writer.entry(&entry, &mut text.as_bytes())?;
    }
    writer.finish()
}

/// What a client sees: kinds, modes, owners, link targets, bytes, and the times that the drafts gave to files.
fn seen(root: &Path) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    read_directory(root, &mut |entry, data| {
        let text = io::read_to_string(data).expect("text");
        let mut shown = Entry { path: PathBuf::new(), ..entry.clone() };
        if shown.kind == EntryKind::Directory || shown.mtime.seconds != WRITTEN {
            shown.mtime = Time::default();
        }
        all.insert(entry.path.display().to_string(), format!("{shown:?} {text}"));
        Ok(())
    })
    .expect("a tree");
    all
}

/// Makes drafts above a base, each entry list below its folder, and looks at the result.
fn drafted(form: LayerFormat, lists: &[(&str, Entries<'_>)]) -> Result<BTreeMap<String, String>> {
    let dir = tempfile::tempdir().expect("a folder");
    let db = Arc::new(Db::open(&dir.path().join("db")).expect("a database"));
    let snapshots = Snapshots::open(dir.path(), db, form).expect("snapshots");
    let base = snapshots.active(None).expect("a mount");
    let path = base.path();
    fs::create_dir_all(path.join("usr/lib")).expect("folders");
    fs::write(path.join("usr/lib/old"), "old").expect("a file");
    symlink("usr/lib", path.join("lib")).expect("a link");
    symlink("/usr", path.join("absolute")).expect("a link");
    fs::create_dir(path.join("own")).expect("a folder");
    fs::write(path.join("own/below"), "below").expect("a file");
    std::os::unix::fs::chown(path.join("own"), Some(5), Some(6)).expect("an owner");
    fs::write(path.join("file"), "file").expect("a file");
    let base = base.commit().expect("a commit");
    let mut draft = snapshots.draft(Some(base.id())).expect("a draft");
    for (folder, entries) in lists {
        match *folder {
            "" => write(&mut draft, entries)?,
            folder => write(&mut *draft.below(Path::new(folder)).expect("a folder"), entries)?,
        }
    }
    let held = draft.commit().expect("a commit");
    let layer = snapshots.layers(held.id()).expect("layers").pop().expect("a layer");
    assert_eq!(snapshots.is_file(layer.id), form == LayerFormat::File);
    assert_eq!(layer.diff_id.is_some(), form == LayerFormat::File);
    Ok(seen(&snapshots.view(Some(held.id())).expect("a view").path()))
}

#[test]
fn what_is_seen_is_the_same_in_both_forms() {
    let (file, folder) = (EntryKind::File { size: 0 }, EntryKind::Directory);
    let link = |target: &str| EntryKind::Symlink(target.into());
    let hard = |target: &str| EntryKind::Hardlink(target.into());
    let cases: &[&[(&str, Entries<'_>)]] = &[
        &[("", &[("new", file.clone(), "1"), ("own/new", file.clone(), "2"), ("file", file.clone(), "3")])],
        &[("", &[("lib/new", file.clone(), "1"), ("absolute/lib/more", file.clone(), "2")])],
        &[("", &[("a/b/c", file.clone(), "1"), ("a/b/d", file.clone(), "2"), ("own", folder.clone(), "")])],
        &[("", &[("own", file.clone(), "1")])],
        &[("", &[("own", file.clone(), "1"), ("own", folder.clone(), ""), ("own/x", file.clone(), "2")])],
        &[("", &[("own", link("usr"), ""), ("own/new", file.clone(), "1")])],
        &[("", &[("lib", folder.clone(), ""), ("lib/new", file.clone(), "1")])],
        &[("", &[("usr/lib/also", hard("lib/old"), ""), ("lib/third", hard("usr/lib/also"), "")])],
        &[("", &[("made", file.clone(), "1"), ("own/made", hard("made"), ""), ("made", file.clone(), "2")])],
        &[("own", &[("l", link("/"), ""), ("l/new", file.clone(), "1"), ("../out", file.clone(), "2")])],
        &[("own", &[("h", hard("below"), "")]), ("", &[("own/h", file.clone(), "1")])],
        &[(
            "",
            &[("p", EntryKind::Fifo, ""), ("lib", EntryKind::Char(5, 1), ""), ("own", EntryKind::Fifo, "")],
        )],
    ];
    for case in cases {
        let [one, other] =
            [LayerFormat::Directory, LayerFormat::File].map(|form| drafted(form, case).expect("a tree"));
        assert_eq!(one, other, "{case:?}");
    }
}

#[test]
fn what_cannot_be_is_refused_in_both_forms() {
    let file = EntryKind::File { size: 0 };
    let cases: &[&[(&str, Entries<'_>)]] = &[
        &[("", &[("file/x", file.clone(), "1")])],
        &[("", &[("new", file.clone(), "1"), ("new/x", file.clone(), "1")])],
        &[("", &[("h", EntryKind::Hardlink("nothing".into()), "")])],
        &[("", &[("h", EntryKind::Hardlink("own".into()), "")])],
        &[("own", &[("h", EntryKind::Hardlink("../file".into()), "")])],
        &[("", &[("gone", EntryKind::Whiteout, "")])],
        &[("", &[("d", EntryKind::Symlink("nowhere".into()), ""), ("d/x/y", file.clone(), "1")])],
    ];
    for case in cases {
        for form in [LayerFormat::Directory, LayerFormat::File] {
            assert!(drafted(form, case).is_err(), "{form:?} {case:?}");
        }
    }
}
