//! Auth: who we are, told to the host that asks and to no other.
//!
//! `transport` asks an `Authorizer` for the header of a request, and shows it the challenges of a 401.
//!
//! # Invariants
//! Credentials are asked for by a host's own name, and go to it and to the token server that it names; never on to another.
//! No `Debug`, error or log shows a secret.

mod authorizer;
mod challenge;
mod realm;
mod token;

use std::fmt;

pub use self::authorizer::Authorizer;
pub(super) use self::authorizer::ask_token;

/// Text that must not be seen: prints as `***`.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Redacted(pub String);

impl fmt::Debug for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What somebody has for a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Credential {
    /// Nothing.
    #[default]
    Anonymous,
    /// A user's name and password.
    Basic {
        /// The name.
        username: String,
        /// The password.
        password: Redacted,
    },
    /// A refresh token (docker's "identity token"), for the token server.
    Refresh(Redacted),
    /// A token that is sent as it is.
    Bearer(Redacted),
}

/// What a request wants to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope {
    /// The repository's path.
    pub repository: String,
    /// Whether uploads are among it.
    pub push: bool,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "repository:{}:pull{}", self.repository, if self.push { ",push" } else { "" })
    }
}

/// A token server's question, as a registry's 401 puts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRequest {
    /// The registry that asked, with port if any.
    pub host: String,
    /// URL of the token server.
    pub realm: String,
    /// How the registry names itself there.
    pub service: String,
    /// What for, in token servers' words, sorted.
    pub scopes: Vec<String>,
}

/// A token and how long it holds.
#[derive(Clone, Debug)]
pub struct Token {
    /// The token.
    pub token: Redacted,
    /// Until when; `None`: until a 401.
    pub expires: Option<std::time::Instant>,
    /// What a token server gives to whoever logs in, to be shown instead of the password from then on.
    pub identity: Option<Redacted>,
}

/// Somebody who knows credentials: docker's config file, a client's session, a fixed pair.
#[async_trait::async_trait]
pub trait Credentials: fmt::Debug + Send + Sync {
    /// What there is for `host` (name and port as in its address; Docker Hub is `registry-1.docker.io`).
    async fn credential(&self, host: &str) -> Result<Credential, super::Error>;

    /// A token from somebody who asks the token server himself (BuildKit's sessions); `None`: ask it for him.
    async fn token(&self, _request: &TokenRequest) -> Result<Option<Token>, super::Error> {
        Ok(None)
    }
}

/// Nobody.
#[derive(Clone, Copy, Debug)]
pub struct Anonymous;

#[async_trait::async_trait]
impl Credentials for Anonymous {
    async fn credential(&self, _host: &str) -> Result<Credential, super::Error> {
        Ok(Credential::Anonymous)
    }
}

/// One credential for one host; others get none of it (rule 76).
#[derive(Clone, Debug)]
pub struct Fixed {
    /// The host's name and port, as in its address.
    pub host: String,
    /// What there is for it.
    pub credential: Credential,
}

#[async_trait::async_trait]
impl Credentials for Fixed {
    async fn credential(&self, host: &str) -> Result<Credential, super::Error> {
        Ok(if host == self.host { self.credential.clone() } else { Credential::Anonymous })
    }
}

#[cfg(test)]
mod tests;
