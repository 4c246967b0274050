//! Contents: the files that the daemon asks for, read and cut into packets.
//!
//! What was asked for meanwhile is read by one thread, one file after another, and small files share a batch.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use buildd_api::file_sync::{self, CHUNK_BYTES, Packet};
use buildd_fs::blocking;
use futures::StreamExt as _;
use rustix::fs::OFlags;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Status;

use super::{BATCH, PacketSender};

/// Threads that read.
const PARALLEL_READS: usize = 2;
/// Bytes of data that one batch of packets may have.
const BATCH_BYTES: usize = 256 << 10;

/// Sends each file that is asked for, by its id and path.
pub(super) async fn read_files(
    root: PathBuf,
    queue: mpsc::UnboundedReceiver<(u32, String)>,
    packets: PacketSender,
) -> Result<(), Status> {
    let mut results = UnboundedReceiverStream::new(queue)
        .ready_chunks(BATCH)
        .map(|files| {
            let (root, packets) = (root.clone(), packets.clone());
            blocking::run(move || send_files(&root, &files, &packets))
        })
        .buffer_unordered(PARALLEL_READS);
    while let Some(result) = results.next().await {
        if let Err(status) = result {
            let _ = packets.send(Ok(vec![file_sync::failure(status.message())])).await;
            return Err(status);
        }
    }
    Ok(())
}

/// Sends files one after another, several small ones in a batch.
fn send_files(root: &Path, files: &[(u32, String)], packets: &PacketSender) -> Result<(), Status> {
    let mut batch = Batch { packets, gathered: Vec::new(), bytes: 0 };
    for (id, path) in files {
        let path = root.join(path);
        let sent = send_file(*id, &path, &mut batch);
        sent.map_err(|e| Status::internal(format!("read {}: {e}", path.display())))?;
    }
    // A receiver that is gone needs no more.
    let _ = batch.hand_over();
    Ok(())
}

/// Packets on their way to the wire.
struct Batch<'a> {
    packets: &'a PacketSender,
    gathered: Vec<Packet>,
    bytes: usize,
}

impl Batch<'_> {
    fn add(&mut self, packet: Packet) -> io::Result<()> {
        self.bytes += packet.data.len();
        self.gathered.push(packet);
        if self.bytes >= BATCH_BYTES { self.hand_over() } else { Ok(()) }
    }

    fn hand_over(&mut self) -> io::Result<()> {
        self.bytes = 0;
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.packets.blocking_send(Ok(std::mem::take(&mut self.gathered))).map_err(gone)
    }
}

fn send_file(id: u32, path: &Path, batch: &mut Batch<'_>) -> io::Result<()> {
    // A link put there since the walk is not followed, a pipe does not block.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut file: File = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    let size = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    loop {
        let mut piece = Vec::with_capacity(size.min(CHUNK_BYTES));
        if file.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut piece)? == 0 {
            break;
        }
        batch.add(file_sync::data(id, piece))?;
    }
    batch.add(file_sync::end_of_file(id))
}
