//! Files of a built tree or of a container's mount, for frontends.
//!
//! Paths resolve inside the tree, links included; sizes are bounded.

use std::{io, os::unix::fs::MetadataExt as _, path::Path, sync::Arc};

use buildd_api::{buildkit::fsutil::types::Stat, file_sync::stat::from_metadata};
use buildd_fs::{
    path::{Follow, resolve},
    pattern::Patterns,
};
use buildd_solver::result::OpResult;
use buildd_worker::{files::read_below, sandbox::Sandbox};
use tonic::Status;

use crate::{status, worker::Worker};

/// Bytes of a file that one message can carry.
const MAX_FILE: usize = 16 * 1000 * 1000;

/// What is looked into.
#[derive(Debug, Clone)]
pub(crate) enum ReadTarget {
    /// A built tree; None is the empty one.
    Tree(Arc<Worker>, Option<OpResult>),
    /// A mount of a frontend's container, by its number.
    Mount(Arc<Sandbox>, usize),
}

impl ReadTarget {
    /// A whole file; one that is larger than `limit` bytes is refused.
    pub(crate) async fn read(&self, path: &str, limit: usize) -> Result<Vec<u8>, Status> {
        let name = path.to_owned();
        let read = self.with(move |root| read_below(root, &name, limit)).await?;
        read.map_err(|error| status::of(&error))
    }

    /// A file, or the part of it that starts at an offset.
    pub(crate) async fn read_range(&self, path: &str, range: Option<(i64, i64)>) -> Result<Vec<u8>, Status> {
        let mut data = self.read(path, MAX_FILE).await?;
        if let Some((offset, length)) = range {
            let at = |n: i64| usize::try_from(n).unwrap_or_default();
            data.drain(..at(offset).min(data.len()));
            if length > 0 {
                data.truncate(at(length));
            }
        }
        Ok(data)
    }

    /// The entries of a folder whose names match a pattern; all, if it is empty.
    pub(crate) async fn list(&self, path: &str, pattern: &str) -> Result<Vec<Stat>, Status> {
        let names =
            Patterns::from_list(&[pattern]).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let list = move |folder: &Path| -> io::Result<Vec<Stat>> {
            let mut stats = Vec::new();
            for entry in std::fs::read_dir(folder)? {
                let entry = entry?;
                let Ok(name) = entry.file_name().into_string() else { continue };
                if names.is_empty() || names.matches(&name) {
                    stats.push(stat_of(&entry.path(), &name)?);
                }
            }
            stats.sort_by(|a, b| a.path.cmp(&b.path));
            Ok(stats)
        };
        self.look(path, Follow::All, list).await
    }

    /// One entry; a link is not followed.
    pub(crate) async fn stat(&self, path: &str) -> Result<Stat, Status> {
        let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
        self.look(path, Follow::Parents, move |full| stat_of(full, &name)).await
    }

    /// The time of the newest file or link, in seconds since 1970; folders are as new as their copy.
    pub(crate) async fn newest(&self) -> Result<Option<i64>, Status> {
        self.look("/", Follow::All, newest).await
    }

    /// Looks at a path, resolved inside the place.
    async fn look<T: Send + 'static>(
        &self,
        path: &str,
        follow: Follow,
        look: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, Status> {
        let name = path.to_owned();
        let found = self.with(move |root| {
            resolve(root, Path::new(&name), follow).and_then(|found| look(&root.join(found)))
        });
        found.await?.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Status::not_found(format!("{path}: not found")),
            _ => Status::unknown(format!("{path}: {error}")),
        })
    }

    /// Gives `work` the place as a folder of the host.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> T + Send + 'static,
    ) -> Result<T, Status> {
        match self.clone() {
            Self::Tree(worker, tree) => {
                let read = move || worker.reading(tree.as_ref()).map(|reading| work(&reading.path()));
                buildd_fs::blocking::run(read).await.map_err(|error| status::of(&error))
            }
            Self::Mount(sandbox, index) => {
                sandbox.look(index, work).await.map_err(|error| status::of(&error))
            }
        }
    }
}

fn newest(root: &Path) -> io::Result<Option<i64>> {
    let (mut newest, mut folders) = (None, vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => folders.push(entry.path()),
                false => newest = newest.max(Some(entry.metadata()?.mtime())),
            }
        }
    }
    Ok(newest)
}

fn stat_of(full: &Path, name: &str) -> io::Result<Stat> {
    let meta = full.symlink_metadata()?;
    let link =
        if meta.is_symlink() { Some(std::fs::read_link(full)?.to_string_lossy().into_owned()) } else { None };
    Ok(from_metadata(name, &meta, link.as_deref()))
}
