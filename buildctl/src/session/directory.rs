//! Directory: a tree that the daemon sends (`type=local`), merged into a folder of ours.
//!
//! Existing files are replaced, others stay. A file appears under its name only when it is complete.
//!
//! # Invariants
//!
//! Nothing is written through a symbolic link of the received tree or of the folder: an entry's parents were announced as folders (the
//! receiver checks), and what stands in a folder's place and is none is removed.

use std::{
    collections::HashMap,
    fs::{self, Permissions},
    io::{self, Write as _},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    pin::Pin,
};

use buildd_api::file_sync::{self, Kind, Packet, Received, Receiver, Stat, mode, stat};
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use prost::Message as _;
use rustix::fs::{AtFlags, CWD, Gid, Timespec, Timestamps, UTIME_OMIT, Uid, chownat, utimensat};
use tempfile::NamedTempFile;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::output;

/// Requests waiting for the wire.
const QUEUE: usize = 128;
/// Files asked for and not complete: bounds open descriptors.
const MAX_OPEN: usize = 64;

/// The set-user and set-group bits of a mode.
const SET_ID: u32 = 0o6000;

/// Takes the packets in the background; the stream of our own packets.
pub(super) fn receive(
    root: PathBuf,
    incoming: Streaming<Bytes>,
) -> Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>> {
    let (replies, stream) = mpsc::channel::<Result<Packet, Status>>(QUEUE);
    tokio::spawn(async move {
        if let Err(status) = receive_tree(root, incoming, &replies).await {
            let _ = replies.send(Ok(file_sync::failure(status.message()))).await;
            let _ = replies.send(Err(status)).await;
        }
    });
    Box::pin(
        ReceiverStream::new(stream).map(|packet| packet.map(|packet| Bytes::from(packet.encode_to_vec()))),
    )
}

async fn receive_tree(
    root: PathBuf,
    mut incoming: Streaming<Bytes>,
    replies: &mpsc::Sender<Result<Packet, Status>>,
) -> Result<(), Status> {
    let refused = |e: file_sync::Error| Status::invalid_argument(e.to_string());
    let mut receiver = Receiver::default();
    let mut tree = Tree::create(root)?;
    let mut waiting = Vec::new();
    let mut finishing = false;
    while let Some(message) = incoming.message().await? {
        let packet = Packet::decode(message).map_err(|e| Status::invalid_argument(e.to_string()))?;
        let received = receiver.receive(packet).map_err(refused)?;
        if received == Received::Finished {
            return tree.finish();
        }
        let (returned, wanted) = buildd_fs::blocking::run(move || {
            let wanted = tree.take(received);
            (tree, wanted)
        })
        .await;
        tree = returned;
        waiting.extend(wanted?);
        while tree.open.len() + tree.requested < MAX_OPEN
            && let Some(id) = waiting.pop()
        {
            tree.requested += 1;
            send(replies, receiver.request(id).map_err(refused)?).await?;
        }
        if !finishing && waiting.is_empty() && receiver.is_complete() {
            finishing = true;
            send(replies, file_sync::fin()).await?;
        }
    }
    Err(Status::aborted("the daemon sent only a part of the tree"))
}

async fn send(replies: &mpsc::Sender<Result<Packet, Status>>, packet: Packet) -> Result<(), Status> {
    replies.send(Ok(packet)).await.map_err(|_| Status::aborted("the daemon is gone"))
}

/// The folder being written.
struct Tree {
    root: PathBuf,
    files: HashMap<u32, Stat>,
    open: HashMap<u32, NamedTempFile>,
    /// Files asked for of which nothing has come.
    requested: usize,
    /// Hard links, made when the first names are there; folders, whose times are set when nothing changes them any more.
    links: Vec<Stat>,
    folders: Vec<Stat>,
    left_out: LeftOut,
}

/// What of a tree does not go into a folder of the user's.
#[derive(Debug, Default)]
struct LeftOut {
    /// Devices, pipes and sockets: they mean nothing there.
    special: usize,
    /// Set-user and set-group bits, unless we are root: a program of the tree's would run as the user, whoever calls it.
    bits: usize,
}

impl LeftOut {
    fn tell(&self, root: &Path) {
        let place = root.display();
        if self.special > 0 {
            output::note(&format!("{place}: left out {} devices, pipes and sockets", self.special));
        }
        if self.bits > 0 {
            output::note(&format!("{place}: {} files without their set-user or set-group bit", self.bits));
        }
    }
}

impl Tree {
    fn create(root: PathBuf) -> Result<Self, Status> {
        fs::create_dir_all(&root).map_err(|e| Status::internal(format!("make {}: {e}", root.display())))?;
        let (files, open) = (HashMap::new(), HashMap::new());
        let (links, folders, left_out) = Default::default();
        Ok(Self { root, files, open, requested: 0, links, folders, left_out })
    }

    /// Does what a packet says; the id of a file to ask for.
    fn take(&mut self, received: Received) -> Result<Option<u32>, Status> {
        match received {
            Received::Entry { id, kind, stat } => {
                let path = self.root.join(&stat.path);
                let wanted = self.entry(id, kind, stat);
                wanted.map_err(|e| Status::internal(format!("write {}: {e}", path.display())))
            }
            Received::Data { id, data } => {
                self.write(id, &data)
                    .map_err(|e| Status::internal(format!("write {}: {e}", self.shown(id))))?;
                Ok(None)
            }
            Received::EndOfFile { id } => {
                self.complete(id).map_err(|e| Status::internal(format!("write {}: {e}", self.shown(id))))?;
                Ok(None)
            }
            Received::EndOfEntries | Received::Finished => Ok(None),
        }
    }

    fn shown(&self, id: u32) -> String {
        self.files.get(&id).map_or_else(String::new, |stat| self.root.join(&stat.path).display().to_string())
    }

    fn entry(&mut self, id: u32, kind: Kind, stat: Stat) -> io::Result<Option<u32>> {
        let path = self.root.join(&stat.path);
        match kind {
            Kind::Directory => {
                if !fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir()) {
                    remove(&path)?;
                    fs::create_dir(&path)?;
                }
                self.folders.push(stat);
            }
            Kind::File if stat.linkname.is_empty() => {
                self.files.insert(id, stat);
                return Ok(Some(id));
            }
            Kind::File => self.links.push(stat),
            Kind::Symlink => {
                remove(&path)?;
                symlink(&stat.linkname, &path)?;
                set_owner_and_times(&path, &stat)?;
            }
            Kind::Character | Kind::Block | Kind::Fifo | Kind::Socket => self.left_out.special += 1,
        }
        Ok(None)
    }

    fn file(&mut self, id: u32) -> io::Result<&mut NamedTempFile> {
        if !self.open.contains_key(&id) {
            let stat = self.files.get(&id).ok_or(io::ErrorKind::NotFound)?;
            let path = self.root.join(&stat.path);
            let file = NamedTempFile::with_prefix_in(".buildctl-", path.parent().unwrap_or(&self.root))?;
            self.open.insert(id, file);
            self.requested -= 1;
        }
        self.open.get_mut(&id).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn write(&mut self, id: u32, data: &[u8]) -> io::Result<()> {
        self.file(id)?.write_all(data)
    }

    fn complete(&mut self, id: u32) -> io::Result<()> {
        self.file(id)?;
        let (Some(file), Some(stat)) = (self.open.remove(&id), self.files.remove(&id)) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let path = self.root.join(&stat.path);
        set_owner_and_times(file.path(), &stat)?;
        set_mode(file.path(), &stat, &mut self.left_out)?;
        if fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir()) {
            remove(&path)?;
        }
        file.persist(&path)?;
        Ok(())
    }

    fn finish(mut self) -> Result<(), Status> {
        let failed = |path: &str, e: io::Error| Status::internal(format!("write {path}: {e}"));
        for stat in &self.links {
            let path = self.root.join(&stat.path);
            remove(&path)
                .and_then(|()| fs::hard_link(self.root.join(&stat.linkname), &path))
                .map_err(|e| failed(&stat.path, e))?;
        }
        for stat in self.folders.iter().rev() {
            let path = self.root.join(&stat.path);
            set_owner_and_times(&path, stat)
                .and_then(|()| set_mode(&path, stat, &mut self.left_out))
                .map_err(|e| failed(&stat.path, e))?;
        }
        self.left_out.tell(&self.root);
        Ok(())
    }
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    match removed {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn set_mode(path: &Path, stat: &Stat, left_out: &mut LeftOut) -> io::Result<()> {
    let mut bits = mode::unix_from_go(stat.mode).unwrap_or(0o644) & 0o7777;
    if bits & SET_ID != 0 && !rustix::process::geteuid().is_root() {
        bits &= !SET_ID;
        left_out.bits += 1;
    }
    fs::set_permissions(path, Permissions::from_mode(bits))
}

/// Only root can give files away; others own what they receive.
fn set_owner_and_times(path: &Path, stat: &Stat) -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        let (uid, gid) = (Uid::from_raw(stat.uid), Gid::from_raw(stat.gid));
        chownat(CWD, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    let (seconds, nanos) = stat::modified_parts(stat);
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: nanos.into() },
    };
    Ok(utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}
