//! Listeners: unix sockets, mode 0660.
//!
//! # Invariants
//! A socket file is replaced only if nobody answers on it; the file is removed again when the daemon leaves, if it is still ours.

use std::{
    fs,
    os::unix::{fs::MetadataExt, fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
};

use tokio::net::UnixListener;

/// Who may use the daemon: its user and its group.
const SOCKET_MODE: u32 = 0o660;

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    /// Not an address of ours.
    #[error("listen on {address:?}: only unix:///path is supported")]
    Scheme {
        /// The address.
        address: String,
    },
    /// Another daemon has it.
    #[error("listen on {}: another daemon answers there", path.display())]
    Busy {
        /// The socket.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("{operation} {}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// A listening socket that removes its file when dropped.
#[derive(Debug)]
pub(crate) struct Socket {
    path: PathBuf,
    inode: u64,
}

/// Listens on an address.
pub(crate) fn listen(address: &str) -> Result<(UnixListener, Socket), ListenError> {
    let path = address
        .strip_prefix("unix://")
        .filter(|path| path.starts_with('/'))
        .map(PathBuf::from)
        .ok_or_else(|| ListenError::Scheme { address: address.to_owned() })?;
    let fail = |operation| {
        let path = path.clone();
        move |source| ListenError::File { operation, path, source }
    };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(fail("create the folder of socket"))?;
    }
    remove_stale(&path)?;
    let listener = UnixListener::bind(&path).map_err(fail("listen on"))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(SOCKET_MODE)).map_err(fail("set mode of"))?;
    let inode = fs::symlink_metadata(&path).map_err(fail("look at"))?.ino();
    Ok((listener, Socket { path, inode }))
}

fn remove_stale(path: &Path) -> Result<(), ListenError> {
    if fs::symlink_metadata(path).is_err() {
        return Ok(());
    }
    if UnixStream::connect(path).is_ok() {
        return Err(ListenError::Busy { path: path.to_owned() });
    }
    fs::remove_file(path).map_err(|source| ListenError::File {
        operation: "remove the stale socket",
        path: path.to_owned(),
        source,
    })
}

impl Drop for Socket {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}
