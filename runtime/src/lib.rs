//! The worker, in two floors.
//!
//! Below are containerd's nouns: content, images, leases, containers, layers. Above is what building adds. The lower
//! floor never imports the upper one, nor the solver.
#![deny(unsafe_code)]

pub mod base;
pub mod cache_mount;
pub mod cache_store;
pub mod checksum;
mod console;
pub mod container;
pub mod content;
pub mod db;
pub mod device;
pub mod diff;
mod disk;
pub mod doctor;
pub mod emulation;
pub mod error;
pub mod event;
pub mod export;
pub mod fsck;
pub mod gc;
pub mod image;
pub mod intake;
pub mod layer;
pub mod lease;
mod listing;
pub mod memory;
pub mod mount;
pub mod named_snapshot;
pub mod namespace;
mod ops;
pub use ops::exec::sandbox;
pub mod pack;
mod passwd;
mod pieces;
mod profile;
mod program;
pub mod pull;
pub mod push;
pub mod registries;
pub mod registry_copy;
mod reserve;
mod send;
pub mod session;
pub mod snapshot;
pub mod snapshot_ref;
mod source;
pub mod step;
pub mod store;
mod sys;
pub mod task;
pub mod turns;
pub mod unpack;
pub mod usage;
pub mod watch;
pub mod worker;
mod write_behind;

pub use error::Error;
pub use source::LayoutImage;

#[cfg(test)]
#[path = "../../tests/src/random.rs"]
mod random;
