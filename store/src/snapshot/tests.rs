//! Stacks of layers: written, mounted, taken apart again, and what is left of them after a crash.

use std::{fs, path::Path, sync::Arc};

use super::Snapshots;
use crate::{
    db::Db,
    disk::{
        Step,
        watch::{Seen, watch},
    },
    layer::{ExportOptions, LayerFileWriter, LayerFormat, LayerWriter as _},
};

pub(crate) mod external;

fn open(root: &Path, form: LayerFormat) -> Arc<Snapshots> {
    assert!(rustix::process::geteuid().is_root(), "snapshots are mounts: run the tests as root");
    let db = Arc::new(Db::open(&root.join("db")).expect("a database"));
    Snapshots::open(root, db, form).expect("snapshots")
}

#[test]
fn steps_stack_and_are_seen_read_only() {
    let dir = tempfile::tempdir().expect("a folder");
    let snapshots = open(dir.path(), LayerFormat::Auto);
    let first = snapshots.active(None).expect("a mount");
    fs::create_dir(first.path().join("d")).expect("a folder");
    fs::write(first.path().join("d/a"), "1").expect("a file");
    fs::write(first.path().join("gone"), "x").expect("a file");
    let first = first.commit().expect("a commit").id();
    let second = snapshots.active(Some(first)).expect("a mount");
    assert_eq!(fs::read_to_string(second.path().join("d/a")).expect("below"), "1");
    fs::write(second.path().join("d/a"), "2").expect("a file");
    fs::remove_file(second.path().join("gone")).expect("a removal");
    let second = second.commit().expect("a commit").id();
    let view = snapshots.view(Some(second)).expect("a view");
    assert_eq!(fs::read_to_string(view.path().join("d/a")).expect("it"), "2");
    assert!(!view.path().join("gone").exists());
    assert!(fs::write(view.path().join("new"), "").is_err(), "a view can be written to");
    let below = snapshots.view(Some(first)).expect("a view");
    assert_eq!(fs::read_to_string(below.path().join("d/a")).expect("it"), "1");
    assert_eq!(snapshots.layers(second).expect("layers").len(), 2);
    assert_eq!(fs::read_dir(snapshots.view(None).expect("a view").path()).expect("it").count(), 0);
}

#[test]
fn an_upper_goes_out_as_a_tar_and_comes_back_as_a_layer() {
    for form in [LayerFormat::File, LayerFormat::Directory] {
        comes_back(form);
    }
}

fn comes_back(form: LayerFormat) {
    let dir = tempfile::tempdir().expect("a folder");
    let snapshots = open(dir.path(), form);
    let base = snapshots.active(None).expect("a mount");
    fs::create_dir_all(base.path().join("x/y")).expect("folders");
    fs::write(base.path().join("x/old"), "old").expect("a file");
    let base = base.commit().expect("a commit").id();
    let step = snapshots.active(Some(base)).expect("a mount");
    fs::remove_file(step.path().join("x/old")).expect("a removal");
    fs::remove_dir_all(step.path().join("x/y")).expect("a removal");
    fs::create_dir(step.path().join("x/y")).expect("made anew: opaque");
    fs::write(step.path().join("x/y/new"), "new").expect("a file");
    let step = step.commit().expect("a commit").id();
    let layer = snapshots.layers(step).expect("layers").pop().expect("a layer");
    let mut tar = Vec::new();
    let (diff_id, _) = snapshots.write_layer(layer.id, &mut tar, ExportOptions::default()).expect("a tar");
    assert!(
        snapshots.apply(Some(base), &mut tar.as_slice(), Some(buildd_oci::digest::Digest::of(b"?"))).is_err()
    );
    let (copy, applied) = snapshots.apply(Some(base), &mut tar.as_slice(), Some(diff_id)).expect("an apply");
    let copy = copy.id();
    assert_eq!(applied.diff_id, diff_id);
    let view = snapshots.view(Some(copy)).expect("a view");
    assert!(!view.path().join("x/old").exists());
    assert_eq!(fs::read_to_string(view.path().join("x/y/new")).expect("it"), "new");
    snapshots.set_chain_id(copy, &diff_id).expect("a name");
    assert_eq!(snapshots.by_chain_id(&diff_id).expect("a look").map(|held| held.id()), Some(copy));
    let layer = snapshots.layers(copy).expect("layers").pop().expect("a layer").id;
    assert_eq!(snapshots.folder(layer).is_file(), form == LayerFormat::File);
    let mut again = Vec::new();
    snapshots.write_layer(layer, &mut again, ExportOptions::default()).expect("a tar");
    assert!(again == tar, "a layer goes out as it came");
    let tree = snapshots.layer_path(layer).expect("a tree");
    assert_eq!(fs::read_to_string(tree.join("x/y/new")).expect("it"), "new");
    assert_eq!(snapshots.layer_path(layer).expect("the same tree"), tree);
    drop(view);
    snapshots.make_durable(copy).expect("a sync");
    snapshots.remove_layers(&[layer]).expect("a removal");
    assert!(!snapshots.folder(layer).exists());
    assert!(!tree.exists());
}

#[test]
fn another_boot_keeps_only_what_is_durable() {
    let dir = tempfile::tempdir().expect("a folder");
    let db = Arc::new(Db::open(&dir.path().join("db")).expect("a database"));
    let snapshots = Snapshots::open(dir.path(), db.clone(), LayerFormat::Auto).expect("snapshots");
    let kept = snapshots.active(None).expect("a mount").commit().expect("a commit").id();
    snapshots.make_durable(kept).expect("a sync");
    let hollow = snapshots.active(Some(kept)).expect("a mount").commit().expect("a commit").id();
    drop(snapshots);
    let same = Snapshots::open(dir.path(), db.clone(), LayerFormat::Auto).expect("snapshots");
    assert!(same.layers(hollow).is_ok(), "the same boot keeps all");
    drop(same);
    db.write("pretend", |tx| tx.execute("UPDATE snapshots SET boot = 'another'", [])).expect("a write");
    let other = Snapshots::open(dir.path(), db, LayerFormat::Auto).expect("snapshots");
    assert!(other.layers(kept).is_ok());
    assert!(other.layers(hollow).is_err());
    assert_eq!(fs::read_dir(dir.path().join("layers")).expect("it").count(), 1);
}

#[test]
fn files_are_synced_one_by_one_and_folders_all_at_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let snapshots = open(dir.path(), LayerFormat::Auto);
    assert!(snapshots.makes_files(), "this kernel mounts layer files");
    let synced = |id| {
        let seen = Arc::new(Seen::default());
        let _watching = watch(dir.path(), seen.clone());
        snapshots.make_durable(id).expect("a sync");
        (seen.count(Step::SyncFile), seen.count(Step::SyncAll))
    };
    let file = |parent| {
        let scratch = snapshots.scratch_file();
        let mut writer = LayerFileWriter::new(scratch.path()).expect("a file");
        writer.finish().expect("an empty layer");
        snapshots.commit_folder(parent, scratch.path(), writer.diff_id()).expect("a commit").id()
    };
    let first = file(None);
    let second = file(Some(first));
    assert_eq!(synced(second), (2, 0));
    assert_eq!(synced(second), (0, 0), "it is durable");
    let third = file(Some(second));
    let folder = snapshots.active(Some(third)).expect("a mount").commit().expect("a commit").id();
    assert_eq!(synced(folder), (0, 1));
}

#[test]
fn what_a_crash_left_mounted_is_swept() {
    let dir = tempfile::tempdir().expect("a folder");
    let snapshots = open(dir.path(), LayerFormat::Auto);
    let left = snapshots.active(None).expect("a mount");
    let path = left.path();
    std::mem::forget(left);
    drop(snapshots);
    open(dir.path(), LayerFormat::Auto);
    assert!(!path.exists());
    let table = fs::read_to_string("/proc/self/mountinfo").expect("the table");
    assert!(!table.contains(dir.path().to_str().expect("UTF-8")));
}

#[test]
fn what_is_dropped_on_an_async_thread_is_taken_down_by_another() {
    let dir = tempfile::tempdir().expect("a folder");
    let snapshots = open(dir.path(), LayerFormat::Auto);
    let base = snapshots.active(None).expect("a mount").commit().expect("a commit").id();
    let active = snapshots.active(Some(base)).expect("a mount");
    let view = snapshots.view(Some(base)).expect("a view");
    let paths = [active.path(), view.path()];
    fs::write(active.path().join("file"), "1").expect("a file");
    // The other thread is kept busy: what is done before it goes on was done by the async one.
    let (go, wait) = std::sync::mpsc::channel::<()>();
    snapshots.cleanup().run(move || wait.recv().expect("a word to go on"));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async { drop((active, view)) });
    let mounted = |path: &Path| {
        let table = fs::read_to_string("/proc/self/mountinfo").expect("the table");
        table.contains(path.to_str().expect("UTF-8"))
    };
    assert!(paths.iter().all(|path| path.exists() && mounted(path)), "the async thread waited for no file");
    go.send(()).expect("it waits");
    snapshots.cleanup().settle();
    assert!(!paths.iter().any(|path| path.exists() || mounted(path)));
    for folder in ["snapshots", "trash"] {
        assert_eq!(fs::read_dir(dir.path().join(folder)).expect("the folder").count(), 0, "{folder}");
    }
}
