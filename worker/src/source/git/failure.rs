//! Failure: what git could not do, in its words, without what is secret in them.

use std::io;

use buildd_oci::ErrorKind;

use crate::error::Error;

/// Lines of git's words that are told: the last ones say why.
const LINES: usize = 4;

/// A failed operation on a repository.
#[derive(Debug, thiserror::Error)]
pub(super) enum GitError {
    /// git does not start, or cannot be waited for.
    #[error("start git")]
    Start {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// git failed.
    #[error("git {operation} {url}: {said}")]
    Failed {
        /// `fetch`, `ls-remote`, …
        operation: &'static str,
        /// The repository.
        url: String,
        /// Its last words.
        said: String,
    },
    /// It took more memory than a step may have.
    #[error("git {operation} {url}: git ran out of memory: it may have {bytes} bytes")]
    Memory {
        /// `fetch`, …
        operation: &'static str,
        /// The repository.
        url: String,
        /// The bound.
        bytes: i64,
    },
    /// The repository has no such ref.
    #[error("{url}: there is no ref or commit {reference:?}")]
    NoRef {
        /// The repository.
        url: String,
        /// What was asked for.
        reference: String,
    },
    /// The tree has no such folder.
    #[error("{url}: {folder:?} is no folder of {commit}")]
    NoFolder {
        /// The repository.
        url: String,
        /// What was asked for.
        folder: String,
        /// In which commit.
        commit: String,
    },
    /// A part of the worker failed.
    #[error(transparent)]
    Worker(#[from] Error),
}

impl From<buildd_store::Error> for GitError {
    fn from(error: buildd_store::Error) -> Self {
        Self::Worker(error.into())
    }
}

impl GitError {
    /// The class of this error.
    pub(super) fn kind(&self) -> ErrorKind {
        match self {
            Self::Start { .. } => ErrorKind::FailedPrecondition,
            Self::Failed { said, .. } if is_denied(said) => ErrorKind::Unauthenticated,
            Self::Failed { said, .. } if said.contains("not found") => ErrorKind::NotFound,
            Self::Failed { .. } => ErrorKind::Unavailable,
            Self::Memory { .. } => ErrorKind::ResourceExhausted,
            Self::NoRef { .. } | Self::NoFolder { .. } => ErrorKind::NotFound,
            Self::Worker(error) => error.kind(),
        }
    }

    /// What a user can do about it.
    pub(super) fn hint(&self) -> Option<String> {
        match self {
            Self::Start { source } if source.kind() == io::ErrorKind::NotFound => {
                Some("install git where buildd runs".to_owned())
            }
            Self::Failed { said, .. } if said.contains("Host key verification failed") => Some(
                "put the host's key into /etc/ssh/ssh_known_hosts where buildd runs (ssh-keyscan)".to_owned(),
            ),
            Self::Failed { said, .. } if said.contains("Permission denied (publickey") => {
                Some("give the key or agent: --ssh default".to_owned())
            }
            Self::Failed { said, .. } if is_denied(said) => {
                Some("give a token: --secret id=GIT_AUTH_TOKEN,env=NAME".to_owned())
            }
            Self::NoRef { reference, .. } if reference.len() < 40 && super::wanted::is_hex(reference) => {
                Some("a commit is named by all 40 digits of its id".to_owned())
            }
            Self::Memory { .. } => {
                Some("the repository's files are large: raise step-memory in buildd.toml".to_owned())
            }
            Self::Worker(error) => error.hint(),
            _ => None,
        }
    }
}

fn is_denied(said: &str) -> bool {
    ["could not read Username", "Authentication failed", "returned error: 401", "returned error: 403"]
        .iter()
        .any(|words| said.contains(words))
}

/// git's last lines as one, without names and passwords of URLs.
pub(super) fn told(said: &str) -> String {
    let lines: Vec<&str> =
        said.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("remote:")).collect();
    let last = lines[lines.len().saturating_sub(LINES)..].join("; ");
    let mut out = String::new();
    let mut rest = last.as_str();
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after.find(|c: char| c == '/' || c.is_whitespace() || c == '\'').unwrap_or(after.len());
        rest = match after[..end].rfind('@') {
            Some(user) => {
                out.push_str("xxxxx");
                &after[user..]
            }
            None => after,
        };
    }
    out.push_str(rest);
    out.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::told;

    #[test]
    fn the_last_words_without_passwords() {
        let said = "Cloning into 'x'...\nfatal: unable to access 'https://me:word@h.example/a.git/': boo\n\n";
        assert_eq!(
            told(said),
            "Cloning into 'x'...; fatal: unable to access 'https://xxxxx@h.example/a.git/': boo"
        );
        assert_eq!(told("1\n2\nremote: loud\n3\n4\n5\n"), "2; 3; 4; 5");
    }
}
