//! Layer: one blob, hashed, stored and unpacked in one pass while its bytes come.
//!
//! ```text
//! network -> queue -> hash, append to the ingest -> pieces -> decompress -> pieces -> hash as diff_id, unpack
//! ```
//!
//! # Concurrency
//! One task feeds, one thread of a pipeline (`buildd_fs::pipeline`) stores; one decompresses and one unpacks (`pieces`). Queues are short: the
//! slowest sets the pace, and a registry that trickles holds these threads and no others.

use std::{
    convert::Infallible,
    io::{self, Read},
    sync::Arc,
    thread,
};

use buildd_fs::pipeline::Limit;
use buildd_oci::{blob::Provider as _, descriptor::Descriptor, digest::Digest, registry::fetch::Served};
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::sync::mpsc;

use super::Pull;
use crate::{
    chunks,
    content::Writer,
    error::{Error, Result},
    label::Labels,
    snapshot::SnapshotPin,
    transfer::{
        pack::UNCOMPRESSED,
        progress::{Part, Phase},
        unpack,
    },
};

/// Pieces between two of the three; a piece is what one read of the network gave.
const QUEUE: usize = 32;
/// Layers that come at once, of all pulls: stops registries that trickle from taking all threads the daemon may have, at three a layer.
static DOWNLOADS: Limit = Limit::new("pull", 256);

/// What the network gives.
#[derive(Debug)]
enum Piece {
    Data(Bytes),
    /// All of it came; a queue that ends without this was cut.
    End,
}

impl Pull {
    /// Brings a blob; as a layer too if its diff_id is given.
    pub(super) async fn layer(
        &self,
        descriptor: &Descriptor,
        diff_id: Option<Digest>,
        part: &Arc<Part>,
    ) -> Result<Option<SnapshotPin>> {
        let _turn = self.store.digest_locks.lock(&descriptor.digest).await;
        let wanted = descriptor.clone();
        let here = self.on(move |pull| {
            pull.lease.hold_blob(&wanted.digest)?;
            let here = pull.store.content.adopt(&pull.ns, &wanted.digest, wanted.size, &Labels::new())?;
            if here {
                pull.note(&wanted.digest, None)?;
            }
            let known = diff_id.map(|id| pull.store.snapshots.stack_known(None, &id)).transpose()?.flatten();
            Ok((here, known))
        });
        let (here, known) = here.await?;
        match (here, known, diff_id) {
            (true, known, None) | (true, known @ Some(_), _) => {
                part.enter(Phase::Exists);
                Ok(known)
            }
            (true, None, Some(diff_id)) => {
                part.set_done(descriptor.size);
                part.enter(Phase::Extracting);
                let blob = descriptor.clone();
                let layer = self.on(move |pull| {
                    let data = pull.store.content.in_namespace(&pull.ns).open(&blob)?;
                    let layer = unpack::unpack_stream(&pull.store, chunks::of(data), None, &diff_id)?;
                    pull.note(&blob.digest, Some(diff_id))?;
                    Ok(layer)
                });
                let layer = layer.await?;
                part.enter(Phase::Complete);
                Ok(Some(layer))
            }
            (false, known, diff_id) => {
                let unpacks = diff_id.filter(|_| known.is_none());
                let unpacked = match self.download(descriptor, unpacks, part).await {
                    // Whoever sent something else is asked last now.
                    Err(Error::DigestMismatch { expected, .. }) if expected == descriptor.digest => {
                        self.download(descriptor, unpacks, part).await?
                    }
                    done => done?,
                };
                part.enter(Phase::Complete);
                Ok(known.or(unpacked))
            }
        }
    }

    async fn download(
        &self,
        descriptor: &Descriptor,
        diff_id: Option<Digest>,
        part: &Arc<Part>,
    ) -> Result<Option<SnapshotPin>> {
        let pipeline = DOWNLOADS.enter().await;
        let wanted = descriptor.clone();
        let intake = self.on(move |pull| {
            let mut intake = pull.ingest(&wanted)?;
            if intake.offset() > wanted.size {
                intake.seek(0)?;
            }
            Ok(intake)
        });
        let intake = intake.await?;
        let offset = intake.offset();
        part.set_done(offset);
        part.enter(Phase::Downloading);
        let (feed, pieces) = mpsc::channel(QUEUE);
        let (blob, watched) = (descriptor.clone(), Arc::clone(part));
        let pull = self.clone();
        let work = pipeline.start(move || pull.take(intake, &blob, diff_id, pieces, &watched));
        let (fed, taken) = tokio::join!(self.feed(descriptor, offset, feed, part), work.ended());
        let served = fed?;
        if let (Err(Error::DigestMismatch { expected, .. }), Some(served)) = (&taken, served)
            && *expected == descriptor.digest
        {
            served.distrust();
        }
        taken
    }

    /// Sends what the network gives into the queue; whoever reads there tells what goes wrong behind it.
    async fn feed(
        &self,
        descriptor: &Descriptor,
        offset: u64,
        queue: mpsc::Sender<Piece>,
        part: &Part,
    ) -> Result<Option<Served>> {
        let mut served = None;
        if offset < descriptor.size {
            let mut data = self.repository.open(descriptor, offset).await?;
            served = Some(data.served());
            while let Some(piece) = data.next().await {
                let piece = piece?;
                part.add(piece.len());
                if queue.send(Piece::Data(piece)).await.is_err() {
                    return Ok(served);
                }
            }
        }
        let _ = queue.send(Piece::End).await;
        Ok(served)
    }

    /// Stores what comes, and unpacks it beside.
    fn take(
        &self,
        mut intake: Writer,
        blob: &Descriptor,
        diff_id: Option<Digest>,
        mut pieces: mpsc::Receiver<Piece>,
        part: &Part,
    ) -> Result<Option<SnapshotPin>> {
        let before = intake.written()?;
        let (further, behind) = chunks::queue();
        thread::scope(|scope| {
            let unpacking = diff_id.map(|diff_id| {
                let data = chunks::of(before).chain(behind);
                scope.spawn(move || unpack::unpack_stream(&self.store, data, None, &diff_id))
            });
            let unpacks = unpacking.is_some();
            let stored = (|| loop {
                match pieces.blocking_recv() {
                    Some(Piece::Data(piece)) => {
                        intake.write(&piece)?;
                        // A layer may end before its blob does: then nobody reads on.
                        if unpacks {
                            let _ = further.send(Ok(piece));
                        }
                    }
                    Some(Piece::End) => return Ok(()),
                    None => {
                        let source = io::Error::new(io::ErrorKind::UnexpectedEof, "the pull ended");
                        return Err(Error::ReadLayer { source });
                    }
                }
            })();
            drop(further);
            if stored.is_ok() && unpacks {
                part.enter(Phase::Extracting);
            }
            let unpacked = unpacking.map(|thread| match thread.join() {
                Ok(unpacked) => unpacked,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            // A blob that is not what it should be explains a layer that cannot be read.
            stored?;
            // Only who unpacked it knows what a blob is when it is not compressed: a config may claim anything.
            let verified = diff_id.filter(|_| matches!(unpacked, Some(Ok(_))));
            self.commit(intake, blob, verified)?;
            unpacked.transpose()
        })
    }

    /// Begins or goes on with a blob's ingest.
    pub(super) fn ingest(&self, blob: &Descriptor) -> Result<Writer> {
        let name = format!("buildd-{}", crate::transfer::progress::name(blob));
        self.lease.hold_ingest(&name)?;
        self.store.content.writer(&self.ns, &name, blob.size, Some(blob.digest))
    }

    /// Verifies and publishes; an ingest of other bytes is dropped, or the next pull would go on with them.
    pub(super) fn commit(&self, intake: Writer, blob: &Descriptor, diff_id: Option<Digest>) -> Result<()> {
        let name = intake.name().to_owned();
        let labels = self.labels(Labels::new(), diff_id);
        match intake.commit(blob.size, Some(blob.digest), &labels) {
            Ok(_) | Err(Error::AlreadyExists { .. }) => Ok(()),
            Err(error @ (Error::DigestMismatch { .. } | Error::SizeMismatch { .. })) => {
                self.store.content.abort(&self.ns, &name)?;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    /// Notes on a blob that was here what a pull would have noted on it.
    pub(super) fn note(&self, digest: &Digest, diff_id: Option<Digest>) -> Result<()> {
        let note = |labels: &mut Labels| -> Result<(), Infallible> {
            *labels = self.labels(std::mem::take(labels), diff_id);
            Ok(())
        };
        self.store.content.update_labels(&self.ns, digest, note).map(drop)
    }

    /// Where a blob came from, and what it is when it is not compressed: exports find it by that.
    fn labels(&self, mut labels: Labels, diff_id: Option<Digest>) -> Labels {
        let (host, repository) = &self.source;
        let known = labels.entry(host.clone()).or_default();
        if !known.split(',').any(|known| known == repository) {
            if !known.is_empty() {
                known.push(',');
            }
            known.push_str(repository);
        }
        if let Some(diff_id) = diff_id {
            labels.insert(UNCOMPRESSED.to_owned(), diff_id.to_string());
        }
        labels
    }
}
