//! Certs: docker's way to set TLS for a registry, by the names of files in its folder.
//!
//! Used for a folder without a hosts.toml; beside one, the files are only named for `registry explain`.
//!
//! # Invariants
//! They are for the registry itself, never for a mirror (rule 37). Folders and other files mean nothing.
//!
//! # Sources
//! docker `registry.ReadCertsDirectory`; spec registries.md rules 34 to 38.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::super::{Error, host::Tls};

/// Files of one folder that are looked at; more are an attack on whoever lists them.
const FILES: usize = 1000;

/// What the files of `folder` say, and which ones say it.
pub(super) fn read(folder: &Path) -> Result<(Tls, Vec<PathBuf>), Error> {
    let failed = |source| Error::ReadSettings { path: folder.to_owned(), source: Arc::new(source) };
    let mut files = Vec::new();
    for item in fs::read_dir(folder).map_err(failed)?.take(FILES) {
        let path = item.map_err(failed)?.path();
        let named = path.extension().is_some_and(|e| e == "crt" || e == "cert" || e == "key");
        if named && fs::metadata(&path).is_ok_and(|metadata| metadata.is_file()) {
            files.push(path);
        }
    }
    files.sort();
    let mut tls = Tls::default();
    for path in &files {
        if path.extension().is_some_and(|e| e == "crt") {
            tls.ca.push(path.clone());
        } else if path.extension().is_some_and(|e| e == "cert") {
            let key = path.with_extension("key");
            // Without a key of its own the file holds both.
            let key = if files.contains(&key) { key } else { path.clone() };
            tls.client.push((path.clone(), key));
        }
    }
    Ok((tls, files))
}
