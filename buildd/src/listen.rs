//! Listeners: unix sockets, mode 0660.
//!
//! # Invariants
//! A socket file is replaced only if nobody answers on it; the file is removed again when the daemon leaves, if it is still ours.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net::UnixStream,
    },
    path::{Path, PathBuf},
    time::SystemTime,
};

use buildd_fs::path::through;
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
    /// What lies there is not a socket that we left.
    #[error("listen on {}: what lies there is not a socket of ours: remove it, or name another place", path.display())]
    Taken {
        /// The place.
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
    made: SocketIdentity,
}

/// Tells a file from another that has got its number after it.
#[derive(Debug, PartialEq, Eq)]
struct SocketIdentity {
    inode: u64,
    born: Option<SystemTime>,
}

impl SocketIdentity {
    fn of(found: &fs::Metadata) -> Self {
        Self { inode: found.ino(), born: found.created().ok() }
    }
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
    let listener = bind(&path).map_err(fail("listen on"))?;
    let made = SocketIdentity::of(&fs::symlink_metadata(&path).map_err(fail("look at"))?);
    Ok((listener, Socket { path, made }))
}

/// Binds in a folder that only we can reach, and moves the socket to its place when its mode is right: nobody can connect before, whatever the
/// umask is (API-01).
fn bind(path: &Path) -> io::Result<UnixListener> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let private = tempfile::Builder::new().prefix(".buildd-").tempdir_in(parent)?;
    let folder = fs::File::open(private.path())?;
    // By the descriptor: an address has room for 107 bytes only, which `path` itself may fill.
    let listener = UnixListener::bind(through(&folder).join("socket"))?;
    let made = private.path().join("socket");
    fs::set_permissions(&made, fs::Permissions::from_mode(SOCKET_MODE))?;
    fs::rename(made, path)?;
    Ok(listener)
}

fn remove_stale(path: &Path) -> Result<(), ListenError> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() || found.uid() != rustix::process::geteuid().as_raw() {
        return Err(ListenError::Taken { path: path.to_owned() });
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
        if fs::symlink_metadata(&self.path).is_ok_and(|found| SocketIdentity::of(&found) == self.made) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests;
