//! Authority: proof that two sessions have the same login, without showing it.
//!
//! A daemon that keeps tokens asks each session for a public key under a salt of its own. Sessions with the same key may use each other's
//! tokens, after they signed something with it. The key comes from the login and from a secret of this user, so that nobody can find a
//! weak password by trying keys.
//!
//! # On disk
//! ```text
//! ~/.docker/.token_seed        {"reg.example": {"Seed": "base64 of 16 bytes"}}    as BuildKit's clients keep it
//! ~/.docker/.token_seed.lock
//! ```
//! Where it cannot be kept, the secret is this process's own: other sessions then ask for tokens of their own.
//!
//! # Sources
//! moby/buildkit `session/auth/authprovider/{authprovider,tokenseed}.go`.

use std::{
    collections::BTreeMap,
    fs, io,
    io::{Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use buildd_oci::registry::auth::Credential;
use rand::RngCore as _;
use ring::{
    hmac,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use tonic::Status;

/// A variable of BuildKit's clients: the daemon shall ask for tokens itself.
const SWITCH: &str = "BUILDKIT_NO_CLIENT_TOKEN";
/// Most that the file may hold.
const FILE_BYTES: u64 = 1 << 20;
/// As long as BuildKit's.
const SEED_BYTES: usize = 16;

#[derive(Serialize, Deserialize)]
struct Entry {
    #[serde(rename = "Seed")]
    seed: String,
}

/// Makes keys.
#[derive(Debug)]
pub(super) struct Authority {
    folder: Option<PathBuf>,
    own: [u8; SEED_BYTES],
}

/// One key.
#[derive(Debug)]
pub(super) struct Key(Ed25519KeyPair);

impl Authority {
    /// With the secrets in `folder`.
    pub(super) fn new(folder: Option<PathBuf>) -> Self {
        Self { folder, own: random() }
    }

    /// The key for a login under the daemon's salt. Those without a login all have the same.
    pub(super) fn key(&self, host: &str, salt: &[u8], credential: &Credential) -> Result<Key, Status> {
        let off = std::env::var(SWITCH)
            .is_ok_and(|value| matches!(value.as_str(), "1" | "true" | "t" | "TRUE" | "True"));
        if off {
            return Err(Status::unavailable(format!("tokens are switched off by {SWITCH}")));
        }
        let mut mac = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, salt));
        let (username, secret) = match credential {
            Credential::Anonymous => ("", ""),
            Credential::Basic { username, password } => (username.as_str(), password.0.as_str()),
            Credential::Refresh(token) | Credential::Bearer(token) => ("", token.0.as_str()),
        };
        if !secret.is_empty() {
            mac.update(&self.seed(host));
            for part in [username, secret] {
                mac.update(&(part.len() as u64).to_be_bytes());
                mac.update(part.as_bytes());
            }
        }
        let key = Ed25519KeyPair::from_seed_unchecked(mac.sign().as_ref());
        Ok(Key(key.map_err(|_| Status::internal("make a key"))?))
    }

    fn seed(&self, host: &str) -> Vec<u8> {
        let Some(folder) = &self.folder else { return self.own.to_vec() };
        kept_seed(folder, host).unwrap_or_else(|error| {
            tracing::debug!(%error, "the seed of tokens cannot be kept");
            self.own.to_vec()
        })
    }
}

impl Key {
    pub(super) fn public(&self) -> Vec<u8> {
        self.0.public_key().as_ref().to_vec()
    }

    /// The signature with the payload behind it, as NaCl's `sign` has it.
    pub(super) fn sign(&self, payload: &[u8]) -> Vec<u8> {
        [self.0.sign(payload).as_ref(), payload].concat()
    }
}

/// The secret for a host, made and kept the first time.
fn kept_seed(folder: &Path, host: &str) -> io::Result<Vec<u8>> {
    let path = folder.join(".token_seed");
    let open = |name: &str| {
        fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(folder.join(name))
    };
    let lock = open(".token_seed.lock")?;
    flock(&lock, FlockOperation::LockExclusive)?;
    let mut text = Vec::new();
    match fs::File::open(&path) {
        Ok(file) => file.take(FILE_BYTES).read_to_end(&mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    // A file that makes no sense is no loss: others ask for their tokens once more.
    let mut seeds: BTreeMap<String, Entry> = serde_json::from_slice(&text).unwrap_or_default();
    let known = seeds.get(host).and_then(|entry| STANDARD.decode(&entry.seed).ok());
    if let Some(seed) = known.filter(|seed| seed.len() >= SEED_BYTES) {
        return Ok(seed);
    }
    let seed = random();
    seeds.insert(host.to_owned(), Entry { seed: STANDARD.encode(seed) });
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(&serde_json::to_vec(&seeds)?)?;
    file.persist(&path)?;
    Ok(seed.to_vec())
}

fn random() -> [u8; SEED_BYTES] {
    let mut bytes = [0; SEED_BYTES];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}
