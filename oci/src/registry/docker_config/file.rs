//! File: docker's config.json, read for what it says about credentials and rewritten with everything else kept.
//!
//! # Invariants
//! A message tells the place and never the text: what is wrong may be a password. The new file is complete before it takes the place of
//! the old one, and was never readable by others.

use std::{
    collections::BTreeMap,
    fmt, fs,
    io::{self, Read as _, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::Path,
    sync::Arc,
};

use serde_json::{Map, Value};

use super::super::Error;

/// Most that the file may hold; larger ones are an attack on memory.
const FILE_BYTES: u64 = 1 << 20;

/// What matters of the file.
#[derive(Default, serde::Deserialize)]
pub(super) struct File {
    pub(super) auths: Option<BTreeMap<String, Entry>>,
    #[serde(rename = "credHelpers")]
    pub(super) cred_helpers: Option<BTreeMap<String, String>>,
    #[serde(rename = "credsStore")]
    pub(super) creds_store: Option<String>,
}

/// What is known for one host.
#[derive(Default, serde::Deserialize)]
pub(super) struct Entry {
    pub(super) auth: Option<String>,
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
    pub(super) identitytoken: Option<String>,
    pub(super) registrytoken: Option<String>,
}

impl Entry {
    /// Whether it only says that a helper knows more.
    pub(super) fn is_empty(&self) -> bool {
        [&self.auth, &self.username, &self.identitytoken, &self.registrytoken]
            .iter()
            .all(|text| text.as_deref().unwrap_or_default().is_empty())
    }
}

impl fmt::Debug for File {
    /// Without the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let auths: Vec<_> = self.auths.iter().flatten().map(|(key, _)| key).collect();
        f.debug_struct("File")
            .field("auths", &auths)
            .field("credHelpers", &self.cred_helpers)
            .field("credsStore", &self.creds_store)
            .finish()
    }
}

impl File {
    /// Reads the file at `path`; one that is absent or empty says nothing.
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        parse(path, &bytes(path)?)
    }
}

fn bytes(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::ReadSettings { path: path.to_owned(), source: Arc::new(source) };
    let mut bytes = Vec::new();
    match fs::File::open(path) {
        Ok(file) => file.take(FILE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(source) => return Err(failed(source)),
    };
    if bytes.len() as u64 > FILE_BYTES {
        return Err(wrong(path, None, "it is larger than 1 MiB"));
    }
    Ok(bytes)
}

fn parse<T: Default + serde::de::DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, Error> {
    if bytes.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(bytes).map_err(|error| {
        let reason = match error.classify() {
            serde_json::error::Category::Data => "a value is not of the type that docker writes",
            _ => "it is not JSON",
        };
        wrong(path, Some((error.line(), error.column())), reason)
    })
}

fn wrong(path: &Path, place: Option<(usize, usize)>, reason: &str) -> Error {
    let (line, column) = place.unzip();
    let remedy = Some("repair it, or move it away and log in again".to_owned());
    Error::Settings { path: path.to_owned(), line, column, reason: reason.to_owned(), remedy }
}

/// Sets `auths[key]` in place of all keys that are `same`.
pub(super) fn set(path: &Path, key: &str, same: impl Fn(&str) -> bool, entry: Value) -> Result<(), Error> {
    change(path, |auths| {
        auths.retain(|other, _| !same(other));
        auths.insert(key.to_owned(), entry);
        true
    })
    .map(drop)
}

/// Removes all keys that are `same` from `auths`; whether there were any.
pub(super) fn remove(path: &Path, same: impl Fn(&str) -> bool) -> Result<bool, Error> {
    change(path, |auths| {
        let before = auths.len();
        auths.retain(|key, _| !same(key));
        auths.len() < before
    })
}

/// Applies `how` to `auths` and writes the file if something changed.
fn change(path: &Path, how: impl FnOnce(&mut Map<String, Value>) -> bool) -> Result<bool, Error> {
    let mut root: Map<String, Value> = parse(path, &bytes(path)?)?;
    let auths = root.entry("auths").or_insert_with(|| Value::Object(Map::new()));
    if auths.is_null() {
        *auths = Value::Object(Map::new());
    }
    let auths = auths.as_object_mut().ok_or_else(|| wrong(path, None, "auths is not an object"))?;
    let changed = how(auths);
    if changed {
        let text = format!("{:#}\n", Value::Object(root));
        write(path, text.as_bytes())
            .map_err(|source| Error::WriteSettings { path: path.to_owned(), source: Arc::new(source) })?;
    }
    Ok(changed)
}

fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    // A link stays one: dotfiles are often kept elsewhere.
    let path = match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        path => path?,
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // Such files are made with mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text)?;
    file.as_file().sync_all()?;
    file.persist(&path)?;
    fs::File::open(folder)?.sync_all()
}
