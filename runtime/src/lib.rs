//! The worker, in two floors.
//!
//! Below are containerd's nouns: content, images, leases, containers, layers. Above is what building adds. The lower
//! floor never imports the upper one, nor the solver.
#![deny(unsafe_code)]

pub mod container;
pub mod content;
pub mod db;
pub mod error;
pub mod image;
pub mod layer;
pub mod lease;
pub mod mount;
pub mod snapshot;
pub mod store;

pub use error::Error;
