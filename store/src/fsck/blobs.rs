//! Blobs: each row has its bytes, with its digest and its size, in a file of their own or as the tar of a layer.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};

use buildd_oci::digest::Digest;

use super::{
    Check, Class, Fix,
    names::labels_are_wrong,
    rows::{BlobRow, LayerRow},
};
use crate::{
    error::{Error, Result},
    layer::open_tar,
};

/// Bytes that are read at once.
const BUFFER: usize = 1 << 20;
const DELETE: &str = "DELETE FROM blobs WHERE ns = ? AND digest = ?";

/// The digest and size of what is read, by the algorithm of `like`.
pub(super) fn hash(data: &mut dyn Read, like: &Digest) -> io::Result<(Digest, u64)> {
    let mut digester = like.algorithm().digester();
    let size = io::copy(&mut BufReader::with_capacity(BUFFER, data), &mut digester)?;
    Ok((digester.finish(), size))
}

impl Check<'_> {
    /// Every blob, once, however many namespaces have it.
    pub(super) fn blobs(&mut self) -> Result<()> {
        let mut by_digest: BTreeMap<String, Vec<BlobRow>> = BTreeMap::new();
        for row in &self.rows.blobs {
            by_digest.entry(row.digest.clone()).or_default().push(row.clone());
        }
        for (text, rows) in by_digest {
            let Ok(digest) = text.parse::<Digest>() else {
                self.drop_rows(&rows, None, |_| Some(format!("{text:?} is no digest")));
                continue;
            };
            let path = self.blob_path(&digest);
            match self.bytes(&digest)? {
                Ok(size) => {
                    self.drop_rows(&rows, Some(&path), |row| match row.size == Some(size.cast_signed()) {
                        true => labels_are_wrong(&row.labels).then(|| "its labels are no labels".to_owned()),
                        false => {
                            Some(format!("its row says {} bytes, it has {size}", row.size.unwrap_or(-1)))
                        }
                    })
                }
                Err((class, wrong)) => {
                    self.gone.blobs.insert(text.clone());
                    let mut fixes: Vec<Fix> =
                        rows.iter().map(|row| Fix::Row(DELETE, row.key.clone())).collect();
                    fixes.push(Fix::Remove(path));
                    self.report(class, "blob", text, wrong, fixes);
                }
            }
        }
        Ok(())
    }

    /// Drops the rows that are wrong, and with the last one of a blob its file.
    fn drop_rows(
        &mut self,
        rows: &[BlobRow],
        file: Option<&Path>,
        wrong: impl Fn(&BlobRow) -> Option<String>,
    ) {
        let mut left = rows.len();
        for row in rows {
            let Some(wrong) = wrong(row) else { continue };
            left -= 1;
            let mut fixes = vec![Fix::Row(DELETE, row.key.clone())];
            fixes.extend(file.filter(|_| left == 0).map(|file| Fix::Remove(file.to_owned())));
            self.gone.blob_rows.insert((row.ns.clone(), row.digest.clone()));
            self.report(Class::Damage, "blob", format!("{} {}", row.ns, row.digest), wrong, fixes);
        }
    }

    pub(super) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("content/blobs").join(digest.algorithm().as_str()).join(digest.hex())
    }

    /// The size of a blob's bytes, or what is wrong with them.
    fn bytes(&self, digest: &Digest) -> Result<Result<u64, (Class, String)>> {
        let path = self.blob_path(digest);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.bytes_in_layer(digest),
            Err(error) => return Err(Error::file("open", path)(error)),
        };
        Ok(match hash(&mut file, digest) {
            Ok((actual, size)) if actual == *digest => Ok(size),
            Ok((actual, size)) => Err((Class::Damage, format!("its {size} bytes hash to {actual}"))),
            Err(error) => Err((Class::Damage, format!("{} cannot be read: {error}", path.display()))),
        })
    }

    /// The same of one that is the tar of a layer, which was hashed with the layers.
    fn bytes_in_layer(&self, digest: &Digest) -> Result<Result<u64, (Class, String)>> {
        let text = digest.to_string();
        let holding = |row: &LayerRow| row.blob == Some(1) && row.diff_id.as_ref() == Some(&text);
        let mut missing = (Class::Damage, "its file is missing, and no layer has its bytes".to_owned());
        for (id, row) in self.rows.layers.iter().filter(|(_, row)| holding(row)) {
            if let Some(class) = self.gone.layers.get(id) {
                missing = (*class, format!("its only copy is layer {id}"));
            } else if row.durable != Some(1) {
                missing.1 = format!("its only copy, layer {id}, is not marked durable");
            } else if let Some(tar) = open_tar(&self.root.join("layers").join(id.to_string()))? {
                return Ok(Ok(tar.size()));
            }
        }
        Ok(Err(missing))
    }

    /// The bytes of a document that is whole, if it is not larger than `limit`.
    pub(super) fn document(&self, digest: &Digest, limit: u64) -> Option<Vec<u8>> {
        let path = self.blob_path(digest);
        let size = fs::metadata(&path).ok()?.len();
        (size <= limit).then(|| fs::read(&path).ok()).flatten()
    }
}
