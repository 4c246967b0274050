//! Known: all that a daemon's flags and configuration files say of hosts, gathered into one `HostsConfig`.
//!
//! The daemon gathers once at its start; `registry explain` gathers the same from the files that the daemon names.
//!
//! # Invariants
//! Folders come from flags, else from `[registry] config_path`, else from containerd's `config_path`, else they are containerd's and
//! docker's own. BuildKit's tables come before containerd's older ones.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Deserialize;

use super::{
    super::Error,
    DEFAULT_ROOTS, HostsConfig,
    buildkit::{self, Registries},
    legacy,
};

/// Where containerd has its configuration: its mirrors go on to work.
const CONTAINERD: &str = "/etc/containerd/config.toml";
/// Bytes of a configuration that are read: nobody writes more by hand.
const MAX_FILE: u64 = 4 << 20;

/// What was gathered.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The settings.
    pub hosts: HostsConfig,
    /// How to write older forms today, a line for each.
    pub advice: Vec<String>,
}

/// The part of a configuration that counts here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Configuration {
    registry: Registries,
}

impl Known {
    /// Gathers what `flags`, the daemon's own file (path and text) and containerd's file say.
    pub fn gather(flags: &[PathBuf], file: Option<(&Path, &str)>) -> Result<Self, Error> {
        let mut known = Self::default();
        known.hosts.roots = flags.to_vec();
        let mut older = Vec::new();
        if let Some((path, text)) = file {
            let Configuration { registry } =
                toml::from_str(text).map_err(|error| refused(path, text, &error))?;
            known.roots_if_none(registry.config_path.iter().flat_map(|paths| paths.split(':')));
            known.hosts.tables = buildkit::tables(&registry.hosts, path)?;
            older.push(legacy::from_containerd(text, path)?);
        }
        if let Some(text) = read(Path::new(CONTAINERD))? {
            older.push(legacy::from_containerd(&text, Path::new(CONTAINERD))?);
        }
        for older in older {
            known.advice.extend(older.advice);
            known.hosts.tables.extend(older.tables);
            if known.hosts.roots.is_empty() {
                known.hosts.roots = older.roots;
            }
        }
        known.roots_if_none(DEFAULT_ROOTS.into_iter());
        Ok(known)
    }

    /// The same, with the daemon's own file still to be read.
    pub fn of_file(flags: &[PathBuf], path: &Path) -> Result<Self, Error> {
        let text = read(path)?;
        Self::gather(flags, text.as_ref().map(|text| (path, text.as_str())))
    }

    fn roots_if_none<'a>(&mut self, paths: impl Iterator<Item = &'a str>) {
        if self.hosts.roots.is_empty() {
            self.hosts.roots = paths.filter(|path| !path.is_empty()).map(PathBuf::from).collect();
        }
    }
}

fn refused(path: &Path, text: &str, error: &toml::de::Error) -> Error {
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.map(|before| before.lines().count().max(1));
    Error::Settings {
        path: path.to_owned(),
        line,
        column: None,
        reason: error.message().to_owned(),
        remedy: None,
    }
}

/// The text of a file; None if there is none.
fn read(path: &Path) -> Result<Option<String>, Error> {
    let fail = |error: io::Error| Error::ReadSettings { path: path.to_owned(), source: Arc::new(error) };
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(fail)?,
    };
    let mut text = String::new();
    file.take(MAX_FILE).read_to_string(&mut text).map_err(fail)?;
    Ok(Some(text))
}
