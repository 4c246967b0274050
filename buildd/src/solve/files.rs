//! Files of a built tree, for frontends.
//!
//! Paths resolve inside the tree, links included; sizes are bounded.

use buildd_api::buildkit::fsutil::types::Stat;
use buildd_solver::result::OpResult;
use tonic::Status;

use crate::worker::Worker;

/// Bytes of a file that one message can carry.
const MAX_FILE: usize = 16 * 1000 * 1000;

/// A whole file.
pub(crate) async fn read(_: &Worker, _: Option<&OpResult>, _: &str, _: usize) -> Result<Vec<u8>, Status> {
    Err(Status::unimplemented("no worker yet"))
}

/// A file, or the part of it that starts at an offset.
pub(crate) async fn read_range(
    worker: &Worker,
    tree: Option<&OpResult>,
    path: &str,
    range: Option<(i64, i64)>,
) -> Result<Vec<u8>, Status> {
    let mut data = read(worker, tree, path, MAX_FILE).await?;
    if let Some((offset, length)) = range {
        let at = |n: i64| usize::try_from(n).unwrap_or_default();
        data.drain(..at(offset).min(data.len()));
        if length > 0 {
            data.truncate(at(length));
        }
    }
    Ok(data)
}

/// The entries of a folder.
pub(crate) async fn list(_: &Worker, _: Option<&OpResult>, _: &str, _: &str) -> Result<Vec<Stat>, Status> {
    Err(Status::unimplemented("no worker yet"))
}

/// One entry.
pub(crate) async fn stat(_: &Worker, _: Option<&OpResult>, _: &str) -> Result<Stat, Status> {
    Err(Status::unimplemented("no worker yet"))
}
