//! Helper: a program that keeps credentials, `docker-credential-NAME`.
//!
//! # Wire
//! ```text
//! get   < server URL                                   > {"ServerURL": .., "Username": .., "Secret": ..}
//! store < {"ServerURL": .., "Username": .., "Secret": ..}
//! erase < server URL
//! list                                                 > {server URL: user name, ..}
//! ```
//! A failure is an exit status and a line on standard output; one certain line means that nothing is known.
//!
//! # Invariants
//! The name is a word, never a path. What it prints and how long it takes is bounded (NET-18); it ends when nobody waits for it.
//!
//! # Sources
//! docker-credential-helpers README; its `credentials/error.go`.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
};

use super::{
    super::{
        Error,
        auth::{Credential, Redacted},
    },
    pair,
};

/// How long it may take: it may ask its user for a password of its own.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most that it may print.
const OUTPUT_BYTES: usize = 64 << 10;
/// Part of its failure's line.
const NOT_FOUND: &str = "credentials not found";
/// Characters of another failure's line that are repeated.
const LINE: usize = 200;

/// One program, asked about one host.
#[derive(Debug)]
pub(super) struct Helper {
    program: PathBuf,
    name: String,
    host: String,
    patience: Duration,
}

/// What it knows.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Found(Credential),
    NotFound,
    NotInstalled,
}

enum Ran {
    Done(Vec<u8>),
    Failed(String),
    NotInstalled,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Pair {
    username: String,
    secret: String,
}

impl Helper {
    /// The helper `name` in `folder`, or wherever PATH says if that is empty.
    pub(super) fn new(folder: &Path, host: &str, name: &str) -> Result<Self, Error> {
        const NAME_BYTES: usize = 64;
        let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if !name.bytes().all(word) || name.starts_with(['.', '-']) || name.len() > NAME_BYTES {
            let reason = format!("{name:?} is not the name of a credential helper");
            return Err(Error::Credentials { host: host.to_owned(), reason });
        }
        let program = folder.join(format!("docker-credential-{name}"));
        Ok(Self { program, name: name.to_owned(), host: host.to_owned(), patience: PATIENCE })
    }

    /// What it knows under the first of `keys` that it knows.
    pub(super) async fn get(&self, keys: &[String]) -> Result<Answer, Error> {
        for key in keys {
            match self.run("get", key.as_bytes()).await? {
                Ran::NotInstalled => return Ok(Answer::NotInstalled),
                Ran::Failed(line) if line.contains(NOT_FOUND) => {}
                Ran::Failed(line) => return Err(self.failed("get", &line)),
                Ran::Done(output) => {
                    // serde_json's message may quote the secret.
                    let Pair { username, secret } = serde_json::from_slice(&output)
                        .map_err(|_| self.wrong("its answer is not the JSON of a name and a secret"))?;
                    match pair(username, secret) {
                        Credential::Anonymous => {}
                        credential => return Ok(Answer::Found(credential)),
                    }
                }
            }
        }
        Ok(Answer::NotFound)
    }

    /// Gives it a name and a secret to keep; false if it is not installed.
    pub(super) async fn store(&self, key: &str, username: &str, secret: &Redacted) -> Result<bool, Error> {
        let input = serde_json::json!({"ServerURL": key, "Username": username, "Secret": secret.0});
        match self.run("store", input.to_string().as_bytes()).await? {
            Ran::Done(_) => Ok(true),
            Ran::NotInstalled => Ok(false),
            Ran::Failed(line) => Err(self.failed("store", &line.replace(&secret.0, "***"))),
        }
    }

    /// The user's name for each server URL that it knows; None if it is not installed.
    pub(super) async fn list(&self) -> Result<Option<BTreeMap<String, String>>, Error> {
        match self.run("list", b"").await? {
            Ran::NotInstalled => Ok(None),
            Ran::Failed(line) => Err(self.failed("list", &line)),
            Ran::Done(output) => serde_json::from_slice(&output)
                .map(Some)
                .map_err(|_| self.wrong("its answer is not the JSON of registries and names")),
        }
    }

    /// Makes it forget.
    pub(super) async fn erase(&self, key: &str) -> Result<(), Error> {
        match self.run("erase", key.as_bytes()).await? {
            Ran::Failed(line) if !line.contains(NOT_FOUND) => Err(self.failed("erase", &line)),
            _ => Ok(()),
        }
    }

    async fn run(&self, verb: &str, input: &[u8]) -> Result<Ran, Error> {
        match tokio::time::timeout(self.patience, self.talk(verb, input)).await {
            Ok(Ok(ran)) => Ok(ran),
            Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => Ok(Ran::NotInstalled),
            Ok(Err(error)) if error.kind() == io::ErrorKind::FileTooLarge => {
                Err(self.wrong("its answer is larger than 64 KiB"))
            }
            Ok(Err(error)) => Err(self.wrong(&format!("it cannot be run: {error}"))),
            Err(_) => Err(self.wrong("it takes too long")),
        }
    }

    async fn talk(&self, verb: &str, input: &[u8]) -> io::Result<Ran> {
        let mut child = Command::new(&self.program)
            .arg(verb)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that knows without reading closes its end.
            drop(stdin.write_all(input).await);
        }
        let mut output = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            stdout.take(OUTPUT_BYTES as u64 + 1).read_to_end(&mut output).await?;
        }
        if output.len() > OUTPUT_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if child.wait().await?.success() {
            return Ok(Ran::Done(output));
        }
        let line = String::from_utf8_lossy(&output).lines().next().unwrap_or_default().to_owned();
        Ok(Ran::Failed(line))
    }

    fn failed(&self, verb: &str, line: &str) -> Error {
        // One that fails after it printed what it keeps.
        let line = if line.starts_with('{') { "" } else { line };
        let line: String = line.chars().filter(|c| !c.is_control()).take(LINE).collect();
        self.wrong(&format!("{verb} failed: {line}"))
    }

    fn wrong(&self, reason: &str) -> Error {
        let reason = format!("docker-credential-{}: {reason}", self.name);
        Error::Credentials { host: self.host.clone(), reason }
    }
}

#[cfg(test)]
impl Helper {
    /// The same with less patience.
    pub(super) fn hasty(self) -> Self {
        Self { patience: Duration::from_millis(200), ..self }
    }
}
