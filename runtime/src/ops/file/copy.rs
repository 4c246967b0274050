//! Copy: files of one tree into another, as COPY and ADD do it.
//!
//! The source is only read, its links followed inside it; the target is written through `DirectoryWriter`, which never
//! leaves its root. A folder's content is copied, not the folder; a target that ends in a slash is a folder.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use buildd_api::buildkit::pb;
use buildd_fs::{
    path::{Follow, resolve},
    pattern::Patterns,
};
use buildd_oci::compress;

use super::{act::Owner, mode::Chmod};
use crate::{
    checksum::{Selection, find, patterns},
    error::{Error, Result},
    layer::{DirectoryWriter, Entry, Time, Whiteouts, apply_tar, describe},
};

/// What a copy reads, for its key.
pub(super) fn selection(copy: &pb::FileActionCopy) -> Selection {
    Selection {
        path: copy.src.clone(),
        wildcard: copy.allow_wildcard,
        follow: copy.follow_symlink,
        include: copy.include_patterns.clone(),
        exclude: copy.exclude_patterns.clone(),
    }
}

/// Copies every file of a tree, for the first content of a cache mount.
pub(in crate::ops) fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    let mut job = Job {
        writer: DirectoryWriter::new(to, Whiteouts::Refuse)?,
        owner: None,
        chmod: Chmod::Keep,
        time: None,
        include: Patterns::default(),
        exclude: Patterns::default(),
    };
    job.content(from, Path::new(""), Path::new(""))?;
    job.writer.finish()
}

/// Copies what the action selects.
pub(super) fn copy(
    action: &pb::FileActionCopy,
    source: &Path,
    root: &Path,
    owner: Option<Owner>,
) -> Result<()> {
    let selection = selection(action);
    let found = find(source, &selection)?;
    let wildcard = action.allow_wildcard && action.src.contains(['*', '?', '[']);
    if found.is_empty() && !(wildcard && action.allow_empty_wildcard) {
        return Err(missing(&action.src, source));
    }
    let mut job = Job {
        writer: DirectoryWriter::new(root, Whiteouts::Refuse)?,
        owner,
        chmod: Chmod::parse(action.mode, &action.mode_str)?,
        time: (action.timestamp >= 0).then(|| Time {
            seconds: action.timestamp / 1_000_000_000,
            nanos: u32::try_from(action.timestamp % 1_000_000_000).unwrap_or_default(),
        }),
        include: patterns(&action.include_patterns)?,
        exclude: patterns(&action.exclude_patterns)?,
    };
    for path in &found {
        job.one(action, source, path, root)?;
    }
    job.writer.finish()
}

fn missing(src: &str, source: &Path) -> Error {
    let name = buildd_fs::path::clean(Path::new(src)).to_string_lossy().into_owned();
    let mut known = Vec::new();
    let folder = Path::new(&name).parent().unwrap_or(Path::new(""));
    if let Ok(entries) = fs::read_dir(source.join(folder)) {
        known.extend(entries.flatten().take(10_000).filter_map(|e| e.file_name().into_string().ok()));
    }
    let last = name.rsplit('/').next().unwrap_or_default();
    known.sort_by_key(|candidate| distance(last, candidate));
    Error::MissingSource {
        path: format!("/{name}"),
        nearest: known.into_iter().find(|candidate| distance(last, candidate) <= last.len().div_ceil(2)),
    }
}

/// How many letters must change to make one name the other (a swap of neighbours counts as two).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(256).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().take(256).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let next = (diagonal + usize::from(ca != *cb)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = row[j + 1];
            row[j + 1] = next;
        }
    }
    row[b.len()]
}

/// Makes the folders above `path` that are missing, with the owner of what is copied.
pub(super) fn make_parents(root: &Path, path: &Path, owner: Option<Owner>, time: Time) -> Result<()> {
    let mut writer = DirectoryWriter::new(root, Whiteouts::Refuse)?;
    let mut above: Vec<&Path> = path.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()).collect();
    above.reverse();
    for folder in above {
        if root.join(folder).symlink_metadata().is_err() {
            let mut entry = Entry::directory(folder.to_owned());
            entry.mtime = time;
            if let Some(owner) = owner {
                (entry.uid, entry.gid) = (owner.uid, owner.gid);
            }
            writer.entry(&entry, &mut io::empty())?;
        }
    }
    writer.finish()
}

struct Job {
    writer: DirectoryWriter,
    owner: Option<Owner>,
    chmod: Chmod,
    time: Option<Time>,
    include: Patterns,
    exclude: Patterns,
}

impl Job {
    fn one(&mut self, action: &pb::FileActionCopy, source: &Path, path: &Path, root: &Path) -> Result<()> {
        let full = source.join(path);
        let meta = full.symlink_metadata().map_err(Error::file("read", &full))?;
        let fail = || Error::file("resolve", &action.dest);
        let target = resolve(root, Path::new(&action.dest), Follow::All).map_err(fail())?;
        let present = root.join(&target).symlink_metadata().ok();
        let folder =
            action.dest.ends_with('/') || action.dest.ends_with("/.") || present.is_some_and(|m| m.is_dir());
        let now = self.time.unwrap_or_default();
        if action.attempt_unpack_docker_compatibility
            && meta.is_file()
            && self.unpack(&full, root, &target)?
        {
            return Ok(());
        }
        let base = Path::new(&action.src).file_name().map(PathBuf::from);
        let name = path.file_name().map(PathBuf::from).or(base).unwrap_or_default();
        let into =
            if meta.is_dir() && action.dir_copy_contents || !folder { target } else { target.join(name) };
        if action.create_dest_path {
            make_parents(root, &into, self.owner, now)?;
        }
        if !meta.is_dir() {
            return self.entry(&full, Path::new(""), into);
        }
        if root.join(&into).symlink_metadata().is_err() {
            self.entry(&full, Path::new(""), into.clone())?;
        }
        self.content(&full, Path::new(""), &into)
    }

    /// Copies what lies in a folder, `below` being its path within what is copied.
    fn content(&mut self, from: &Path, below: &Path, to: &Path) -> Result<()> {
        let folder = from.join(below);
        let list =
            || -> io::Result<Vec<_>> { fs::read_dir(&folder)?.map(|entry| Ok(entry?.file_name())).collect() };
        let mut names = list().map_err(Error::file("list", &folder))?;
        names.sort_unstable();
        for name in names {
            let path = below.join(name);
            let text = path.to_string_lossy().into_owned();
            let full = from.join(&path);
            let is_folder = full.symlink_metadata().is_ok_and(|meta| meta.is_dir());
            let wanted =
                (self.include.is_empty() || self.include.matches(&text)) && !self.exclude.matches(&text);
            if wanted {
                self.entry(&full, &path, to.join(&path))?;
            }
            if is_folder && (wanted || self.exclude.has_exclusions() || self.include.may_match_below(&text)) {
                self.content(from, &path, to)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, full: &Path, _below: &Path, target: PathBuf) -> Result<()> {
        let Some((mut entry, meta)) = describe(full, target)? else { return Ok(()) };
        if let Some(owner) = self.owner {
            (entry.uid, entry.gid) = (owner.uid, owner.gid);
        }
        entry.mode = self.chmod.apply(entry.mode, meta.is_dir());
        entry.mtime = self.time.unwrap_or(entry.mtime);
        match meta.is_file() {
            true => {
                let mut file = File::open(full).map_err(Error::file("open", full))?;
                self.writer.entry(&entry, &mut file)
            }
            false => self.writer.entry(&entry, &mut io::empty()),
        }
    }

    /// Unpacks a tar archive into a folder, whatever it is compressed with; false if the file is none.
    fn unpack(&mut self, full: &Path, root: &Path, target: &Path) -> Result<bool> {
        let open = || -> io::Result<Box<dyn Read + Send>> { compress::reader(File::open(full)?) };
        let mut head = [0; 512];
        let read = open().and_then(|mut stream| stream.read_exact(&mut head));
        if read.is_err() || &head[257..262] != b"ustar" {
            return Ok(false);
        }
        let folder = root.join(target);
        make_parents(root, &target.join("x"), self.owner, Time::default())?;
        let mut writer = DirectoryWriter::new(&folder, Whiteouts::Refuse)?;
        apply_tar(open().map_err(Error::file("open", full))?, &mut writer)?;
        Ok(true)
    }
}
