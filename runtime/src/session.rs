//! Session: what the worker needs of the client whose build it works for.
//!
//! The daemon implements it over the client's connection; tests over folders.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use buildd_fs::path::{open_in_root, open_root};
use buildd_oci::ErrorKind;
use rustix::fs::{Mode, OFlags};

use crate::{
    error::{Error, Result},
    layer::{DirectoryWriter, Entry, EntryKind, Time, Whiteouts},
};

/// Something the client could not or would not do.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct SessionError {
    /// The class.
    pub kind: ErrorKind,
    /// What happened, with the client's own words.
    pub message: String,
}

/// Finds clients.
#[async_trait]
pub trait Sessions: Send + Sync + std::fmt::Debug {
    /// The first of these clients that is there, waiting a little for one to come.
    async fn any(&self, ids: &[String]) -> Result<Arc<dyn Session>, SessionError>;
}

/// Files that are wanted.
#[derive(Clone, Debug, Default)]
pub struct SyncRequest {
    /// Name of the client's folder: `context`, `dockerfile`, …
    pub name: String,
    /// Only what matches.
    pub include: Vec<String>,
    /// Not what matches.
    pub exclude: Vec<String>,
    /// Only these paths, and what their links point at.
    pub follow: Vec<String>,
}

/// One client.
#[async_trait]
pub trait Session: Send + Sync {
    /// Sends files into the sink and gives it back.
    async fn sync_files(&self, request: SyncRequest, sink: TreeSink) -> Result<TreeSink, SessionError>;
    /// A secret; None if the client has none of that id.
    async fn secret(&self, id: &str) -> Result<Option<Vec<u8>>, SessionError>;
    /// Streams an archive to exporter number `exporter` of the request.
    async fn send_tar(
        &self,
        exporter: usize,
        metadata: BTreeMap<String, String>,
        data: Box<dyn Read + Send>,
    ) -> Result<(), SessionError>;
    /// Sends a tree to exporter number `exporter` of the request.
    async fn send_tree(&self, exporter: usize, root: PathBuf) -> Result<(), SessionError>;
}

/// Takes a client's files into a folder of ours, in the order of the protocol: entries first, then the bytes of files.
#[derive(Debug)]
pub struct TreeSink {
    root: PathBuf,
    writer: DirectoryWriter,
    open: HashMap<PathBuf, File>,
    times: Vec<(PathBuf, Time)>,
}

impl TreeSink {
    /// Takes files into `root`, an empty folder.
    pub fn new(root: &Path) -> Result<Self> {
        let writer = DirectoryWriter::new(root, Whiteouts::Refuse)?;
        Ok(Self { root: root.to_owned(), writer, open: HashMap::new(), times: Vec::new() })
    }

    /// Makes an entry; a file is empty until it is written to.
    pub fn entry(&mut self, entry: &Entry) -> Result<()> {
        let mut entry = entry.clone();
        if let EntryKind::File { size } = &mut entry.kind {
            *size = 0;
            self.times.push((entry.path.clone(), entry.mtime));
        }
        self.writer.entry(&entry, &mut std::io::empty())
    }

    /// Appends to a file made before.
    pub fn write(&mut self, path: &Path, data: &[u8]) -> Result<()> {
        let fail = |source| Error::Apply { entry: path.display().to_string(), source };
        if !self.open.contains_key(path) {
            let root = open_root(&self.root).map_err(fail)?;
            let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW;
            let fd =
                open_in_root(std::os::fd::AsFd::as_fd(&root), path, flags, Mode::empty()).map_err(fail)?;
            self.open.insert(path.to_owned(), File::from(fd));
        }
        self.open.get_mut(path).expect("just opened").write_all(data).map_err(fail)
    }

    /// A file has all its bytes.
    pub fn close(&mut self, path: &Path) {
        self.open.remove(path);
    }

    /// All is there: sets the times.
    pub fn finish(mut self) -> Result<()> {
        self.open.clear();
        for (path, mtime) in &self.times {
            let fail = |source| Error::Apply { entry: path.display().to_string(), source };
            let root = open_root(&self.root).map_err(fail)?;
            let fd = open_in_root(
                std::os::fd::AsFd::as_fd(&root),
                path,
                OFlags::RDONLY | OFlags::NOFOLLOW,
                Mode::empty(),
            )
            .map_err(fail)?;
            let time = rustix::fs::Timespec { tv_sec: mtime.seconds, tv_nsec: i64::from(mtime.nanos) };
            rustix::fs::futimens(&fd, &rustix::fs::Timestamps { last_access: time, last_modification: time })
                .map_err(|error| fail(error.into()))?;
        }
        self.writer.finish()
    }
}
