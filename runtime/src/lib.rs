//! The runtime: what runs: steps of builds, and tasks of containers under their shims.
//!
//! It is handed mounts and descriptors, and never opens the store.
#![deny(unsafe_code)]

mod console;
pub mod device;
pub mod emulation;
pub mod error;
pub mod mount;
pub mod passwd;
mod pidfd;
pub mod probe;
pub mod profile;
mod program;
pub mod step;
mod sys;
pub mod task;

pub use error::Error;

#[cfg(test)]
#[path = "../../tests/src/random.rs"]
mod random;
