//! File sync: our folders as the daemon asks for them, filtered on our side so that ignored files never leave.
//!
//! One call is one tree: stats in order, contents on request (`buildd_api::file_sync` has the rules).

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use buildd_api::{
    buildkit::moby::filesync::v1::file_sync_server::FileSync,
    file_sync::{self, CHUNK_BYTES, Packet, Requested, Sender, Stat, stat},
};
use buildd_fs::{
    blocking,
    walk::{WalkEntry, WalkError, WalkOptions, walk},
};
use futures::StreamExt as _;
use rustix::fs::OFlags;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream};
use tonic::{Request, Response, Status, Streaming, metadata::MetadataMap};

/// Packets waiting for the wire.
const QUEUE: usize = 128;
/// Bytes of an attribute, and of all names, that Linux allows.
const MAX_XATTR: usize = 64 << 10;
/// Files read at once.
const PARALLEL_FILES: usize = 4;

type PacketSender = mpsc::Sender<Result<Packet, Status>>;

/// Answers the daemon.
#[derive(Debug)]
pub(super) struct FileSyncService {
    locals: BTreeMap<String, PathBuf>,
}

impl FileSyncService {
    pub(super) fn new(locals: BTreeMap<String, PathBuf>) -> Self {
        Self { locals }
    }
}

#[tonic::async_trait]
impl FileSync for FileSyncService {
    type DiffCopyStream = ReceiverStream<Result<Packet, Status>>;
    type TarStreamStream = ReceiverStream<Result<Packet, Status>>;

    async fn diff_copy(
        &self,
        request: Request<Streaming<Packet>>,
    ) -> Result<Response<Self::DiffCopyStream>, Status> {
        let metadata = request.metadata();
        let name = values(metadata, "dir-name").pop().unwrap_or_default();
        let options = WalkOptions {
            include: values(metadata, "include-patterns"),
            exclude: values(metadata, "exclude-patterns"),
            follow: values(metadata, "followpaths"),
        };
        let Some(root) = self.locals.get(&name).cloned() else {
            return Err(Status::not_found(format!("no local folder is named {name:?}")));
        };
        let (packets, stream) = mpsc::channel(QUEUE);
        tokio::spawn(async move {
            if let Err(status) = send_tree(root, options, request.into_inner(), packets.clone()).await {
                // A receiver that is gone needs no answer.
                let _ = packets.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn tar_stream(
        &self,
        _: Request<Streaming<Packet>>,
    ) -> Result<Response<Self::TarStreamStream>, Status> {
        Err(Status::unimplemented("buildctl sends trees by DiffCopy"))
    }
}

async fn send_tree(
    root: PathBuf,
    options: WalkOptions,
    mut incoming: Streaming<Packet>,
    packets: PacketSender,
) -> Result<(), Status> {
    let walked = root.clone();
    let describe_all = move || -> Result<Vec<Stat>, WalkError> {
        Ok(walk(&walked, &options)?.iter().map(|entry| describe(&walked, entry)).collect())
    };
    let entries = blocking::run(describe_all)
        .await
        .map_err(|e| Status::internal(format!("read folder {}: {e}", root.display())))?;
    let entries = Arc::new(entries);
    let (wanted, queue) = mpsc::unbounded_channel();
    let readers = tokio::spawn(read_files(root, Arc::clone(&entries), queue, packets.clone()));
    let mut sender = Sender::default();
    let mut unannounced = entries.iter();
    let mut listed = false;
    loop {
        tokio::select! {
            slot = packets.reserve(), if !listed => {
                let Ok(slot) = slot else { return Ok(()) };
                match unannounced.next() {
                    Some(entry) => slot.send(Ok(sender.announce(entry.clone()).map_err(refused)?)),
                    None => {
                        listed = true;
                        slot.send(Ok(sender.end()));
                    }
                }
            }
            packet = incoming.message() => {
                let Some(packet) = packet? else { return Ok(()) };
                match sender.receive(&packet).map_err(refused)? {
                    // Bounded by the number of entries: each can be asked for once.
                    Requested::File(id) => { let _ = wanted.send(id); }
                    Requested::Finish => break,
                }
            }
        }
    }
    drop(wanted);
    readers.await.map_err(|e| Status::internal(e.to_string()))??;
    let _ = packets.send(Ok(file_sync::fin())).await;
    Ok(())
}

async fn read_files(
    root: PathBuf,
    entries: Arc<Vec<Stat>>,
    queue: mpsc::UnboundedReceiver<u32>,
    packets: PacketSender,
) -> Result<(), Status> {
    let mut results = UnboundedReceiverStream::new(queue)
        .map(|id| {
            let path = entries.get(id as usize).map(|entry| root.join(&entry.path));
            let packets = packets.clone();
            async move {
                let path = path.ok_or_else(|| Status::internal("an unknown entry"))?;
                let shown = path.display().to_string();
                let sent = blocking::run(move || send_file(id, &path, &packets)).await;
                sent.map_err(|e| Status::internal(format!("read {shown}: {e}")))
            }
        })
        .buffer_unordered(PARALLEL_FILES);
    while let Some(result) = results.next().await {
        if let Err(status) = result {
            let _ = packets.send(Ok(file_sync::failure(status.message()))).await;
            return Err(status);
        }
    }
    Ok(())
}

fn send_file(id: u32, path: &Path, packets: &PacketSender) -> io::Result<()> {
    // A link put there since the walk is not followed, a pipe does not block.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut file: File = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
    loop {
        let mut piece = vec![0; CHUNK_BYTES];
        let read = file.read(&mut piece)?;
        if read == 0 {
            break;
        }
        piece.truncate(read);
        packets.blocking_send(Ok(file_sync::data(id, piece))).map_err(gone)?;
    }
    packets.blocking_send(Ok(file_sync::end_of_file(id))).map_err(gone)
}

/// A context belongs to nobody: the owner's ids on this machine mean nothing in an image.
fn describe(root: &Path, entry: &WalkEntry) -> Stat {
    let mut stat = stat::from_metadata(&entry.path, &entry.meta, entry.link.as_deref());
    (stat.uid, stat.gid) = (0, 0);
    if entry.meta.is_file() || entry.meta.is_dir() {
        stat.xattrs = attributes(&root.join(&entry.path)).into_iter().collect();
    }
    stat
}

/// The extended attributes that mean something in an image; a file system without them has none.
fn attributes(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut names = vec![0; MAX_XATTR];
    let Ok(length) = rustix::fs::llistxattr(path, &mut names) else { return Vec::new() };
    let names = names[..length].split(|byte| *byte == 0).filter_map(|name| std::str::from_utf8(name).ok());
    names
        .filter(|name| *name == "security.capability" || name.starts_with("user."))
        .filter_map(|name| {
            let mut value = vec![0; MAX_XATTR];
            let length = rustix::fs::lgetxattr(path, name, &mut value).ok()?;
            value.truncate(length);
            Some((name.to_owned(), value))
        })
        .collect()
}

fn refused(error: file_sync::Error) -> Status {
    Status::invalid_argument(error.to_string())
}

/// The values of a header; query-escaped if `<key>-encoded` says so.
fn values(metadata: &MetadataMap, key: &str) -> Vec<String> {
    let encoded = metadata.contains_key(format!("{key}-encoded"));
    let texts = metadata.get_all(key).iter().filter_map(|value| value.to_str().ok());
    if encoded { texts.map(unescape).collect() } else { texts.map(str::to_owned).collect() }
}

/// Undoes Go's `url.QueryEscape`.
fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let hex = bytes.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok());
        match (byte, hex.and_then(|pair| u8::from_str_radix(pair, 16).ok())) {
            (b'%', Some(decoded)) => {
                out.push(decoded);
                at += 3;
                continue;
            }
            (b'+', _) => out.push(b' '),
            _ => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests;
