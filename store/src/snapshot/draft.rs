//! Draft: a layer that file operations make, on top of a stack: looked at as a tree, written as entries.
//!
//! Where layers are folders the tree is an overlay and entries go straight into it. Where they are files the overlay is only what names are
//! looked up in: the kernel resolves links in it as in any container, and it gets the folders and links of the draft, while files go into the
//! layer file alone. A folder of the stack that something is put into goes into the layer first, as it is there.
//!
//! # Invariants
//! Entries name paths below the folder they are written to; no link leads out of it.

use std::{
    collections::HashSet,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use buildd_fs::path::{Follow, resolve};
use buildd_oci::compress::Growth;

use super::{Active, Scratch, SnapshotId, SnapshotPin, Snapshots};
use crate::{
    error::{Error, Result},
    layer::{
        DirectoryWriter, Entry, EntryKind, ExternalBytes, LayerFileWriter, LayerWriter, Whiteouts, broken,
        describe,
    },
};

/// A layer in the making.
#[derive(Debug)]
pub struct Draft {
    folders: DirectoryWriter,
    file: Option<FileDraft>,
    active: Active,
}

/// What a draft is besides its tree, if it becomes a layer file.
#[derive(Debug)]
struct FileDraft {
    writer: LayerFileWriter,
    scratch: Scratch,
    /// The folder that was written into last, as it was named and where it is.
    last: Option<(PathBuf, PathBuf)>,
    /// Folders of the stack that a file took the place of.
    replaced: HashSet<PathBuf>,
    /// Folders that the stack has not: nothing is in them but what the draft itself put there.
    fresh: HashSet<PathBuf>,
}

/// What there is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Present {
    /// Nothing.
    Nothing,
    /// A folder.
    Folder,
    /// Something else.
    Other,
}

impl Snapshots {
    /// Begins a layer above `parent`, in the form of new layers.
    pub fn draft(self: &Arc<Self>, parent: Option<SnapshotId>) -> Result<Draft> {
        let mut draft = self.folder_draft(parent)?;
        if self.form.files {
            let scratch = self.scratch_file();
            let writer = LayerFileWriter::new(scratch.path())?;
            let (replaced, fresh) = (HashSet::new(), HashSet::new());
            draft.file = Some(FileDraft { writer, scratch, last: None, replaced, fresh });
        }
        Ok(draft)
    }

    /// The same as a folder, whatever the form of new layers: what the draft removes must leave its tree.
    pub fn folder_draft(self: &Arc<Self>, parent: Option<SnapshotId>) -> Result<Draft> {
        let active = self.active_here(parent)?;
        let folders = DirectoryWriter::new(&active.path(), Whiteouts::Refuse)?;
        Ok(Draft { folders, file: None, active })
    }
}

impl Draft {
    /// What a compressed archive that is unpacked into it may become.
    pub fn growth(&self) -> Growth {
        self.active.snapshots.growth
    }

    /// The tree in which paths are looked up; files of the draft itself may be missing from it.
    pub fn path(&self) -> PathBuf {
        self.active.path()
    }

    /// What there is at a path whose links are resolved.
    pub fn present(&self, path: &Path) -> Present {
        if let Some(folder) = self.file.as_ref().and_then(|file| file.writer.is_folder(path)) {
            return if folder { Present::Folder } else { Present::Other };
        }
        match self.path().join(path).symlink_metadata() {
            Ok(meta) if meta.is_dir() => Present::Folder,
            Ok(_) => Present::Other,
            Err(_) => Present::Nothing,
        }
    }

    /// Writes below a folder whose links are resolved; links in it are resolved inside it.
    pub fn below(&mut self, folder: &Path) -> Result<Box<dyn LayerWriter + '_>> {
        match &mut self.file {
            Some(file) => {
                file.last = None;
                Ok(Box::new(Below { folder: folder.to_owned(), draft: self }))
            }
            None => Ok(Box::new(DirectoryWriter::new(&self.path().join(folder), Whiteouts::Refuse)?)),
        }
    }

    /// Makes what was written the next layer.
    pub fn commit(self) -> Result<SnapshotPin> {
        let Self { folders, file, active } = self;
        drop(folders);
        let Some(FileDraft { mut writer, scratch, .. }) = file else { return active.commit() };
        writer.finish()?;
        active.snapshots.commit_folder(active.parent, scratch.path(), writer.diff_id())
    }

    fn write(
        &mut self,
        base: &Path,
        entry: &Entry,
        data: &mut dyn Read,
        lies: Option<ExternalBytes<'_>>,
    ) -> Result<()> {
        let tree = self.path();
        let Some(file) = &mut self.file else { return self.folders.entry(entry, data) };
        let Some(name) = entry.path.file_name() else { return Ok(()) };
        let shown = || entry.path.display().to_string();
        if matches!(entry.kind, EntryKind::Whiteout | EntryKind::Opaque) {
            return Err(broken(shown(), "a whiteout has no place in this archive"));
        }
        let parent = entry.path.parent().unwrap_or(Path::new(""));
        let folder = file.folder(&tree, base, parent, &mut self.folders)?;
        let mut entry = Entry { path: folder.join(name), ..entry.clone() };
        match &entry.kind {
            EntryKind::Hardlink(target) => {
                let target = base.join(locate(&tree.join(base), target, Follow::Parents)?);
                file.folder(
                    &tree,
                    Path::new(""),
                    target.parent().unwrap_or(Path::new("")),
                    &mut self.folders,
                )?;
                file.take(&tree, &target)?;
                entry.kind = EntryKind::Hardlink(target);
                file.clear(&tree, &entry.path)?;
            }
            EntryKind::Directory | EntryKind::OpaqueDirectory => {
                if tree.join(&entry.path).symlink_metadata().is_err() {
                    file.fresh.insert(entry.path.clone());
                }
                self.folders.entry(&entry, &mut io::empty())?;
                if file.replaced.contains(&entry.path) {
                    entry.kind = EntryKind::OpaqueDirectory;
                }
            }
            EntryKind::Symlink(_) => self.folders.entry(&entry, &mut io::empty())?,
            _ => file.clear(&tree, &entry.path)?,
        }
        if !matches!(entry.kind, EntryKind::File { .. }) {
            file.last = None;
        }
        match lies {
            Some(lies) => file.writer.entry_external(&entry, data, lies),
            None => file.writer.entry(&entry, data),
        }
    }
}

impl LayerWriter for Draft {
    fn entry(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<()> {
        self.write(Path::new(""), entry, data, None)
    }

    fn entry_external(&mut self, entry: &Entry, data: &mut dyn Read, lies: ExternalBytes<'_>) -> Result<()> {
        self.write(Path::new(""), entry, data, Some(lies))
    }

    /// The layer ends with its commit; folders get their times.
    fn finish(&mut self) -> Result<()> {
        self.folders.finish()
    }
}

struct Below<'a> {
    folder: PathBuf,
    draft: &'a mut Draft,
}

impl LayerWriter for Below<'_> {
    fn entry(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<()> {
        self.draft.write(&self.folder, entry, data, None)
    }

    fn finish(&mut self) -> Result<()> {
        self.draft.finish()
    }
}

impl FileDraft {
    /// The folder `parent` below `base` with all links resolved, made where it is missing, and in the layer with all above it.
    fn folder(
        &mut self,
        tree: &Path,
        base: &Path,
        parent: &Path,
        folders: &mut DirectoryWriter,
    ) -> Result<PathBuf> {
        let named = base.join(parent);
        if let Some((last, place)) = &self.last
            && *last == named
        {
            return Ok(place.clone());
        }
        let place = base.join(locate(&tree.join(base), parent, Follow::All)?);
        let mut above: Vec<&Path> = place.ancestors().filter(|path| !path.as_os_str().is_empty()).collect();
        above.reverse();
        for folder in above {
            match self.writer.is_folder(folder) {
                Some(true) => continue,
                Some(false) => return Err(broken(folder.display().to_string(), "it is not a folder")),
                None => {}
            }
            let full = tree.join(folder);
            let entry = match full.symlink_metadata() {
                Ok(meta) if meta.is_dir() => describe(&full, folder.to_owned())?.map(|(entry, _)| entry),
                Ok(_) => return Err(broken(folder.display().to_string(), "it is not a folder")),
                Err(_) if dangles(&tree.join(base), parent)? => {
                    return Err(broken(parent.display().to_string(), "its parent is a dangling link"));
                }
                Err(_) => {
                    let made = Entry::directory(folder.to_owned());
                    folders.entry(&made, &mut io::empty())?;
                    self.fresh.insert(folder.to_owned());
                    Some(made)
                }
            };
            if let Some(entry) = entry {
                self.writer.entry(&entry, &mut io::empty())?;
            }
        }
        self.last = Some((named, place.clone()));
        Ok(place)
    }

    /// Takes a file of the stack into the layer, so that it can be linked to.
    fn take(&mut self, tree: &Path, path: &Path) -> Result<()> {
        if self.writer.is_folder(path).is_some() {
            return Ok(());
        }
        let full = tree.join(path);
        match describe(&full, path.to_owned()) {
            Ok(Some((entry, meta))) if meta.is_file() => {
                let mut data = fs::File::open(&full).map_err(Error::file("open", &full))?;
                self.writer.entry(&entry, &mut data)
            }
            Ok(Some((entry, meta))) if !meta.is_dir() => self.writer.entry(&entry, &mut io::empty()),
            _ => Err(broken(path.display().to_string(), "a hard link names it and it is not there")),
        }
    }

    /// Takes out of the tree what something that is not in it takes the place of.
    fn clear(&mut self, tree: &Path, path: &Path) -> Result<()> {
        let fresh = path.parent().is_some_and(|folder| self.fresh.contains(folder));
        if fresh && self.writer.is_folder(path).is_none() {
            return Ok(());
        }
        let full = tree.join(path);
        let Ok(meta) = full.symlink_metadata() else { return Ok(()) };
        if meta.is_dir() {
            self.replaced.insert(path.to_owned());
            fs::remove_dir_all(&full).map_err(Error::file("replace", &full))?;
        } else if meta.is_symlink() {
            fs::remove_file(&full).map_err(Error::file("replace", &full))?;
        }
        Ok(())
    }
}

/// Whether a part of a path is a link to nothing.
fn dangles(root: &Path, path: &Path) -> Result<bool> {
    for part in path.ancestors() {
        let is_link = root.join(locate(root, part, Follow::Parents)?).is_symlink();
        if is_link && root.join(locate(root, part, Follow::All)?).symlink_metadata().is_err() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn locate(root: &Path, path: &Path, follow: Follow) -> Result<PathBuf> {
    resolve(root, path, follow).map_err(Error::file("resolve", path))
}

#[cfg(test)]
mod tests;
