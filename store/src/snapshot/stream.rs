//! Stream: layers from and to tar streams.
//!
//! Imports and pulls bring layers as streams; exports and pushes want them so. A layer file is such a stream with an index around it: it is
//! written as it comes and read as it lies.

use std::{
    io::{BufRead, Read, Write},
    path::Path,
};

use buildd_oci::digest::{Digest, Digester};

use super::{SnapshotId, SnapshotPin, Snapshots};
use crate::{
    error::{Error, Result},
    layer::{
        Applied, Blob, DirectoryWriter, ExportOptions, LayerId, Whiteouts, adopt_tar, apply_tar, open_tar,
        write_tar,
    },
};

/// Bytes that are copied at once.
const BUFFER: usize = 256 << 10;

impl Snapshots {
    /// Makes an uncompressed layer stream the layer above `parent`; `expected` is the diff_id it must have.
    pub fn apply(
        &self,
        parent: Option<SnapshotId>,
        stream: &mut dyn BufRead,
        expected: Option<Digest>,
    ) -> Result<(SnapshotPin, Applied)> {
        let (scratch, applied) = match self.form.files {
            true => {
                let scratch = self.scratch_file();
                let applied = adopt_tar(stream, scratch.path())?;
                (scratch, applied)
            }
            false => {
                let scratch = self.scratch()?;
                let applied = apply_tar(stream, &mut DirectoryWriter::new(scratch.path(), Whiteouts::Mark)?)?;
                (scratch, applied)
            }
        };
        if let Some(expected) = expected.filter(|expected| *expected != applied.diff_id) {
            return Err(Error::DigestMismatch { expected, actual: applied.diff_id, size: applied.size });
        }
        Ok((self.commit_folder(parent, scratch.path(), Some(applied.diff_id))?, applied))
    }

    /// Stacks a layer file that is there already above `parent`, found by its diff_id.
    ///
    /// A folder that was exported with that diff_id would not do: at the bottom of a stack, whiteouts leave no mark in it.
    pub fn stack_known(&self, parent: Option<SnapshotId>, diff_id: &Digest) -> Result<Option<SnapshotPin>> {
        // Nothing is collected meanwhile.
        let mut held = self.pinned.lock();
        let layers: Vec<LayerId> = self.db.read("find a layer", |c| {
            let mut rows = c.prepare("SELECT id FROM layers WHERE diff_id = ?")?;
            let ids = rows.query_map([diff_id.to_string()], |row| row.get(0).map(LayerId))?;
            ids.collect()
        })?;
        let known = layers.into_iter().find(|layer| self.is_file(*layer));
        known.map(|layer| self.insert(parent, layer, &mut held)).transpose()
    }

    /// Writes a layer as a tar; returns its diff_id and size.
    pub fn write_layer(
        &self,
        layer: LayerId,
        out: &mut dyn Write,
        options: ExportOptions,
    ) -> Result<(Digest, u64)> {
        let stored = self.folder(layer);
        if self.is_file(layer)
            && options.epoch.is_none()
            && let Some(tar) = open_tar(&stored)?
        {
            return copy_tar(tar, &stored, out);
        }
        write_tar(&self.layer_tree(layer)?.path(), out, options)
    }
}

fn copy_tar(mut tar: Blob, stored: &Path, out: &mut dyn Write) -> Result<(Digest, u64)> {
    let fail = |source| Error::WriteLayer { entry: stored.display().to_string(), source };
    let mut digester = Digester::default();
    let mut buffer = vec![0; BUFFER];
    loop {
        let n = tar.read(&mut buffer).map_err(fail)?;
        if n == 0 {
            break;
        }
        digester.update(&buffer[..n]);
        out.write_all(&buffer[..n]).map_err(fail)?;
    }
    let size = digester.size();
    Ok((digester.finish(), size))
}
