//! Listing: a tree that is read entry by entry, to be hashed or copied.
//!
//! Checksums and copies ask it what lies below a folder. A stack is read through its mounts. Of a client's files each entry is known, and
//! where its bytes lie in their layer file: to open them one by one would cost ten times what reading that file does.
//!
//! # Invariants
//! Both ways give the same entries in the same order: of paths, component by component. What a pattern leaves out is never opened.

mod client;

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use blake3::Hasher;
use buildd_fs::pattern::Patterns;
use buildd_store::{
    layer::{Entry, EntryKind, ExternalBytes, describe},
    snapshot::Reading,
};

use self::client::{ClientFiles, Part};
use crate::{
    content_digest::ContentHash,
    error::{Error, Result},
    session::SyncedTree,
};

/// A tree to read.
#[derive(Debug)]
pub(crate) struct Listing {
    tree: Tree,
    client: Option<ClientFiles>,
}

#[derive(Debug)]
enum Tree {
    Folder(PathBuf),
    Stack(Reading),
}

/// An entry, named as it lies below the folder that was listed; empty is that folder itself.
#[derive(Debug)]
pub(crate) struct ListedEntry<'a> {
    pub(crate) entry: Entry,
    bytes: Bytes<'a>,
}

/// Where the bytes of a file are.
#[derive(Debug)]
enum Bytes<'a> {
    /// In the file with this path.
    At(PathBuf),
    /// In a client's layer file; their digest is known since they came.
    Part(Part<'a>, Option<ContentHash>),
}

/// Takes entries as they are found.
type Take<'a> = dyn FnMut(ListedEntry<'_>) -> Result<()> + 'a;

impl Listing {
    /// A folder on the disk.
    pub(crate) fn folder(path: &Path) -> Self {
        Self { tree: Tree::Folder(path.to_owned()), client: None }
    }

    /// A stack; `synced` is what is known of it if a client sent it.
    pub(crate) fn stack(reading: Reading, synced: Option<Arc<SyncedTree>>) -> Result<Self> {
        let client = synced.map(ClientFiles::open).transpose()?.flatten();
        Ok(Self { tree: Tree::Stack(reading), client })
    }

    /// Its root, to look paths up in.
    pub(crate) fn path(&self) -> PathBuf {
        match &self.tree {
            Tree::Folder(path) => path.clone(),
            Tree::Stack(reading) => reading.path(),
        }
    }

    /// What is at `path`, whose links are resolved, without its name; None for what no layer can have.
    pub(crate) fn one(&self, path: &Path, take: &mut Take<'_>) -> Result<()> {
        match &self.client {
            Some(client) => client.one(path, take),
            None if path.as_os_str().is_empty() => {
                // By a descriptor a folder shows as itself only with a slash behind, which nothing else may end in.
                let root = self.path();
                let root = if root.is_dir() { root.join("") } else { root };
                found(root, PathBuf::new(), take)
            }
            None => found(self.path().join(path), PathBuf::new(), take),
        }
    }

    /// What lies below the folder `path`, of it what `include` matches, if it has patterns, and `exclude` does not.
    pub(crate) fn below(
        &self,
        path: &Path,
        include: &Patterns,
        exclude: &Patterns,
        take: &mut Take<'_>,
    ) -> Result<()> {
        let wanted = ListingFilter { include, exclude };
        match &self.client {
            Some(client) => client.below(path, &wanted, take),
            None => walk(&self.path().join(path), Path::new(""), &wanted, take),
        }
    }
}

/// The patterns of a listing.
struct ListingFilter<'a> {
    include: &'a Patterns,
    exclude: &'a Patterns,
}

impl ListingFilter<'_> {
    fn has(&self, path: &Path) -> bool {
        if self.include.is_empty() && self.exclude.is_empty() {
            return true;
        }
        let text = path.to_string_lossy();
        (self.include.is_empty() || self.include.matches(&text)) && !self.exclude.matches(&text)
    }

    /// Whether something below a folder may be wanted that is not itself.
    fn may_have_below(&self, path: &Path) -> bool {
        self.exclude.has_exclusions() || self.include.may_match_below(&path.to_string_lossy())
    }
}

fn walk(root: &Path, path: &Path, wanted: &ListingFilter<'_>, take: &mut Take<'_>) -> Result<()> {
    let full = root.join(path);
    let list =
        || -> io::Result<Vec<_>> { fs::read_dir(&full)?.map(|entry| Ok(entry?.file_name())).collect() };
    let mut names = list().map_err(Error::file("list", &full))?;
    names.sort_unstable();
    for name in names {
        let child = path.join(name);
        let full = root.join(&child);
        let is_folder = full.symlink_metadata().is_ok_and(|meta| meta.is_dir());
        let has = wanted.has(&child);
        if has {
            found(full, child.clone(), take)?;
        }
        if is_folder && (has || wanted.may_have_below(&child)) {
            walk(root, &child, wanted, take)?;
        }
    }
    Ok(())
}

fn found(full: PathBuf, path: PathBuf, take: &mut Take<'_>) -> Result<()> {
    match describe(&full, path)? {
        Some((entry, _)) => take(ListedEntry { entry, bytes: Bytes::At(full) }),
        None => Ok(()),
    }
}

impl<'a> ListedEntry<'a> {
    /// Whether it is a folder.
    pub(crate) fn is_folder(&self) -> bool {
        matches!(self.entry.kind, EntryKind::Directory | EntryKind::OpaqueDirectory)
    }

    /// What stands for a file's bytes; None of anything else.
    pub(crate) fn digest(self) -> Result<Option<ContentHash>> {
        if !matches!(self.entry.kind, EntryKind::File { .. }) {
            return Ok(None);
        }
        if let Bytes::Part(_, Some(digest)) = &self.bytes {
            return Ok(Some(*digest));
        }
        let shown = self.entry.path.clone();
        let mut content = Hasher::new();
        let (_, bytes) = self.open()?;
        content.update_reader(bytes).map_err(Error::file("read", &shown))?;
        Ok(Some(content.finalize()))
    }

    /// Where its bytes lie, if they may stay there.
    pub(crate) fn external(&self) -> Option<ExternalBytes<'a>> {
        match &self.bytes {
            Bytes::Part(part, _) => part.external(),
            Bytes::At(_) => None,
        }
    }

    /// The entry and, if it is a file, its bytes.
    pub(crate) fn open(self) -> Result<(Entry, Box<dyn Read + 'a>)> {
        let bytes: Box<dyn Read + 'a> = match self.bytes {
            _ if !matches!(self.entry.kind, EntryKind::File { .. }) => Box::new(io::empty()),
            Bytes::At(path) => Box::new(File::open(&path).map_err(Error::file("open", &path))?),
            Bytes::Part(part, _) => Box::new(part),
        };
        Ok((self.entry, bytes))
    }
}

#[cfg(test)]
mod tests;
