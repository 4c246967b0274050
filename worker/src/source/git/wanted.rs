//! GitRequest: what a build asks of a repository: identifier and attributes of the source, checked.

use std::collections::HashMap;

use buildd_oci::registry::{auth::Redacted, file};

use crate::error::{Error, Result};

/// Hexadecimal digits of a commit's id.
const COMMIT: usize = 40;
/// Fewest digits that mean a commit; fewer would be met by chance.
const MIN_CHECKSUM: usize = 7;
/// Longest URL, ref or folder; git and the kernel have limits near it.
const MAX_TEXT: usize = 4096;

/// A tree of a repository.
#[derive(Clone, Debug, Default)]
pub(super) struct GitRequest {
    /// As git is told it; of HTTP without name and password.
    pub(super) url: String,
    /// These, as the value of `Authorization`.
    pub(super) user: Option<Redacted>,
    /// Branch, tag, ref or commit; the remote's own choice if empty.
    pub(super) reference: String,
    /// Below the root of the tree; all of it if empty.
    pub(super) subdir: String,
    pub(super) checksum: Option<String>,
    /// The commit is asked for by its id, not by the ref.
    by_commit: bool,
    pub(super) keep_git_dir: bool,
    pub(super) submodules: bool,
    /// Files have the time of the commit.
    pub(super) commit_times: bool,
    /// Ids of the secrets that are asked for.
    pub(super) token_secret: String,
    pub(super) header_secret: String,
    /// Id of the ssh agent.
    pub(super) agent: String,
    /// Lines of a known_hosts file.
    pub(super) known_hosts: String,
}

impl GitRequest {
    /// Reads identifier and attributes; one that is not what it should be is the client's mistake.
    pub(super) fn parse(identifier: &str, attrs: &HashMap<String, String>) -> Result<Self> {
        let text = |key: &str| attrs.get(key).cloned().unwrap_or_default();
        let switch = |key: &str| attrs.get(key).is_some_and(|value| value == "true");
        let (address, fragment) = identifier.split_once('#').unwrap_or((identifier, ""));
        let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
        let url = match text("git.fullurl") {
            // Compat: an identifier alone means https.
            url if url.is_empty() => format!("https://{}", address.trim_start_matches("git://")),
            url if url.contains("://") || is_scp(&url) => url,
            url => format!("https://{url}"),
        };
        let web = url.starts_with("http://") || url.starts_with("https://");
        let (url, user) = if web { file::without_user(&url) } else { (url, None) };
        let wanted = Self {
            url,
            user,
            reference: reference.to_owned(),
            subdir: subdir.trim_matches('/').to_owned(),
            checksum: attrs.get("git.checksum").filter(|text| !text.is_empty()).map(|t| t.to_lowercase()),
            by_commit: switch("git.fetchbycommit"),
            keep_git_dir: switch("git.keepgitdir"),
            submodules: !switch("git.skipsubmodules"),
            commit_times: text("git.mtime") == "commit",
            token_secret: text("git.authtokensecret"),
            header_secret: text("git.authheadersecret"),
            agent: text("git.mountsshsock"),
            known_hosts: text("git.knownsshhosts"),
        };
        wanted.check()?;
        Ok(wanted)
    }

    fn check(&self) -> Result<()> {
        let invalid = |name: &str, reason: &str| {
            Err(Error::Invalid { what: "git source", name: name.to_owned(), reason: reason.to_owned() })
        };
        for text in [&self.url, &self.reference, &self.subdir] {
            if text.starts_with('-') || text.len() > MAX_TEXT || text.contains(char::is_control) {
                return invalid(&file::shown(text), "it can be no part of a repository's name");
            }
        }
        let scheme = self.url.split_once("://").map_or("ssh", |(scheme, _)| scheme);
        if !super::command::PROTOCOLS.contains(&scheme) || self.url.contains("::") {
            return invalid(&self.shown(), "only https, http, ssh and git are spoken");
        }
        let host = self.host();
        if host.is_empty() || host.starts_with('-') {
            return invalid(&self.shown(), "it has no host");
        }
        let is_ref = !self.reference.contains("..")
            && !self.reference.contains([' ', '~', '^', ':', '?', '*', '[', '\\'])
            && !self.reference.ends_with(".lock");
        if !is_ref {
            return invalid(&self.reference, "no ref is called so");
        }
        if self.subdir.split('/').any(|part| part == "..") {
            return invalid(&self.subdir, "it leaves the repository");
        }
        match &self.checksum {
            Some(sum) if !is_hex(sum) || !(MIN_CHECKSUM..=COMMIT).contains(&sum.len()) => {
                invalid(sum, "a commit's id has 40 hexadecimal digits, and at least 7 are needed")
            }
            _ => Ok(()),
        }
    }

    /// The commit, if it is named by its whole id.
    pub(super) fn commit(&self) -> Option<&str> {
        let whole = |text: &&str| text.len() == COMMIT && is_hex(text);
        let named = Some(self.reference.as_str()).filter(whole);
        named.or_else(|| self.checksum.as_deref().filter(|_| self.by_commit).filter(whole))
    }

    /// Whether ssh carries it.
    pub(super) fn is_ssh(&self) -> bool {
        self.url.starts_with("ssh://") || !self.url.contains("://")
    }

    /// Whether HTTP carries it.
    pub(super) fn is_http(&self) -> bool {
        self.url.starts_with("http://") || self.url.starts_with("https://")
    }

    /// The host, with its port if there is one.
    pub(super) fn host(&self) -> &str {
        let address = match self.url.split_once("://") {
            Some((_, address)) => address.split(['/', '?', '#']).next().unwrap_or_default(),
            None => self.url.split(':').next().unwrap_or_default(),
        };
        address.rsplit_once('@').map_or(address, |(_, host)| host)
    }

    /// `https://host`, as settings for one host begin.
    pub(super) fn origin(&self) -> String {
        let scheme = self.url.split_once("://").map_or("ssh", |(scheme, _)| scheme);
        format!("{scheme}://{}", self.host())
    }

    /// The URL without what may be secret.
    pub(super) fn shown(&self) -> String {
        match self.url.contains("://") {
            true => file::shown(&self.url),
            false => self.url.clone(),
        }
    }
}

/// `user@host:path`
fn is_scp(url: &str) -> bool {
    url.split_once(':').is_some_and(|(host, _)| host.contains('@') && !host.contains('/'))
}

pub(super) fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests;
