//! Host: one address that may serve a repository, with all that is set for it.
//!
//! `hosts` makes the list of them from files; `transport` talks to one.

use std::{fmt, path::PathBuf, time::Duration};

/// What a host may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Blobs, and manifests by digest.
    pub pull: bool,
    /// What a tag points at.
    pub resolve: bool,
    /// Uploads.
    pub push: bool,
    /// What refers to a manifest.
    pub referrers: bool,
}

impl Capabilities {
    /// Everything.
    pub const ALL: Self = Self { pull: true, resolve: true, push: true, referrers: true };
}

/// One thing a host is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// A blob, or a manifest by digest.
    Pull,
    /// A tag.
    Resolve,
    /// An upload.
    Push,
    /// What refers to a manifest.
    Referrers,
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pull => "pull",
            Self::Resolve => "resolve",
            Self::Push => "push",
            Self::Referrers => "referrers",
        })
    }
}

/// How to speak to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// TLS, always.
    Https,
    /// Plain, always.
    Http,
    /// TLS; plain from then on if the other side turns out not to speak it (rules 44 and 46).
    HttpsOrHttp,
}

/// Whom to trust, and who we are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tls {
    /// Files of certificates trusted besides the system's.
    pub ca: Vec<PathBuf>,
    /// Our certificates: file of the certificate, file of the key (the same one if both lie in it).
    pub client: Vec<(PathBuf, PathBuf)>,
    /// Trust anyone, under any name.
    pub skip_verify: bool,
}

/// Where a setting came from: for `registry explain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// A file, and the line where known.
    File(PathBuf, Option<usize>),
    /// A daemon's configuration file, and the name of the table in it.
    Config(PathBuf, String),
    /// The request itself (`--plain-http` and its like).
    Request,
}

/// One address that may serve a repository.
#[derive(Clone, PartialEq, Eq)]
pub struct Host {
    /// How to speak to it.
    pub scheme: Scheme,
    /// Name or address, and port if one was given; IPv6 addresses in brackets.
    pub authority: String,
    /// What precedes `/<repository>/...`: `/v2`, or what `override_path` says; no slash at the end.
    pub path: String,
    /// What it may be asked for.
    pub capabilities: Capabilities,
    /// Whom to trust.
    pub tls: Tls,
    /// Sent with each request to it and to its token server.
    pub headers: Vec<(String, String)>,
    /// How long connecting may take; 30 s if not set.
    pub dial_timeout: Option<Duration>,
    /// Each setting's name (`server`, `capabilities`, `ca`, ...) and where it came from.
    pub origins: Vec<(&'static str, Origin)>,
}

impl fmt::Debug for Host {
    /// Headers by name only: their values may be credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Host")
            .field("scheme", &self.scheme)
            .field("authority", &self.authority)
            .field("path", &self.path)
            .field("capabilities", &self.capabilities)
            .field("tls", &self.tls)
            .field("headers", &headers)
            .field("dial_timeout", &self.dial_timeout)
            .finish_non_exhaustive()
    }
}

impl Host {
    /// Whether it may be asked for `capability`; a tag needs both pull and resolve (rule 23).
    pub fn may(&self, capability: Capability) -> bool {
        match capability {
            Capability::Pull => self.capabilities.pull,
            Capability::Resolve => self.capabilities.pull && self.capabilities.resolve,
            Capability::Push => self.capabilities.push,
            Capability::Referrers => self.capabilities.referrers,
        }
    }
}
