//! The store: what is kept below one root folder, opened by one owner.
//!
//! Blobs, images, containers' records, leases, layers and snapshots, in containerd's words, the rows of the build cache, and the roads by which
//! images come and go. It mounts layers and starts no process; who runs processes never sees it.
#![forbid(unsafe_code)]

pub mod cache;
pub mod chunks;
pub mod cleanup;
pub mod content;
pub mod db;
pub mod diff;
pub mod digest_lock;
mod disk;
pub mod error;
pub mod event;
pub mod fsck;
pub mod gc;
pub mod identifier;
pub mod label;
pub mod layer;
pub mod meta;
mod reserve;
pub mod root;
pub mod snapshot;
pub mod transfer;
pub mod usage;
mod write_behind;

pub use error::Error;

#[cfg(test)]
#[path = "../../tests/src/random.rs"]
mod random;
