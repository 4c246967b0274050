//! Folder: a client's files in a folder. Those of an earlier tree are linked.

use std::{
    collections::HashMap,
    fs::File,
    io::Write,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use buildd_fs::path::{open_in_root, open_root};
use buildd_store::{
    error::{Error, Result},
    layer::{DirectoryWriter, Entry, EntryKind, Extent, LayerWriter as _, Time, Whiteouts},
};
use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps};

use super::{Known, SyncedTree, TreeStore};

/// A folder in the making.
#[derive(Debug)]
pub(super) struct FolderStore {
    root: PathBuf,
    writer: DirectoryWriter,
    /// Files whose bytes come, opened with the first of them.
    open: HashMap<u32, (PathBuf, Option<File>)>,
    times: Vec<(PathBuf, Time)>,
}

impl FolderStore {
    pub(super) fn new(root: &Path) -> Result<Self> {
        let writer = DirectoryWriter::new(root, Whiteouts::Refuse)?;
        Ok(Self { root: root.to_owned(), writer, open: HashMap::new(), times: Vec::new() })
    }

    fn open(&self, path: &Path, flags: OFlags) -> std::io::Result<File> {
        let root = open_root(&self.root)?;
        open_in_root(root.as_fd(), path, flags | OFlags::NOFOLLOW, Mode::empty()).map(File::from)
    }
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> Error {
    move |source| Error::Apply { entry: path.display().to_string(), source }
}

impl TreeStore for FolderStore {
    fn make(&mut self, entry: &Entry) -> Result<()> {
        self.writer.entry(entry, &mut std::io::empty())
    }

    fn reuse(&mut self, earlier: &SyncedTree, known: &Known) -> Result<Option<Extent>> {
        let path = &known.entry.path;
        let (from, to) = (open_root(&earlier.place), open_root(&self.root));
        let (from, to) = (from.map_err(failed(path))?, to.map_err(failed(path))?);
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let name = path.file_name().unwrap_or_default();
        let folder = |root: &std::os::fd::OwnedFd| {
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            open_in_root(root.as_fd(), parent.unwrap_or(Path::new(".")), flags, Mode::empty())
        };
        let (from, to) = (folder(&from).map_err(failed(path))?, folder(&to).map_err(failed(path))?);
        // Gone, or linked too often: then the bytes must come again.
        let missing = |_| Error::NotFound { what: "earlier copy of", name: path.display().to_string() };
        rustix::fs::linkat(&from, name, &to, name, AtFlags::empty()).map_err(missing)?;
        Ok(None)
    }

    fn begin(&mut self, id: u32, entry: &Entry) -> Result<()> {
        self.times.push((entry.path.clone(), entry.mtime));
        self.open.insert(id, (entry.path.clone(), None));
        self.make(&Entry { kind: EntryKind::File { size: 0 }, ..entry.clone() })
    }

    fn write(&mut self, id: u32, data: &[u8]) -> Result<()> {
        let Some((path, file)) = self.open.remove(&id) else { return Ok(()) };
        let open = || self.open(&path, OFlags::WRONLY | OFlags::APPEND);
        let written = file.map_or_else(open, Ok).and_then(|mut file| file.write_all(data).map(|()| file));
        let file = written.map_err(failed(&path))?;
        self.open.insert(id, (path, Some(file)));
        Ok(())
    }

    fn end(&mut self, id: u32) -> Result<Option<Extent>> {
        self.open.remove(&id);
        Ok(None)
    }

    fn finish(&mut self) -> Result<()> {
        self.open.clear();
        for (path, mtime) in &self.times {
            let time = Timespec { tv_sec: mtime.seconds, tv_nsec: i64::from(mtime.nanos) };
            let set = || -> std::io::Result<()> {
                let file = self.open(path, OFlags::RDONLY)?;
                Ok(rustix::fs::futimens(&file, &Timestamps { last_access: time, last_modification: time })?)
            };
            set().map_err(failed(path))?;
        }
        self.writer.finish()
    }
}
