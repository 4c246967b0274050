//! Files: reads a file of a built tree for whoever asked by its path.

use std::{fs::File, io::Read, path::Path};

use buildd_fs::path::{open_in_root, open_root};
use rustix::fs::{Mode, OFlags};

use crate::error::{Error, Result};

/// Reads a file below a folder of the host, links resolved inside that; at most `limit` bytes, and only regular files.
pub fn read_below(root: &Path, path: &str, limit: usize) -> Result<Vec<u8>> {
    let fail = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::NotFound => Error::NotFound { what: "file", name: path.to_owned() },
        _ => Error::File { operation: "read", path: path.into(), source },
    };
    let root = open_root(root).map_err(fail)?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let file = File::from(
        open_in_root(std::os::fd::AsFd::as_fd(&root), Path::new(path), flags, Mode::empty()).map_err(fail)?,
    );
    let meta = file.metadata().map_err(fail)?;
    if !meta.is_file() {
        let reason = "it is not a regular file".to_owned();
        return Err(Error::Invalid { what: "file", name: path.to_owned(), reason });
    }
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() > limit {
        return Err(Error::TooLarge { path: path.to_owned(), limit });
    }
    Ok(bytes)
}
