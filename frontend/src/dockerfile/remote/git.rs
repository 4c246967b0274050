//! Git: the ways to write a repository, a ref in it and a folder of that.
//!
//! `https://host/repo.git#ref:folder`, `git@host:repo.git#ref`, `ssh://`, `git://`, `github.com/owner/repo`, and the query form
//! `https://host/repo.git?branch=main&subdir=folder`.

use std::collections::BTreeMap;

use buildd_api::llb::{OpOptions, State};

use crate::error::Fault;

/// The value of `mtime` by which files have the time of the commit.
const COMMIT_TIMES: &str = "commit";

/// A tree of a git repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GitRef {
    /// The repository, as git is told it.
    pub url: String,
    /// Branch, tag or commit; the remote's own choice if empty.
    pub reference: String,
    /// Folder in the tree; all of it if empty.
    pub subdir: String,
    /// The commit that it must be, or the beginning of its id.
    pub checksum: Option<String>,
    /// Whether `.git` is wanted too.
    pub keep_git_dir: Option<bool>,
    /// Whether submodules are wanted.
    pub submodules: Option<bool>,
    /// `checkout` or `commit`: which time files have.
    pub mtime: Option<String>,
    /// Whether only the commit of `checksum` is fetched.
    pub fetch_by_commit: Option<bool>,
}

impl GitRef {
    /// What a word names, if it is a repository.
    pub fn parse(text: &str) -> Result<Option<Self>, Fault> {
        let (address, fragment) = text.split_once('#').unwrap_or((text, ""));
        let (address, query) = address.split_once('?').unwrap_or((address, ""));
        let Some(url) = repository(address) else { return Ok(None) };
        let mut git = Self { url, ..Self::default() };
        let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
        reference.clone_into(&mut git.reference);
        git.subdir = clean(subdir);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            git.set(key, &decode(value)).map_err(|fault| wrong(text, fault))?;
        }
        if git.checksum.is_some() && git.reference.is_empty() && git.fetch_by_commit == Some(true) {
            git.reference = git.checksum.clone().unwrap_or_default();
        }
        for part in [&git.url, &git.reference, &git.subdir] {
            if part.starts_with('-') || part.contains(|c: char| c.is_control() || c == ' ') {
                return Err(wrong(text, format!("{part:?} can be no part of it")));
            }
        }
        Ok(Some(git))
    }

    /// The same with files that have the time of the commit, unless it says otherwise.
    #[must_use]
    pub fn with_commit_times(mut self) -> Self {
        self.mtime.get_or_insert_with(|| COMMIT_TIMES.to_owned());
        self
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let reference = match key {
            "ref" => Some(value.to_owned()),
            "tag" => Some(format!("refs/tags/{}", value.trim_start_matches("refs/tags/"))),
            "branch" => Some(format!("refs/heads/{}", value.trim_start_matches("refs/heads/"))),
            _ => None,
        };
        if let Some(reference) = reference {
            if value.is_empty() || value.starts_with('-') {
                return Err(format!("{key}={value} names no ref"));
            }
            if !self.reference.is_empty() && self.reference != reference {
                return Err(format!("it names two refs, {} and {reference}", self.reference));
            }
            self.reference = reference;
            return Ok(());
        }
        match key {
            "subdir" if self.subdir.is_empty() || self.subdir == clean(value) => self.subdir = clean(value),
            "subdir" => return Err(format!("it names two folders, {} and {value}", self.subdir)),
            "commit" | "checksum" => self.checksum = Some(value.to_owned()),
            "keep-git-dir" => self.keep_git_dir = Some(switch(key, value)?),
            "submodules" => self.submodules = Some(switch(key, value)?),
            "fetch-by-commit" => self.fetch_by_commit = Some(switch(key, value)?),
            "mtime" if matches!(value, "checkout" | "commit") => self.mtime = Some(value.to_owned()),
            "mtime" => return Err(format!("mtime={value} is neither checkout nor commit")),
            _ => return Err(format!("unexpected query {key:?}")),
        }
        Ok(())
    }

    /// The same as a source.
    pub fn state(&self, mut options: OpOptions) -> State {
        let mut attrs = BTreeMap::from([("git.fullurl".to_owned(), self.url.clone())]);
        options.caps.extend(["source.git", "source.git.fullurl"]);
        let mut set = |key: &str, value: &str, cap: &'static str| {
            attrs.insert(key.to_owned(), value.to_owned());
            options.caps.push(cap);
        };
        if self.url.starts_with("http") {
            set("git.authtokensecret", "GIT_AUTH_TOKEN", "source.git.httpauth");
            set("git.authheadersecret", "GIT_AUTH_HEADER", "source.git.httpauth");
        } else if is_ssh(&self.url) {
            set("git.mountsshsock", "default", "source.git.mountsshsock");
        }
        if self.keep_git_dir == Some(true) {
            set("git.keepgitdir", "true", "source.git.keepgitdir");
        }
        if self.submodules == Some(false) {
            set("git.skipsubmodules", "true", "source.git.skipsubmodules");
        }
        if let Some(checksum) = &self.checksum {
            set("git.checksum", checksum, "source.git.checksum");
        }
        if let Some(mtime) = &self.mtime {
            set("git.mtime", mtime, "source.git.mtime");
        }
        if self.fetch_by_commit == Some(true) {
            set("git.fetchbycommit", "true", "source.git.fetchbycommit");
        }
        options.caps.sort_unstable();
        options.caps.dedup();
        State::source(&self.identifier(), attrs, options)
    }

    /// `git://host/path#ref:folder`, without who asks.
    fn identifier(&self) -> String {
        let address = match self.url.split_once("://") {
            Some((_, address)) => address.rsplit_once('@').map_or(address, |(_, address)| address).to_owned(),
            // git@host:path
            None => self.url.split_once('@').map_or(self.url.as_str(), |(_, a)| a).replacen(':', "/", 1),
        };
        match (self.reference.is_empty(), self.subdir.is_empty()) {
            (true, true) => format!("git://{address}"),
            (false, true) => format!("git://{address}#{}", self.reference),
            _ => format!("git://{address}#{}:{}", self.reference, self.subdir),
        }
    }
}

/// The URL of what may be a repository.
fn repository(address: &str) -> Option<String> {
    if let Some(rest) = address.strip_prefix("github.com/") {
        return (!rest.is_empty()).then(|| format!("https://{address}"));
    }
    let web = address.starts_with("http://") || address.starts_with("https://");
    if web {
        return address.trim_end_matches('/').ends_with(".git").then(|| address.to_owned());
    }
    let known = address.starts_with("git://") || is_ssh(address);
    known.then(|| address.to_owned())
}

/// `ssh://host/path`, or `user@host:path`.
fn is_ssh(address: &str) -> bool {
    if address.starts_with("ssh://") {
        return true;
    }
    let word = |text: &str, more: &[char]| {
        !text.is_empty()
            && !text.starts_with('-')
            && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_' || more.contains(&c))
    };
    let parts = address.split_once('@').and_then(|(user, rest)| Some((user, rest.split_once(':')?.0)));
    !address.contains("://") && parts.is_some_and(|(user, host)| word(user, &[]) && word(host, &['.']))
}

/// A folder of a tree, without `.` and `..`; nothing for the whole.
fn clean(path: &str) -> String {
    super::super::lower::join("/", path).trim_start_matches('/').to_owned()
}

fn switch(key: &str, value: &str) -> Result<bool, String> {
    match value {
        "" | "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(format!("{key}={value} is neither true nor false")),
    }
}

fn decode(value: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), value.as_bytes());
    while let [first, tail @ ..] = rest {
        rest = tail;
        let code = tail.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match (code.and_then(|hex| u8::from_str_radix(hex, 16).ok()), first) {
            (Some(byte), _) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            (None, b'+') => bytes.push(b' '),
            (None, first) => bytes.push(*first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn wrong(text: &str, reason: String) -> Fault {
    Fault::new(format!("failed to parse git ref {:?}: {reason}", super::redact(text)))
}
