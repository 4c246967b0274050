//! Folder: where a domain's settings lie below a root such as /etc/containerd/certs.d.
//!
//! `hosts` asks for each request anew, so that a changed file counts at once.
//!
//! ```text
//! <root>/registry.example_5000_/   hosts.toml, ca.crt, client.cert, client.key
//! <root>/registry.example:5000/
//! <root>/_default/
//! ```
//!
//! # Invariants
//! The first folder that exists wins, alone: nothing is merged (rules 1 to 5).
//!
//! # Sources
//! containerd `core/remotes/docker/config`; nerdctl `hosts_dir`; spec registries.md rules 1 to 7.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{super::Error, address::split_port};

/// Most that a hosts.toml may hold; larger ones are an attack on memory.
const FILE_BYTES: u64 = 256 << 10;

/// The folder for `domain`, if there is one.
pub(super) fn find(roots: &[PathBuf], domain: &str) -> Result<Option<PathBuf>, Error> {
    for root in roots {
        for name in names(domain) {
            let path = root.join(name);
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_dir() => return Ok(Some(path)),
                Ok(_) => {
                    let reason = "it is not a folder".to_owned();
                    let remedy = Some(format!("make it a folder with a hosts.toml: {}", path.display()));
                    return Err(Error::Settings { path, line: None, column: None, reason, remedy });
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(Error::ReadSettings { path, source: Arc::new(source) }),
            }
        }
    }
    Ok(None)
}

/// The names of a domain's folder, best first.
fn names(domain: &str) -> Vec<String> {
    let (host, port) = split_port(domain);
    let mut names = Vec::new();
    if let Some(port) = port {
        names.push(format!("{host}_{port}_"));
    }
    names.push(domain.to_owned());
    // The port that https has anyway (nerdctl).
    if port == Some("443") {
        names.push(host.to_owned());
    }
    names.push("_default".to_owned());
    names
}

/// The text of the folder's hosts.toml; `None` if it is absent or empty (rule 7).
pub(super) fn hosts_toml(path: &Path) -> Result<Option<String>, Error> {
    let refuse = |reason: &str| Error::Settings {
        path: path.to_owned(),
        line: None,
        column: None,
        reason: reason.to_owned(),
        remedy: None,
    };
    let failed = |source| Error::ReadSettings { path: path.to_owned(), source: Arc::new(source) };
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => {}
        // A pipe in its place would be waited for without end.
        Ok(_) => return Err(refuse("it is not a regular file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed(source)),
    }
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(refuse("it is larger than 256 KiB"));
    }
    let text = String::from_utf8(bytes).map_err(|_| refuse("it is not UTF-8 text"))?;
    Ok((!text.is_empty()).then_some(text))
}
