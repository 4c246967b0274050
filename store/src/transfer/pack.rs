//! Pack: a layer's tar into the content store, compressed on the way.
//!
//! Exports pack the layers that steps wrote, `Diff` packs what two trees differ in; both write a tar here, and nothing is kept in memory
//! but some pieces.
//!
//! # Invariants
//! The blob is labelled with its diff_id before anybody learns its digest.

use std::io::{self, Write};

use buildd_oci::{
    compress::{self, Compression},
    digest::Digest,
};

use crate::{
    chunks,
    content::Content,
    error::{Error, Result},
    label::Labels,
};

/// Label of a compressed blob with the digest of its content.
pub const UNCOMPRESSED: &str = "containerd.io/uncompressed";

/// How a blob is compressed.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// With what.
    pub compression: Compression,
    /// How much; None is the format's default.
    pub level: Option<i32>,
}

/// A layer in the content store.
#[derive(Clone, Copy, Debug)]
pub struct PackedLayer {
    /// The blob.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// The digest of the tar in it.
    pub diff_id: Digest,
}

/// Stores what `write` writes (it returns diff_id and size of the tar), with these labels and the one that tells the diff_id.
pub fn pack(
    content: &Content,
    ns: &str,
    form: Form,
    labels: &Labels,
    write: impl FnOnce(&mut dyn Write) -> Result<(Digest, u64)> + Send,
) -> Result<PackedLayer> {
    let fail = |source| Error::WriteLayer { entry: "its compressed form".to_owned(), source };
    let (queue, mut reader) = chunks::queue();
    let (stored, written) = std::thread::scope(|scope| {
        let packing = scope.spawn(move || {
            chunks::written(queue, |out| {
                let mut compressed =
                    compress::Writer::new(out, form.compression, form.level).map_err(fail)?;
                let (diff_id, _) = write(&mut compressed)?;
                compressed.finish().map_err(fail)?;
                Ok::<_, Error>(diff_id)
            })
        });
        let stored = content.put(ns, &mut reader, labels);
        // If nothing could be stored, the other end must not wait for us.
        drop(reader);
        (stored, packing.join())
    });
    let written = written.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    let written = written?;
    let (digest, size) = stored?;
    let diff_id = written.ok_or_else(|| fail(io::ErrorKind::BrokenPipe.into()))?;
    content.add_labels(ns, &digest, Labels::from([(UNCOMPRESSED.to_owned(), diff_id.to_string())]))?;
    Ok(PackedLayer { digest, size, diff_id })
}
