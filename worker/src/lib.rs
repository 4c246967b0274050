//! The worker: what building adds to what is kept (`store`) and what runs (`runtime`): LLB ops, sources, exporters, the cache of results.
//!
//! It serves no protocol: the daemon does, and gives it the clients' sessions.
#![forbid(unsafe_code)]

pub mod base;
mod cache_locks;
pub mod cache_store;
mod checksum;
mod content_digest;
mod contexts;
pub mod doctor;
pub mod error;
pub mod export;
pub mod files;
mod listing;
mod ops;
pub use ops::exec::sandbox;
pub mod resolver;
pub mod session;
pub mod snapshot_ref;
mod source;
pub mod worker;

pub use error::Error;
pub use source::LayoutImage;

#[cfg(test)]
#[path = "../../tests/src/random.rs"]
mod random;
