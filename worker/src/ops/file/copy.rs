//! Copy: files of one tree into another, as COPY and ADD do it.
//!
//! The source is only read, its links followed inside it; the target is written through a `LayerWriter`, which never
//! leaves its root. A folder's content is copied, not the folder; a target that ends in a slash is a folder.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use buildd_api::buildkit::pb;
use buildd_fs::{
    nearest::nearest,
    path::{Follow, open_in_root, open_root, resolve},
    pattern::Patterns,
};
use buildd_oci::compress;
use buildd_store::{
    chunks,
    layer::{DirectoryWriter, Entry, LayerWriter, Time, Whiteouts, apply_tar},
    snapshot::{Draft, Present},
};
use rustix::fs::{Mode, OFlags};

use super::{act::Owner, mode::Chmod};
use crate::{
    checksum::{Selection, find, patterns},
    error::{Error, Result},
    listing::{ListedEntry, Listing},
};

/// Names beside a missing source that are looked at for the message.
const MAX_NEIGHBOURS: usize = 10_000;

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
    let job = Job {
        owner: None,
        chmod: Chmod::Keep,
        time: None,
        include: Patterns::default(),
        exclude: Patterns::default(),
    };
    let mut writer = DirectoryWriter::new(to, Whiteouts::Refuse)?;
    job.content(&mut writer, &Listing::folder(from), Path::new(""), Path::new(""))?;
    Ok(writer.finish()?)
}

/// Copies what the action selects.
pub(super) fn copy(
    action: &pb::FileActionCopy,
    source: &Listing,
    draft: &mut Draft,
    owner: Option<Owner>,
) -> Result<()> {
    let selection = selection(action);
    let found = find(&source.path(), &selection)?;
    let wildcard = action.allow_wildcard && action.src.contains(['*', '?', '[']);
    if found.is_empty() && !(wildcard && action.allow_empty_wildcard) {
        return Err(missing(&action.src, &source.path()));
    }
    let job = Job {
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
        job.one(action, source, path, draft)?;
    }
    Ok(draft.finish()?)
}

/// What a source that is not there may have meant: a name beside it, looked up below the root.
fn missing(src: &str, source: &Path) -> Error {
    let name = buildd_fs::path::clean(Path::new(src)).to_string_lossy().into_owned();
    let folder = Path::new(&name).parent().filter(|folder| !folder.as_os_str().is_empty());
    let listed = open_root(source).and_then(|root| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let folder = open_in_root(root.as_fd(), folder.unwrap_or(Path::new(".")), flags, Mode::empty())?;
        Ok(rustix::fs::Dir::read_from(folder)?)
    });
    let entries = listed.into_iter().flatten().flatten().take(MAX_NEIGHBOURS);
    let known: Vec<String> =
        entries.filter_map(|entry| entry.file_name().to_str().map(str::to_owned).ok()).collect();
    let last = name.rsplit('/').next().unwrap_or_default();
    Error::MissingSource { nearest: nearest(last, &known).map(str::to_owned), path: format!("/{name}") }
}

/// Makes the folders above `path` that are missing, with the owner of what is copied.
pub(super) fn make_parents(draft: &mut Draft, path: &Path, owner: Option<Owner>, time: Time) -> Result<()> {
    let mut above: Vec<&Path> = path.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()).collect();
    above.reverse();
    for folder in above {
        if draft.present(folder) == Present::Nothing {
            let mut entry = Entry::directory(folder.to_owned());
            entry.mtime = time;
            if let Some(owner) = owner {
                (entry.uid, entry.gid) = (owner.uid, owner.gid);
            }
            draft.entry(&entry, &mut io::empty())?;
        }
    }
    Ok(())
}

/// What a copy does to everything that it copies.
struct Job {
    owner: Option<Owner>,
    chmod: Chmod,
    time: Option<Time>,
    include: Patterns,
    exclude: Patterns,
}

impl Job {
    fn one(
        &self,
        action: &pb::FileActionCopy,
        source: &Listing,
        path: &Path,
        draft: &mut Draft,
    ) -> Result<()> {
        let full = source.path().join(path);
        let meta = full.symlink_metadata().map_err(Error::file("read", &full))?;
        let target = resolve(&draft.path(), Path::new(&action.dest), Follow::All)
            .map_err(Error::file("resolve", &action.dest))?;
        let folder = action.dest.ends_with('/')
            || action.dest.ends_with("/.")
            || draft.present(&target) == Present::Folder;
        let now = self.time.unwrap_or_default();
        if action.attempt_unpack_docker_compatibility
            && meta.is_file()
            && self.unpack(&full, draft, &target)?
        {
            return Ok(());
        }
        let base = Path::new(&action.src).file_name().map(PathBuf::from);
        let name = path.file_name().map(PathBuf::from).or(base).unwrap_or_default();
        let into =
            if meta.is_dir() && action.dir_copy_contents || !folder { target } else { target.join(name) };
        if action.create_dest_path {
            make_parents(draft, &into, self.owner, now)?;
        }
        if !meta.is_dir() || draft.present(&into) == Present::Nothing {
            source.one(path, &mut |found| self.entry(draft, found, &into))?;
        }
        if meta.is_dir() { self.content(draft, source, path, &into) } else { Ok(()) }
    }

    /// Copies what lies in the folder `from` of a tree.
    fn content(&self, writer: &mut dyn LayerWriter, tree: &Listing, from: &Path, to: &Path) -> Result<()> {
        tree.below(from, &self.include, &self.exclude, &mut |found| self.entry(writer, found, to))
    }

    fn entry(&self, writer: &mut dyn LayerWriter, found: ListedEntry<'_>, to: &Path) -> Result<()> {
        let (is_folder, external) = (found.is_folder(), found.external());
        let (mut entry, mut bytes) = found.open()?;
        entry.path = match entry.path.as_os_str().is_empty() {
            true => to.to_owned(),
            false => to.join(&entry.path),
        };
        if let Some(owner) = self.owner {
            (entry.uid, entry.gid) = (owner.uid, owner.gid);
        }
        entry.mode = self.chmod.apply(entry.mode, is_folder);
        entry.mtime = self.time.unwrap_or(entry.mtime);
        match external {
            Some(external) => writer.entry_external(&entry, &mut bytes, external)?,
            None => writer.entry(&entry, &mut bytes)?,
        }
        Ok(())
    }

    /// Unpacks a tar archive into a folder, whatever it is compressed with; false if the file is none.
    fn unpack(&self, full: &Path, draft: &mut Draft, target: &Path) -> Result<bool> {
        let growth = draft.growth();
        let open = || -> io::Result<Box<dyn Read + Send>> { compress::reader(File::open(full)?, growth) };
        let mut head = [0; 512];
        let read = open().and_then(|mut stream| stream.read_exact(&mut head));
        if read.is_err() || &head[257..262] != b"ustar" {
            return Ok(false);
        }
        make_parents(draft, &target.join("x"), self.owner, Time::default())?;
        let mut writer = draft.below(target)?;
        let archive = open().map_err(Error::file("open", full))?;
        apply_tar(chunks::of(archive), &mut *writer)?;
        Ok(true)
    }
}
