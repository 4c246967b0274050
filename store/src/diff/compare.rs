//! Compare: two trees, walked side by side in the order of their names.
//!
//! What is new or changed comes with its parents before it, what is gone as a whiteout. Used where no upper folder tells the difference.
//!
//! # Invariants
//! The same file (device and inode) is never read. A folder of which only the time changed is not reported. Where a time has no fraction
//! on either side (it came from a tar, which cuts it off) the contents decide.

use std::{
    collections::{BTreeSet, HashMap},
    ffi::OsString,
    fs::{self, File, Metadata},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::{
    error::{Error, Result},
    layer::{Entry, EntryKind, Time, describe},
};

/// Gets every entry of the difference, with a reader of its bytes if it is a file.
type Take<'a> = &'a mut dyn FnMut(&Entry, &mut dyn Read) -> Result<()>;
/// What lies at a path.
type Found = Option<(Entry, Metadata)>;

/// Bytes read at once when contents are compared.
const CHUNK: usize = 64 << 10;

/// Gives `take` what makes the tree `left` the tree `right`.
pub(super) fn compare(left: PathBuf, right: PathBuf, take: Take<'_>) -> Result<()> {
    let mut walk = Walk { left, right, parents: Vec::new(), names: HashMap::new(), take };
    walk.folder(Path::new(""), true, true)
}

struct Walk<'a> {
    left: PathBuf,
    right: PathBuf,
    /// Folders on the way that were not given yet: they are, once something in them is.
    parents: Vec<Entry>,
    /// First name of a file with several.
    names: HashMap<(u64, u64), PathBuf>,
    take: Take<'a>,
}

impl Walk<'_> {
    /// A folder that exists on one side or on both.
    fn folder(&mut self, path: &Path, in_left: bool, in_right: bool) -> Result<()> {
        let mut names = BTreeSet::new();
        for (root, there) in [(&self.left, in_left), (&self.right, in_right)] {
            if there {
                names.extend(list(&root.join(path))?);
            }
        }
        for name in names {
            let child = path.join(&name);
            let before = if in_left { found(&self.left, &child)? } else { None };
            let after = if in_right { found(&self.right, &child)? } else { None };
            self.entry(child, before, after)?;
        }
        Ok(())
    }

    fn entry(&mut self, path: PathBuf, before: Found, after: Found) -> Result<()> {
        let Some((entry, meta)) = after else {
            return match before {
                Some((entry, _)) => {
                    let gone = Entry { kind: EntryKind::Whiteout, ..entry };
                    self.give(&gone, &mut io::empty())
                }
                None => Ok(()),
            };
        };
        let same = match &before {
            Some((old, old_meta)) => self.is_same(old, old_meta, &entry, &meta)?,
            None => false,
        };
        if !meta.is_dir() {
            return if same { Ok(()) } else { self.changed(entry, &meta) };
        }
        let was_folder = before.is_some_and(|(_, meta)| meta.is_dir());
        self.parents.push(entry);
        let depth = self.parents.len();
        if !same {
            self.give_parents()?;
        }
        self.folder(&path, was_folder, true)?;
        if self.parents.len() == depth {
            self.parents.pop();
        }
        Ok(())
    }

    /// Something new that is not a folder.
    fn changed(&mut self, mut entry: Entry, meta: &Metadata) -> Result<()> {
        if meta.nlink() > 1 {
            let file = (meta.dev(), meta.ino());
            match self.names.get(&file) {
                Some(first) => entry.kind = EntryKind::Hardlink(first.clone()),
                None => drop(self.names.insert(file, entry.path.clone())),
            }
        }
        match entry.kind {
            EntryKind::File { .. } => {
                let full = self.right.join(&entry.path);
                let mut file = File::open(&full).map_err(Error::file("open", &full))?;
                self.give(&entry, &mut file)
            }
            _ => self.give(&entry, &mut io::empty()),
        }
    }

    fn give(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<()> {
        self.give_parents()?;
        (self.take)(entry, data)
    }

    fn give_parents(&mut self) -> Result<()> {
        for parent in std::mem::take(&mut self.parents) {
            (self.take)(&parent, &mut io::empty())?;
        }
        Ok(())
    }

    fn is_same(&self, old: &Entry, old_meta: &Metadata, new: &Entry, new_meta: &Metadata) -> Result<bool> {
        if (old_meta.dev(), old_meta.ino()) == (new_meta.dev(), new_meta.ino()) {
            return Ok(true);
        }
        let plain = |entry: &Entry| Entry { mtime: Time::default(), ..entry.clone() };
        if plain(old) != plain(new) {
            return Ok(false);
        }
        if new_meta.is_dir() {
            return Ok(true);
        }
        let cut = old.mtime.nanos == 0 || new.mtime.nanos == 0;
        if old.mtime.seconds != new.mtime.seconds || (!cut && old.mtime.nanos != new.mtime.nanos) {
            return Ok(false);
        }
        match new.kind {
            EntryKind::File { size } if size > 0 && cut => {
                same_bytes(&self.left.join(&old.path), &self.right.join(&new.path))
            }
            _ => Ok(true),
        }
    }
}

/// What lies at a path; a mark that something was removed is nothing, an opaque folder a folder.
fn found(root: &Path, path: &Path) -> Result<Found> {
    let full = root.join(path);
    if matches!(fs::symlink_metadata(&full), Err(error) if error.kind() == io::ErrorKind::NotFound) {
        return Ok(None);
    }
    Ok(match describe(&full, path.to_owned())? {
        Some((entry, _)) if entry.kind == EntryKind::Whiteout => None,
        Some((entry, meta)) if entry.kind == EntryKind::OpaqueDirectory => {
            Some((Entry { kind: EntryKind::Directory, ..entry }, meta))
        }
        found => found,
    })
}

fn list(folder: &Path) -> Result<Vec<OsString>> {
    let entries = fs::read_dir(folder).map_err(Error::file("list", folder))?;
    entries.map(|entry| entry.map(|entry| entry.file_name()).map_err(Error::file("list", folder))).collect()
}

fn same_bytes(left: &Path, right: &Path) -> Result<bool> {
    let open = |path: &Path| File::open(path).map_err(Error::file("open", path));
    let (mut one, mut two) = (open(left)?, open(right)?);
    let (mut a, mut b) = (vec![0; CHUNK], vec![0; CHUNK]);
    loop {
        let (n, m) = (fill(&mut one, &mut a), fill(&mut two, &mut b));
        let (n, m) = (n.map_err(Error::file("read", left))?, m.map_err(Error::file("read", right))?);
        if a[..n] != b[..m] {
            return Ok(false);
        }
        if n == 0 {
            return Ok(true);
        }
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(n) => length += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}
