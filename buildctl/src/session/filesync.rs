//! File sync: our folders as the daemon asks for them, filtered on our side so that ignored files never leave.
//!
//! One call is one tree: stats in order, contents on request (`buildd_api::file_sync` has the rules). Entries leave as the walk finds them,
//! and go through the channels in batches: with one at a time, waking the other end costs more than the entry.

mod contents;
mod entries;

use std::{collections::BTreeMap, path::PathBuf, pin::Pin};

use buildd_api::{
    buildkit::moby::filesync::v1::file_sync_server::FileSync,
    file_sync::{self, Packet, Requested, Sender},
};
use buildd_fs::{blocking, walk::WalkOptions};
use futures::{Stream, StreamExt as _, stream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, metadata::MetadataMap};

use self::{contents::read_files, entries::describe_all};

/// Batches of packets waiting for the wire, and of entries waiting to become packets.
const QUEUE: usize = 16;
/// Entries of one batch, and small files.
const BATCH: usize = 128;
type PacketSender = mpsc::Sender<Result<Vec<Packet>, Status>>;
type Packets = Pin<Box<dyn Stream<Item = Result<Packet, Status>> + Send>>;

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
    type DiffCopyStream = Packets;
    type TarStreamStream = Packets;

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
        let (packets, batches) = mpsc::channel(QUEUE);
        tokio::spawn(async move {
            if let Err(status) = send_tree(root, options, request.into_inner(), packets.clone()).await {
                // A receiver that is gone needs no answer.
                let _ = packets.send(Err(status)).await;
            }
        });
        let each = |batch: Result<Vec<Packet>, Status>| match batch {
            Ok(packets) => stream::iter(packets).map(Ok).left_stream(),
            Err(status) => stream::iter([Err(status)]).right_stream(),
        };
        Ok(Response::new(Box::pin(ReceiverStream::new(batches).flat_map(each))))
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
    let (found, mut entries) = mpsc::channel(QUEUE);
    let walked = root.clone();
    let walk = tokio::spawn(blocking::run(move || describe_all(&walked, &options, &found)));
    let (wanted, queue) = mpsc::unbounded_channel();
    let readers = tokio::spawn(read_files(root.clone(), queue, packets.clone()));
    let mut sender = Sender::default();
    let mut paths = Vec::new();
    let mut waiting: Option<Vec<Packet>> = None;
    let mut walk = Some(walk);
    loop {
        tokio::select! {
            batch = entries.recv(), if waiting.is_none() && walk.is_some() => {
                let mut announced = Vec::new();
                for stat in batch.into_iter().flatten() {
                    paths.push(stat.path.clone());
                    announced.push(sender.announce(stat).map_err(refused)?);
                }
                if announced.is_empty() && let Some(walk) = walk.take() {
                    let walked = walk.await.map_err(|e| Status::internal(e.to_string()))?;
                    walked.map_err(|e| Status::internal(format!("read folder {}: {e}", root.display())))?;
                    announced.push(sender.end());
                }
                waiting = Some(announced);
            }
            slot = packets.reserve(), if waiting.is_some() => {
                let Ok(slot) = slot else { return Ok(()) };
                slot.send(Ok(waiting.take().unwrap_or_default()));
            }
            packet = incoming.message() => {
                let Some(packet) = packet? else { return Ok(()) };
                match sender.receive(&packet).map_err(refused)? {
                    // Bounded by the number of entries: each can be asked for once.
                    Requested::File(id) => {
                        let path = paths.get(id as usize).cloned();
                        let _ = wanted.send((id, path.ok_or_else(|| Status::internal("an unknown entry"))?));
                    }
                    Requested::Finish => break,
                }
            }
        }
    }
    drop(wanted);
    readers.await.map_err(|e| Status::internal(e.to_string()))??;
    let _ = packets.send(Ok(vec![file_sync::fin()])).await;
    Ok(())
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
