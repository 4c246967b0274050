//! Download: a file of a server into a layer of its own, hashed as it comes.
//!
//! One task reads the answer, one thread of a pipeline writes the layer; between them a short queue, so that a slow disk slows the server. A
//! connection that breaks in the middle is made again from the start.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use buildd_fs::pipeline::Limit;
use buildd_oci::{
    ErrorKind,
    digest::{Digest, Digester},
    registry::{
        auth::Redacted,
        file::{FileAnswer, FileRequest},
    },
};
use buildd_solver::op::{OpContext, OpError};
use buildd_store::{
    layer::{Entry, EntryKind, Time},
    snapshot::{Scratch, SnapshotPin},
};
use bytes::Bytes;
use tokio::{sync::mpsc, time::Instant};

use super::HttpRequest;
use crate::{
    error::{Error, Result, op_error},
    session::TreeSink,
    worker::Worker,
};

/// Pieces that wait for the disk.
const QUEUE: usize = 64;
/// Files that come at once: stops servers that trickle from taking all threads the daemon may have.
static DOWNLOADS: Limit = Limit::new("http", 128);
/// Times that a file is begun; a connection that breaks more often breaks always.
const ATTEMPTS: usize = 3;
/// The number of the file in its tree, which has no other.
const FILE: u32 = 0;
/// Bytes of the disk that a download leaves free, so that the daemon can still note what it does.
const DISK_RESERVE: u64 = 256 << 20;
/// After so many bytes the disk is looked at again.
const LOOK_EVERY: u64 = 32 << 20;
/// The place that is reserved for a file whose length is not known; it grows.
const UNKNOWN_LENGTH: u64 = 1 << 20;
/// How often the number of bytes is shown.
const SHOW_INTERVAL: Duration = Duration::from_millis(150);

/// A file that came.
#[derive(Clone, Debug)]
pub(super) struct Fetched {
    pub(super) digest: Digest,
    pub(super) name: String,
    pub(super) etag: String,
    pub(super) modified: String,
    pub(super) held: SnapshotPin,
}

/// Fetches the file; None if it is the one that the validators describe.
pub(super) async fn download(
    worker: &Arc<Worker>,
    cx: &OpContext,
    wanted: &HttpRequest,
    validators: Vec<(String, String)>,
) -> Result<Option<Fetched>, OpError> {
    let authorization = match &wanted.secret {
        None => None,
        Some(id) => super::super::secret_text(worker, cx, id).await?,
    };
    let request = FileRequest {
        url: wanted.url.clone(),
        headers: [wanted.headers.clone(), validators].concat(),
        authorization: authorization.map(Redacted),
    };
    let mut attempt = 1;
    loop {
        let answer = worker.registries.client().file(&request).await;
        let answer = answer.map_err(|error| op_error(Error::Registry(error)))?;
        if answer.is_unchanged() {
            return Ok(None);
        }
        match fetch(worker, cx, wanted, answer).await {
            Ok(fetched) => return Ok(Some(fetched)),
            Err(error) if error.kind() == ErrorKind::Unavailable && attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(op_error(error)),
        }
    }
}

async fn fetch(
    worker: &Arc<Worker>,
    cx: &OpContext,
    wanted: &HttpRequest,
    answer: FileAnswer,
) -> Result<Fetched> {
    let header = |name: &str| answer.header(name).unwrap_or_default().to_owned();
    let (etag, modified) = (header("etag"), header("last-modified"));
    let name = wanted.name(answer.header("content-disposition"));
    let length = answer.length();
    if length.is_some_and(|length| !fits(worker, length)) {
        return Err(full(wanted));
    }
    let entry = Entry {
        kind: EntryKind::File { size: length.unwrap_or(UNKNOWN_LENGTH) },
        mode: wanted.mode,
        uid: wanted.uid,
        gid: wanted.gid,
        mtime: Time { seconds: seconds(&modified), nanos: 0 },
        ..Entry::directory(PathBuf::from(&name))
    };
    let pipeline = DOWNLOADS.enter().await;
    let (scratch, sink) = place(worker)?;
    let (pieces, disk) = mpsc::channel(QUEUE);
    let disk = pipeline.start(move || write(sink, entry, disk));
    let read = receive(worker, cx, wanted, answer, pieces).await;
    // What the disk says comes first: it is why nobody took the bytes.
    let sink = disk.ended().await?;
    let digest = read?;
    let worker = worker.clone();
    let work = move || -> Result<SnapshotPin> {
        sink.finish()?;
        Ok(worker.store.snapshots.commit_folder(None, scratch.path(), None)?)
    };
    let held = buildd_fs::blocking::run(work).await?;
    Ok(Fetched { digest, name, etag, modified, held })
}

/// Reads the whole answer, and shows how much has come.
async fn receive(
    worker: &Worker,
    cx: &OpContext,
    wanted: &HttpRequest,
    mut answer: FileAnswer,
    pieces: mpsc::Sender<Bytes>,
) -> Result<Digest> {
    let (started, total) = (SystemTime::now(), answer.length().unwrap_or(0));
    let title = format!("downloading {}", wanted.shown());
    let (mut digester, mut got, mut looked, mut shown) = (Digester::default(), 0, 0, Instant::now());
    while let Some(piece) = answer.chunk().await? {
        got += piece.len() as u64;
        if got - looked >= LOOK_EVERY {
            looked = got;
            if !fits(worker, 0) {
                return Err(full(wanted));
            }
        }
        digester.update(&piece);
        if pieces.send(piece).await.is_err() {
            return Err(wanted.not_whole("could not be written"));
        }
        if shown.elapsed() >= SHOW_INTERVAL {
            shown = Instant::now();
            cx.progress.status(&title, got, total, started, None);
        }
    }
    cx.progress.status(&title, got, total, started, Some(SystemTime::now()));
    Ok(digester.finish())
}

/// A new layer with nothing in it, in the form of new layers.
fn place(worker: &Worker) -> Result<(Scratch, TreeSink)> {
    let snapshots = &worker.store.snapshots;
    if snapshots.makes_files() {
        let scratch = snapshots.scratch_file();
        let sink = TreeSink::file(scratch.path(), None)?;
        return Ok((scratch, sink));
    }
    let scratch = snapshots.scratch()?;
    let sink = TreeSink::folder(scratch.path(), None)?;
    Ok((scratch, sink))
}

fn write(mut sink: TreeSink, entry: Entry, mut pieces: mpsc::Receiver<Bytes>) -> Result<TreeSink> {
    sink.entry(FILE, entry)?;
    while let Some(piece) = pieces.blocking_recv() {
        sink.write(FILE, &piece)?;
    }
    sink.close(FILE)?;
    Ok(sink)
}

/// Whether the disk has room for so many bytes more.
fn fits(worker: &Worker, bytes: u64) -> bool {
    match rustix::fs::statvfs(worker.store.root()) {
        Ok(disk) => (disk.f_bavail * disk.f_frsize).saturating_sub(DISK_RESERVE) > bytes,
        // Then writing says what is wrong.
        Err(_) => true,
    }
}

fn full(wanted: &HttpRequest) -> Error {
    let source = std::io::ErrorKind::StorageFull.into();
    Error::File { operation: "download", path: wanted.shown().into(), source }
}

/// The time of a `Last-Modified`; 1970 where there is none.
fn seconds(modified: &str) -> i64 {
    let time = buildd_oci::registry::file::parse_time(modified);
    let since = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or_default()
}
