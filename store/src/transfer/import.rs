//! Intake: the blobs of an archive, each stored as it comes and unpacked beside if it turns out to be a layer.
//!
//! An archive tells only at its end which of its blobs are layers. So each large one is tried: what is no layer leaves nothing, and what was
//! unpacked in vain goes with the hold on it. The image's unpacking then finds its layers by their diff_ids.
//!
//! # Invariants
//! Trying decides nothing: a layer that cannot be read fails when the image that names it is unpacked, and only then.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    sync::mpsc::SyncSender,
    thread,
    time::SystemTime,
};

use buildd_oci::{
    archive::{File, ImportSink},
    digest::Digest,
};
use bytes::Bytes;

use crate::{
    chunks::{self, Piece},
    error::Result,
    label::Labels,
    root::Store,
    snapshot::SnapshotPin,
    transfer::{pack::UNCOMPRESSED, unpack},
};

/// Smaller files are unpacked when it is known that they are layers: a thread for each would cost more.
const MIN_LAYER: u64 = 1 << 20;

/// Takes an archive's files into a namespace.
#[derive(Debug)]
pub struct Intake<'a> {
    store: &'a Store,
    ns: &'a str,
    /// Whether layers are wanted unpacked.
    unpacks: bool,
    began: SystemTime,
    taken: Vec<Digest>,
    /// Layers, so that nobody collects them before their image is unpacked.
    held: Vec<SnapshotPin>,
}

impl<'a> Intake<'a> {
    /// Begins one.
    pub fn new(store: &'a Store, ns: &'a str, unpacks: bool) -> Self {
        Self { store, ns, unpacks, began: SystemTime::now(), taken: Vec::new(), held: Vec::new() }
    }

    /// Deletes what was not there before.
    pub fn undo(self) -> Result<()> {
        for digest in &self.taken {
            if self.store.content.info(self.ns, digest).is_ok_and(|info| info.created >= self.began) {
                self.store.content.delete(self.ns, digest)?;
            }
        }
        Ok(())
    }

    /// The layer of a blob that is here already; a wrong claim only means that nothing is tried or that a try is in vain.
    fn known(&self, claimed: &Digest) -> Option<SnapshotPin> {
        let info = self.store.content.info(self.ns, claimed).ok()?;
        let diff_id = info.labels.get(UNCOMPRESSED).and_then(|id| id.parse().ok()).unwrap_or(*claimed);
        self.store.snapshots.stack_known(None, &diff_id).ok()?
    }

    /// Stores `data` and unpacks it beside.
    fn take_layer(&mut self, data: &mut dyn Read) -> Result<(Digest, u64)> {
        let (store, ns) = (self.store, self.ns);
        let (further, pieces) = chunks::queue();
        let (stored, unpacked) = thread::scope(|scope| {
            let unpacking = scope.spawn(move || {
                let unpacked = unpack::apply(store, pieces, None, None);
                unpacked.inspect_err(|error| tracing::debug!(%error, "a file of an archive is no layer")).ok()
            });
            let mut copy = Copy { data, further };
            let stored = store.content.put(ns, &mut copy, &BTreeMap::new());
            drop(copy);
            (stored, unpacking.join())
        });
        let (digest, size) = stored?;
        if let Some((hold, applied)) = unpacked.unwrap_or_else(|panic| std::panic::resume_unwind(panic)) {
            self.held.push(hold);
            let label = (UNCOMPRESSED.to_owned(), applied.diff_id.to_string());
            store.content.add_labels(ns, &digest, Labels::from([label]))?;
        }
        Ok((digest, size))
    }

    fn take(&mut self, file: File, data: &mut dyn Read) -> Result<(Digest, u64)> {
        let mut layer = self.unpacks && file.size >= MIN_LAYER;
        if let Some(known) = file.claimed.filter(|_| layer).and_then(|claimed| self.known(&claimed)) {
            self.held.push(known);
            layer = false;
        }
        let (digest, size) = match layer {
            true => self.take_layer(data)?,
            false => self.store.content.put(self.ns, data, &BTreeMap::new())?,
        };
        self.taken.push(digest);
        Ok((digest, size))
    }
}

impl ImportSink for Intake<'_> {
    fn put(&mut self, file: File, data: &mut dyn Read) -> Result<(Digest, u64), buildd_oci::Error> {
        self.take(file, data).map_err(|error| buildd_oci::Error::Store {
            operation: "store",
            digest: file.claimed.unwrap_or(Digest::of(b"")),
            kind: error.kind(),
            source: Box::new(error),
        })
    }
}

/// Passes on what is read; whoever is behind may have stopped to listen.
struct Copy<'a> {
    data: &'a mut dyn Read,
    further: SyncSender<Piece>,
}

impl Read for Copy<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.data.read(buffer)?;
        if count > 0 {
            let _ = self.further.send(Ok(Bytes::copy_from_slice(&buffer[..count])));
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
