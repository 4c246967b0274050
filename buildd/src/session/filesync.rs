//! File sync: a client's folder into a tree of ours.
//!
//! Only files that an earlier build does not have are asked for. One task reads packets, one thread of a pipeline makes files; between them a
//! short queue, so that a slow disk slows the client.

use std::ops::Range;

use buildd_api::{
    buildkit::{fsutil::types::Packet, moby::filesync::v1::file_sync_client::FileSyncClient},
    file_sync::{self, Kind, Received, Receiver, Stat, mode, stat},
};
use buildd_fs::pipeline::Limit;
use buildd_oci::ErrorKind;
use buildd_store::layer::{Entry, EntryKind, Time, keeps_xattr};
use buildd_worker::session::{Beside, MAX_LISTED, SessionError, SyncRequest, TreeSink};
use futures::FutureExt as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{
    Request, Status, Streaming,
    metadata::{Ascii, MetadataKey, MetadataMap},
    transport::Channel,
};

use super::calls::{failed, refused};
use crate::session::transport::MESSAGE_LIMIT;

/// Batches that wait for the disk.
const QUEUE: usize = 32;
/// Trees that come at once: stops clients that send slowly from taking all threads the daemon may have.
static SYNCS: Limit = Limit::new("sync", 256);
/// Things of one batch, and bytes of files in it: a few hundred small files, or eight pieces of a large one.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 256 << 10;

/// What the disk has to do next.
enum Work {
    /// Entries that the earlier tree has.
    Known(Range<usize>),
    Make(u32, Entry),
    Write(u32, Vec<u8>),
    Close(u32),
}

/// Fetches what is asked for into the sink.
pub(super) async fn receive(
    channel: Channel,
    request: SyncRequest,
    sink: TreeSink,
) -> Result<TreeSink, SessionError> {
    let pipeline = SYNCS.enter().await;
    let (work, disk) = mpsc::channel(QUEUE);
    let base = sink.base().map(Beside::new);
    let disk = pipeline.start(move || make(sink, disk));
    let read = packets(channel, &request, base, Batch { work, gathered: Vec::new(), bytes: 0 }).await;
    // What the disk says comes first: it is why nobody took the packets.
    let sink = disk.ended().await.map_err(|error| failed(error.kind(), "receive files", &error))?;
    read.map(|()| sink)
}

fn make(mut sink: TreeSink, mut batches: mpsc::Receiver<Vec<Work>>) -> Result<TreeSink, buildd_store::Error> {
    while let Some(batch) = batches.blocking_recv() {
        for work in batch {
            match work {
                Work::Known(numbers) => sink.known(numbers)?,
                Work::Make(id, entry) => sink.entry(id, entry)?,
                Work::Write(id, data) => sink.write(id, &data)?,
                Work::Close(id) => sink.close(id)?,
            }
        }
    }
    Ok(sink)
}

/// Gathers what the disk has to do, so that the thread that does it is not woken for every small file.
struct Batch {
    work: mpsc::Sender<Vec<Work>>,
    gathered: Vec<Work>,
    bytes: usize,
}

impl Batch {
    /// Adds; what is full goes to the disk.
    async fn add(&mut self, work: Work) -> Result<(), Stopped> {
        match (&work, self.gathered.last_mut()) {
            (Work::Known(next), Some(Work::Known(last))) if last.end == next.start => {
                last.end = next.end;
                return Ok(());
            }
            (Work::Write(_, data), _) => self.bytes += data.len(),
            _ => {}
        }
        self.gathered.push(work);
        if self.gathered.len() >= BATCH || self.bytes >= BATCH_BYTES {
            self.hand_over().await
        } else {
            Ok(())
        }
    }

    async fn hand_over(&mut self) -> Result<(), Stopped> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        self.bytes = 0;
        self.work.send(std::mem::take(&mut self.gathered)).await.map_err(|_| Stopped)
    }
}

/// Nobody takes the work any more.
struct Stopped;

async fn packets(
    channel: Channel,
    wanted: &SyncRequest,
    mut base: Option<Beside>,
    mut batch: Batch,
) -> Result<(), SessionError> {
    let what = format!("fetch files of {:?}", wanted.name);
    let bad = |error: file_sync::Error| failed(ErrorKind::InvalidArgument, &what, &error);
    let stopped = |_: Stopped| SessionError {
        kind: ErrorKind::Internal,
        message: format!("{what}: nobody takes them"),
    };
    let (mut packets, answers) = call(channel, wanted).await.map_err(|status| refused(&what, &status))?;
    let mut receiver = Receiver::default();
    let mut done = false;
    loop {
        let packet = match packets.message().now_or_never() {
            Some(packet) => packet,
            // The disk works while we wait.
            None => {
                batch.hand_over().await.map_err(stopped)?;
                packets.message().await
            }
        };
        let Some(packet) = packet.map_err(|status| refused(&what, &status))? else { break };
        let work = match receiver.receive(packet).map_err(bad)? {
            Received::Entry { id, kind, stat } => {
                let fetch = kind == Kind::File && stat.linkname.is_empty() && stat.size > 0;
                let Some(entry) = entry(kind, stat) else { continue };
                match base.as_mut().and_then(|base| base.same(&entry)) {
                    Some(number) => Some(Work::Known(number..number + 1)),
                    None => {
                        if fetch {
                            let _ = answers.send(receiver.request(id).map_err(bad)?);
                        }
                        Some(Work::Make(id, entry))
                    }
                }
            }
            Received::Data { id, data } => Some(Work::Write(id, data)),
            Received::EndOfFile { id } => Some(Work::Close(id)),
            Received::EndOfEntries => None,
            Received::Finished => return batch.hand_over().await.map_err(stopped),
        };
        if let Some(work) = work {
            batch.add(work).await.map_err(stopped)?;
        }
        if receiver.is_complete() && !done {
            done = true;
            let _ = answers.send(file_sync::fin());
        }
    }
    Err(SessionError { kind: ErrorKind::Aborted, message: format!("{what}: the client stopped early") })
}

type Answers = mpsc::UnboundedSender<Packet>;

async fn call(channel: Channel, wanted: &SyncRequest) -> Result<(Streaming<Packet>, Answers), Status> {
    // Unbounded, but one request for each announced file, and those are bounded.
    let (answers, outgoing) = mpsc::unbounded_channel::<Packet>();
    let mut request = Request::new(UnboundedReceiverStream::new(outgoing));
    describe(request.metadata_mut(), wanted);
    let mut client = FileSyncClient::new(channel)
        .max_decoding_message_size(MESSAGE_LIMIT)
        .max_encoding_message_size(MESSAGE_LIMIT);
    Ok((client.diff_copy(request).await?.into_inner(), answers))
}

/// The paths of what would be sent; no file is asked for.
pub(super) async fn list(channel: Channel, wanted: &SyncRequest) -> Result<Vec<String>, SessionError> {
    let what = format!("list files of {:?}", wanted.name);
    let (mut packets, answers) = call(channel, wanted).await.map_err(|status| refused(&what, &status))?;
    let mut receiver = Receiver::default();
    let mut listed = Vec::new();
    while let Some(packet) = packets.message().await.map_err(|status| refused(&what, &status))? {
        let received = receiver.receive(packet);
        match received.map_err(|error| failed(ErrorKind::InvalidArgument, &what, &error))? {
            Received::Entry { stat, .. } if listed.len() < MAX_LISTED => listed.push(stat.path),
            Received::EndOfEntries => drop(answers.send(file_sync::fin())),
            Received::Finished => break,
            _ => {}
        }
    }
    Ok(listed)
}

/// Says which files are wanted. Values beyond printable ASCII are escaped, and a second key says so.
fn describe(metadata: &mut MetadataMap, wanted: &SyncRequest) {
    let name = std::slice::from_ref(&wanted.name);
    let lists: [(&'static str, &'static str, &[String]); 4] = [
        ("dir-name", "dir-name-encoded", name),
        ("include-patterns", "include-patterns-encoded", &wanted.include),
        ("exclude-patterns", "exclude-patterns-encoded", &wanted.exclude),
        ("followpaths", "followpaths-encoded", &wanted.follow),
    ];
    for (key, flag, values) in lists {
        let plain = |value: &String| value.bytes().all(|b| (0x20..0x7f).contains(&b));
        let escape = !values.iter().all(plain);
        for value in values {
            let text = if escape { query_escape(value) } else { value.clone() };
            if let Ok(value) = text.parse() {
                metadata.append(MetadataKey::<Ascii>::from_static(key), value);
            }
        }
        if escape {
            metadata.insert(flag, "1".parse().expect("a digit is ASCII"));
        }
    }
}

/// Go's `url.QueryEscape`.
fn query_escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// An entry as layers have it; None for what no layer can have (sockets).
fn entry(kind: Kind, stat: Stat) -> Option<Entry> {
    let (seconds, nanos) = stat::modified_parts(&stat);
    let device = |n: i64| u32::try_from(n).unwrap_or_default();
    let kind = match kind {
        Kind::Directory => EntryKind::Directory,
        Kind::File if !stat.linkname.is_empty() => EntryKind::Hardlink(stat.linkname.into()),
        Kind::File => EntryKind::File { size: u64::try_from(stat.size).unwrap_or_default() },
        Kind::Symlink => EntryKind::Symlink(stat.linkname.into()),
        Kind::Character => EntryKind::Char(device(stat.devmajor), device(stat.devminor)),
        Kind::Block => EntryKind::Block(device(stat.devmajor), device(stat.devminor)),
        Kind::Fifo => EntryKind::Fifo,
        Kind::Socket => return None,
    };
    Some(Entry {
        path: stat.path.into(),
        kind,
        mode: mode::unix_from_go(stat.mode)? & 0o7777,
        uid: stat.uid,
        gid: stat.gid,
        mtime: Time { seconds, nanos },
        // What overlayfs and the kernel keep for themselves is not a client's to set.
        xattrs: stat
            .xattrs
            .into_iter()
            .filter(|(name, _)| keeps_xattr(name))
            .map(|(name, value)| (name.into(), value))
            .collect(),
    })
}
