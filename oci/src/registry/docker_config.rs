//! DockerConfig: credentials where docker's tools keep them, for tools and daemons that share a user's logins.
//!
//! `buildctl` reads $DOCKER_CONFIG/config.json for sessions and writes it for login and logout; a daemon may be given a file too.
//!
//! # On disk
//! ```json
//! {"auths": {"reg.example": {"auth": "base64 of name:password", "identitytoken": "..", "registrytoken": ".."}},
//!  "credHelpers": {"reg.example": "NAME"}, "credsStore": "NAME"}
//! ```
//! NAME is a program `docker-credential-NAME`, asked before the file: the host's own helper, then the store, then `auths`.
//!
//! # Invariants
//! A host is found only under its own name, with its port: a name that looks like it is another host (NET-19). Keys of the file that
//! we do not know survive a write; a write is whole or not at all, and readable by its owner only. No message quotes the file.
//!
//! # Sources
//! docker cli `cli/config`; docker-credential-helpers; spec registries.md rules 75 and 83.

mod file;
mod helper;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use self::{
    file::{Entry, File},
    helper::{Answer, Helper},
};
use super::{
    Error,
    auth::{Credential, Credentials, Redacted},
    hosts::address::{HUB, HUB_API},
};

/// The key of Docker Hub, which is older than registries' names.
const HUB_KEY: &str = "https://index.docker.io/v1/";
/// Other names of it.
const HUB_NAMES: [&str; 3] = [HUB, HUB_API, "index.docker.io"];
/// A name in the place of a user's: the secret is an identity token.
const TOKEN_USER: &str = "<token>";

/// One configuration file and the helpers that it names.
#[derive(Debug)]
pub struct DockerConfig {
    path: PathBuf,
    file: File,
    /// Where helpers lie; empty: wherever PATH says.
    helpers: PathBuf,
}

/// Where a login was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// In the file, as good as in the open.
    File(PathBuf),
    /// With the program `docker-credential-NAME`.
    Helper(String),
}

/// One login that is kept somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The registry, as it is written there.
    pub registry: String,
    /// The user's name; `<token>` for an identity token.
    pub username: String,
    /// Where.
    pub kept: Kept,
}

impl DockerConfig {
    /// Reads the file at `path`; without one nothing is known.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Ok(Self { path: path.to_owned(), file: File::read(path)?, helpers: PathBuf::new() })
    }

    /// What is known for `host`, a registry's name and port.
    pub async fn find(&self, host: &str) -> Result<Credential, Error> {
        if let Some(name) = self.own_helper(host) {
            match self.helper(host, name)?.get(&spellings(host)).await? {
                Answer::Found(credential) => return Ok(credential),
                Answer::NotFound => {}
                Answer::NotInstalled => return Err(not_installed(host, name)),
            }
        } else if let Some(name) = self.store_helper() {
            match self.helper(host, name)?.get(&spellings(host)).await? {
                Answer::Found(credential) => return Ok(credential),
                Answer::NotFound => {}
                // A file that came from another machine: what needs no login must go on working.
                Answer::NotInstalled => {
                    tracing::warn!("{}: {}", self.path.display(), not_installed(host, name));
                }
            }
        }
        match self.file.auths.iter().flatten().find(|(key, entry)| is_for(key, host) && !entry.is_empty()) {
            Some((_, entry)) => credential(host, entry),
            None => Ok(Credential::Anonymous),
        }
    }

    /// Keeps what a login of `host` proved to be right.
    pub async fn store(&self, host: &str, username: &str, secret: &Redacted) -> Result<Kept, Error> {
        let auth = STANDARD.encode(format!("{username}:{}", secret.0));
        self.keep(host, serde_json::json!({ "auth": auth }), (username, secret)).await
    }

    /// Keeps the identity token that a login of `host` brought, instead of the password.
    pub async fn store_identity(&self, host: &str, username: &str, token: &Redacted) -> Result<Kept, Error> {
        let auth = STANDARD.encode(format!("{username}:"));
        let entry = serde_json::json!({ "auth": auth, "identitytoken": token.0 });
        self.keep(host, entry, (TOKEN_USER, token)).await
    }

    async fn keep(
        &self,
        host: &str,
        entry: serde_json::Value,
        (username, secret): (&str, &Redacted),
    ) -> Result<Kept, Error> {
        let key = key(host);
        let Some(name) = self.own_helper(host).or(self.store_helper()) else {
            file::set(&self.path, &key, |other| is_for(other, host), entry)?;
            return Ok(Kept::File(self.path.clone()));
        };
        if !self.helper(host, name)?.store(&key, username, secret).await? {
            return Err(not_installed(host, name));
        }
        // Compat: docker lists its logins by the keys of the file; the secret is not among them.
        file::set(&self.path, &key, |other| is_for(other, host), serde_json::json!({}))?;
        Ok(Kept::Helper(name.to_owned()))
    }

    /// All that is known, by registry: of the file, and of the helpers that it names.
    pub async fn list(&self) -> Result<Vec<Login>, Error> {
        let mut logins = BTreeMap::new();
        for (registry, entry) in self.file.auths.iter().flatten().filter(|(_, entry)| !entry.is_empty()) {
            let username = match credential(registry, entry)? {
                Credential::Basic { username, .. } => username,
                _ => TOKEN_USER.to_owned(),
            };
            let kept = Kept::File(self.path.clone());
            logins.insert(registry.clone(), Login { registry: registry.clone(), username, kept });
        }
        let helpers: BTreeSet<&str> =
            self.file.cred_helpers.iter().flatten().map(|(_, name)| name.as_str()).collect();
        for name in helpers.into_iter().chain(self.store_helper()).filter(|name| !name.is_empty()) {
            let helper = self.helper("every registry", name)?;
            for (registry, username) in helper.list().await?.unwrap_or_default() {
                // A helper knows all that it keeps; the file says which of it counts.
                if self.own_helper(&registry).or(self.store_helper()) == Some(name) {
                    let kept = Kept::Helper(name.to_owned());
                    logins.insert(registry.clone(), Login { registry, username, kept });
                }
            }
        }
        Ok(logins.into_values().collect())
    }

    /// Forgets what is known for `host`; whether there was something.
    pub async fn erase(&self, host: &str) -> Result<bool, Error> {
        let mut known = false;
        if let Some(name) = self.own_helper(host).or(self.store_helper()) {
            let helper = self.helper(host, name)?;
            for spelling in spellings(host) {
                if let Answer::Found(_) = helper.get(std::slice::from_ref(&spelling)).await? {
                    known = true;
                    helper.erase(&spelling).await?;
                }
            }
        }
        Ok(file::remove(&self.path, |key| is_for(key, host))? || known)
    }

    fn own_helper(&self, host: &str) -> Option<&str> {
        let found = self.file.cred_helpers.iter().flatten().find(|(key, _)| is_for(key, host));
        found.map(|(_, name)| name.as_str()).filter(|name| !name.is_empty())
    }

    fn store_helper(&self) -> Option<&str> {
        self.file.creds_store.as_deref().filter(|name| !name.is_empty())
    }

    fn helper(&self, host: &str, name: &str) -> Result<Helper, Error> {
        Helper::new(&self.helpers, host, name)
    }
}

#[async_trait::async_trait]
impl Credentials for DockerConfig {
    async fn credential(&self, host: &str) -> Result<Credential, Error> {
        self.find(host).await
    }
}

/// The key that docker writes for a host.
fn key(host: &str) -> String {
    if HUB_NAMES.contains(&host) { HUB_KEY.to_owned() } else { host.to_owned() }
}

/// The keys that a helper is asked for.
fn spellings(host: &str) -> Vec<String> {
    let key = key(host);
    if key == HUB_KEY { vec![key] } else { vec![key, format!("https://{host}")] }
}

/// Whether a key of the file means `host`: its name, with or without scheme and API path.
fn is_for(key: &str, host: &str) -> bool {
    let bare = |text: &str| {
        let text = text.strip_prefix("https://").or(text.strip_prefix("http://")).unwrap_or(text);
        let (name, path) = text.split_once('/').unwrap_or((text, ""));
        let name = name.strip_suffix(":443").unwrap_or(name).to_ascii_lowercase();
        let name = if HUB_NAMES.contains(&name.as_str()) { HUB.to_owned() } else { name };
        matches!(path, "" | "v1" | "v1/" | "v2" | "v2/").then_some(name)
    };
    bare(key).is_some_and(|name| bare(host) == Some(name))
}

fn credential(host: &str, entry: &Entry) -> Result<Credential, Error> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    if let Some(token) = given(&entry.registrytoken) {
        return Ok(Credential::Bearer(Redacted(token)));
    }
    if let Some(token) = given(&entry.identitytoken) {
        return Ok(Credential::Refresh(Redacted(token)));
    }
    if let Some((username, password)) = given(&entry.username).zip(given(&entry.password)) {
        return Ok(pair(username, password));
    }
    let wrong = || Error::Credentials {
        host: host.to_owned(),
        reason: "their auth is not the base64 form of name:password".to_owned(),
    };
    let Some(auth) = given(&entry.auth) else { return Ok(Credential::Anonymous) };
    let text = STANDARD
        .decode(auth.trim())
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(wrong)?;
    let (username, password) = text.split_once(':').ok_or_else(wrong)?;
    Ok(pair(username.to_owned(), password.trim_end_matches('\0').to_owned()))
}

/// What a name and a secret are.
fn pair(username: String, secret: String) -> Credential {
    let secret = Redacted(secret);
    match username.as_str() {
        _ if secret.0.is_empty() => Credential::Anonymous,
        "" | TOKEN_USER => Credential::Refresh(secret),
        _ => Credential::Basic { username, password: secret },
    }
}

fn not_installed(host: &str, name: &str) -> Error {
    let reason = format!("the program docker-credential-{name} is not installed");
    Error::Credentials { host: host.to_owned(), reason }
}

#[cfg(test)]
mod tests;
