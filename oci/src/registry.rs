//! Registry: images in registries, over the distribution API.
//!
//! A `Registry` is what a daemon has one of: the hosts' settings, the connections and the tokens. A `Repository` is one repository
//! of it, seen through the hosts that may serve it in their order. Pull, push, builds and Transfer all come here.
//!
//! ```text
//! reference -> hosts (hosts.toml) -> [host, host, ...] -> transport (TLS, retries, redirects, auth) -> bytes, verified
//! ```
//!
//! # Invariants
//! A credential goes to the host it belongs to and to no other. What comes from a host is a claim until its digest is checked.
//!
//! # Sources
//! distribution-spec 1.1; containerd `core/remotes/docker`; spec registries.md.

pub mod auth;
pub mod error;
pub mod host;
pub mod hosts;

pub use error::Error;
