//! File send: results to the client, as one archive or as a tree.
//!
//! The protocol of trees is that of contexts with the roles reversed: here the daemon has the files.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use buildd_api::{
    buildkit::{
        fsutil::types::Packet, moby::filesync::packet::file_send_client::FileSendClient as TreeClient,
    },
    bytes_message::{SharedBytes, SharedBytesCodec},
    file_sync::{self, CHUNK_BYTES, Requested, Sender, stat},
};
use buildd_fs::{
    path::{open_in_root, open_root},
    pipeline::Limit,
    walk::{WalkOptions, walk},
};
use buildd_oci::ErrorKind;
use buildd_worker::session::{ArchivePieces, SessionError};
use futures::Stream;
use rustix::fs::{Mode, OFlags};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, client::Grpc, codegen::http::uri::PathAndQuery, metadata::MetadataMap, transport::Channel,
};

use super::calls::{failed, refused};

/// The method that takes archives and trees.
pub(super) const DIFF_COPY: &str = "/moby.filesync.v1.FileSend/DiffCopy";
/// Messages that wait for the client.
const QUEUE: usize = 8;
/// Packets that wait for the client.
const PACKETS: usize = 128;
/// Trees that go to clients at once: stops clients that read slowly from taking all threads the daemon may have, at two a tree.
static TREES: Limit = Limit::new("tree", 128);

const WHAT: &str = "send the result to the client";

fn describe(metadata: &mut MetadataMap, exporter: usize, more: &BTreeMap<String, String>) {
    let mut insert = |key: &str, value: &str| {
        let key = key.parse::<tonic::metadata::AsciiMetadataKey>();
        if let (Ok(key), Ok(value)) = (key, value.parse()) {
            metadata.insert(key, value);
        }
    };
    insert("buildkit-attachable-exporter-id", &exporter.to_string());
    for (key, value) in more {
        insert(&format!("exporter-md-{key}"), value);
    }
}

/// The pieces of an archive, up to the declared end (`None`).
///
/// A reader that goes away without declaring it leaves a stream that never ends. The half-closing of a
/// call is all a client has to tell a whole archive from half of one, and it must not race the reset.
fn until_declared(pieces: mpsc::Receiver<Option<SharedBytes>>) -> impl Stream<Item = SharedBytes> {
    futures::stream::unfold(pieces, async |mut pieces| match pieces.recv().await {
        Some(piece) => piece.map(|piece| (piece, pieces)),
        None => std::future::pending().await,
    })
}

/// Streams an archive; if it breaks off, so does the call, and the client keeps nothing.
pub(super) async fn archive(
    channel: Channel,
    exporter: usize,
    metadata: &BTreeMap<String, String>,
    mut pieces: ArchivePieces,
) -> Result<(), SessionError> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let reader = async move {
        while let Some(piece) = pieces.recv().await {
            if sender.send(Some(SharedBytes { data: piece? })).await.is_err() {
                return Ok(());
            }
        }
        let _ = sender.send(None).await;
        Ok::<_, std::io::Error>(())
    };
    let mut request = Request::new(until_declared(receiver));
    describe(request.metadata_mut(), exporter, metadata);
    let call = async {
        let mut client = Grpc::new(channel);
        client.ready().await.map_err(|error| failed(ErrorKind::Unavailable, WHAT, &error))?;
        let answers = client
            .streaming(request, PathAndQuery::from_static(DIFF_COPY), SharedBytesCodec::default())
            .await;
        let mut answers = answers.map_err(|status| refused(WHAT, &status))?.into_inner();
        while answers.message().await.map_err(|status| refused(WHAT, &status))?.is_some() {}
        Ok(())
    };
    tokio::pin!(call);
    tokio::select! {
        done = &mut call => done,
        read = reader => match read {
            Ok(()) => call.await,
            Err(error) => Err(failed(ErrorKind::Internal, "make the archive", &error)),
        }
    }
}

/// Sends a tree.
pub(super) async fn tree(
    channel: Channel,
    exporter: usize,
    root: PathBuf,
    epoch: Option<i64>,
) -> Result<(), SessionError> {
    let pipeline = TREES.enter().await;
    let (outgoing, receiver) = mpsc::channel::<Packet>(PACKETS);
    let mut request = Request::new(ReceiverStream::new(receiver));
    describe(request.metadata_mut(), exporter, &BTreeMap::new());
    let mut client = TreeClient::new(channel);
    let sender = Arc::new(Mutex::new(Sender::default()));
    let paths = Arc::new(Mutex::new(Vec::new()));
    let announce = {
        let (sender, paths, outgoing, root) =
            (Arc::clone(&sender), Arc::clone(&paths), outgoing.clone(), root.clone());
        pipeline.start(move || announce(&root, epoch, &sender, &paths, &outgoing))
    };
    let mut packets = client.diff_copy(request).await.map_err(|status| refused(WHAT, &status))?.into_inner();
    let (wanted, files) = mpsc::unbounded_channel();
    let send = {
        let (paths, outgoing) = (Arc::clone(&paths), outgoing.clone());
        pipeline.start(move || serve(&root, &paths, files, &outgoing))
    };
    while let Some(packet) = packets.message().await.map_err(|status| refused(WHAT, &status))? {
        let requested = sender.lock().unwrap_or_else(PoisonError::into_inner).receive(&packet);
        match requested.map_err(|error| failed(ErrorKind::InvalidArgument, WHAT, &error))? {
            Requested::File(id) => {
                if wanted.send(id).is_err() {
                    break;
                }
            }
            Requested::Finish => {
                let _ = outgoing.send(file_sync::fin()).await;
                break;
            }
        }
    }
    drop((wanted, outgoing));
    for work in [announce, send] {
        work.ended().await?;
    }
    while packets.message().await.map_err(|status| refused(WHAT, &status))?.is_some() {}
    Ok(())
}

type Shared<T> = Mutex<T>;

fn announce(
    root: &Path,
    epoch: Option<i64>,
    sender: &Shared<Sender>,
    paths: &Shared<Vec<String>>,
    outgoing: &mpsc::Sender<Packet>,
) -> Result<(), SessionError> {
    let entries =
        walk(root, &WalkOptions::default()).map_err(|error| failed(ErrorKind::Internal, WHAT, &error))?;
    for entry in entries {
        let mut stat = stat::from_metadata(&entry.path, &entry.meta, entry.link.as_deref());
        if let Some(epoch) = epoch {
            stat::bound_time(&mut stat, epoch);
        }
        paths.lock().unwrap_or_else(PoisonError::into_inner).push(entry.path);
        let packet = sender.lock().unwrap_or_else(PoisonError::into_inner).announce(stat);
        let packet = packet.map_err(|error| failed(ErrorKind::Internal, WHAT, &error))?;
        if outgoing.blocking_send(packet).is_err() {
            return Ok(());
        }
    }
    let _ = outgoing.blocking_send(file_sync::end_of_entries());
    Ok(())
}

fn serve(
    root: &Path,
    paths: &Shared<Vec<String>>,
    mut files: mpsc::UnboundedReceiver<u32>,
    outgoing: &mpsc::Sender<Packet>,
) -> Result<(), SessionError> {
    let fail = |error: std::io::Error| failed(ErrorKind::Internal, WHAT, &error);
    let root = open_root(root).map_err(fail)?;
    while let Some(id) = files.blocking_recv() {
        let index = usize::try_from(id).unwrap_or(usize::MAX);
        let path = paths.lock().unwrap_or_else(PoisonError::into_inner).get(index).cloned();
        let Some(path) = path else { continue };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW;
        let mut file =
            File::from(open_in_root(root.as_fd(), Path::new(&path), flags, Mode::empty()).map_err(fail)?);
        loop {
            let mut piece = Vec::with_capacity(CHUNK_BYTES);
            let count = file.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut piece).map_err(fail)?;
            let packet = if count == 0 { file_sync::end_of_file(id) } else { file_sync::data(id, piece) };
            if outgoing.blocking_send(packet).is_err() {
                return Ok(());
            }
            if count == 0 {
                break;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
