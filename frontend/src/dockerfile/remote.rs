//! Remote: the names of files and repositories elsewhere, as `ADD`, contexts and named contexts write them.
//!
//! [`Remote::detect`] says what a word means; [`Remote::state`] is its source in LLB. Nothing is asked here.
//!
//! # Invariants
//! No part of a name can be read as an option of git: what begins with a dash is refused.
//!
//! # Sources
//! moby/buildkit `frontend/dockerfile/dfgitutil`, `util/gitutil`, `client/llb/source.go`.

use std::collections::BTreeMap;

use buildd_api::llb::{OpOptions, State};
use buildd_oci::registry::file;

use crate::error::Fault;

mod git;

pub use git::GitRef;

/// The name of a file whose URL has none.
const NAMELESS: &str = "__unnamed__";

/// What lies elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remote {
    /// A file of a server.
    File(String),
    /// A tree of a git repository.
    Git(GitRef),
}

impl Remote {
    /// What a word means, if it names something remote.
    pub fn detect(text: &str) -> Result<Option<Self>, Fault> {
        if let Some(git) = GitRef::parse(text)? {
            return Ok(Some(Self::Git(git)));
        }
        Ok(is_url(text).then(|| Self::File(text.to_owned())))
    }
}

/// Whether a word is an `http` or `https` URL.
pub fn is_url(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

/// A file of a server, under `name` in its tree.
pub fn file_state(url: &str, name: &str, checksum: Option<&str>, mut options: OpOptions) -> State {
    let mut attrs = BTreeMap::from([("http.filename".to_owned(), name.to_owned())]);
    options.caps.push("source.http");
    if let Some(checksum) = checksum {
        attrs.insert("http.checksum".to_owned(), checksum.to_owned());
        options.caps.push("source.http.checksum");
    }
    State::source(url, attrs, options)
}

/// What a file is called that is added by its URL.
pub fn file_name(url: &str) -> String {
    let plain = |name: &String| {
        !name.contains('/') && name != "." && name != ".." && !name.contains(char::is_control)
    };
    file::base_name(url).filter(plain).unwrap_or_else(|| NAMELESS.to_owned())
}

/// A text in which names and passwords of URLs are not to be read.
pub fn redact(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after
            .find(|c: char| c == '/' || c.is_whitespace() || matches!(c, '"' | '\''))
            .unwrap_or(after.len());
        rest = after;
        if let Some(user) = after[..end].rfind('@') {
            // A name alone, as in ssh://git@host, is no secret of http's kind.
            let secret =
                after[..user].contains(':') || before.ends_with("http://") || before.ends_with("https://");
            out.push_str(if secret { "xxxxx:xxxxx" } else { &after[..user] });
            rest = &after[user..];
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests;
