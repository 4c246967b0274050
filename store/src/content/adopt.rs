//! Adopt: a blob that another namespace has, without its bytes coming again.

use std::{sync::PoisonError, time::SystemTime};

use buildd_api::containerd::containerd::events::ContentCreate;
use buildd_oci::digest::Digest;
use rusqlite::params;

use super::Content;
use crate::{
    db::to_nanos,
    error::Result,
    label::{Labels, labels_text},
};

impl Content {
    /// Gives `ns` a blob that some namespace has; whether it has it now.
    ///
    /// Compat: containerd's content sharing policy `shared`: whoever can name a blob's digest and size may have it.
    pub fn adopt(&self, ns: &str, digest: &Digest, size: u64, labels: &Labels) -> Result<bool> {
        if self.info(ns, digest).is_ok_and(|info| info.size == size) {
            return Ok(true);
        }
        let _files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let new = self.db.write_durable("adopt a blob", |tx| {
            let now = to_nanos(SystemTime::now());
            tx.execute(
                "INSERT OR IGNORE INTO blobs SELECT ?, digest, size, ?, ?, ? FROM blobs WHERE digest = ? AND size = ? LIMIT 1",
                params![ns, labels_text(labels), now, now, digest.to_string(), size.cast_signed()],
            )
        })?;
        if new == 1 {
            let made = ContentCreate { digest: digest.to_string(), size: size.cast_signed() };
            self.db.events.publish(ns, "/content/create", &made);
        }
        Ok(new == 1)
    }
}
