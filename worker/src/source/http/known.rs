//! Known: what servers said of the files they sent, so that the next build can ask whether they are still so.
//!
//! The bytes are not here: they are a result of the build cache, found by the key that this remembers, and fetched again if they are gone.
//! Nothing is remembered of requests that carried a secret.

use std::time::SystemTime;

use buildd_oci::digest::Digest;
use buildd_store::{db::to_nanos, root::Store};
use rusqlite::{OptionalExtension, params};

use super::{Fetched, HttpRequest};
use crate::error::Result;

/// Files that are remembered, the latest ones: a build that names ever new URLs does not fill the database.
const MAX_KNOWN: i64 = 10_000;
/// Longest validator that is kept.
const MAX_VALIDATOR: usize = 1024;

/// A file that came before.
#[derive(Clone, Debug)]
pub(super) struct Known {
    etag: String,
    pub(super) modified: String,
    pub(super) name: String,
    pub(super) digest: Digest,
}

impl Known {
    /// The headers that ask whether it changed.
    pub(super) fn validators(&self) -> Vec<(String, String)> {
        match (self.etag.as_str(), self.modified.as_str()) {
            ("", "") => Vec::new(),
            ("", modified) => vec![("if-modified-since".to_owned(), modified.to_owned())],
            (etag, _) => vec![("if-none-match".to_owned(), etag.to_owned())],
        }
    }
}

/// The name of a request: of its URL (which may hold a password) only a hash is kept.
fn request(wanted: &HttpRequest) -> String {
    let text = serde_json::json!([wanted.url, wanted.headers, wanted.name(None)]).to_string();
    Digest::of(text.as_bytes()).to_string()
}

/// What is known of a file.
pub(super) fn find(store: &Store, wanted: &HttpRequest) -> Result<Option<Known>> {
    if wanted.secret.is_some() {
        return Ok(None);
    }
    let row = store.db.read("find a remote file", |c| {
        let mut rows =
            c.prepare_cached("SELECT etag, modified, name, digest FROM remote_files WHERE request = ?")?;
        let row = rows.query_row([request(wanted)], |row| {
            let digest: String = row.get(3)?;
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, digest))
        });
        row.optional()
    })?;
    let Some((etag, modified, name, digest)) = row else { return Ok(None) };
    Ok(Some(Known { etag, modified, name, digest: digest.parse()? }))
}

/// Remembers a file that came, if its server said how to ask for it again.
pub(super) fn keep(store: &Store, wanted: &HttpRequest, fetched: &Fetched) -> Result<()> {
    let fits = |text: &String| text.len() <= MAX_VALIDATOR;
    let told = !fetched.etag.is_empty() || !fetched.modified.is_empty();
    let wise = wanted.secret.is_none() && told && fits(&fetched.etag) && fits(&fetched.modified);
    let request = request(wanted);
    store.db.write("remember a remote file", |tx| {
        if !wise {
            return tx.execute("DELETE FROM remote_files WHERE request = ?", [request]);
        }
        tx.execute(
            "INSERT OR REPLACE INTO remote_files (request, etag, modified, name, digest, used)
             VALUES (?, ?, ?, ?, ?, ?)",
            params![
                request,
                fetched.etag,
                fetched.modified,
                fetched.name,
                fetched.digest.to_string(),
                to_nanos(SystemTime::now())
            ],
        )?;
        tx.execute(
            "DELETE FROM remote_files WHERE request NOT IN
                (SELECT request FROM remote_files ORDER BY used DESC LIMIT ?)",
            [MAX_KNOWN],
        )
    })?;
    Ok(())
}
