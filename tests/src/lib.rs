//! Harness: starts the real `buildd` in a folder of its own and drives it with real clients.
//!
//! A test that needs root, a binary or a peer says so and fails; nothing is skipped.

pub mod daemon;
pub mod files;
pub mod fixture;
pub mod killing;
pub mod machine_wide;
pub mod oracles;
pub mod peers;
pub mod processes;
mod random;
pub mod registry;
pub mod shared;
pub mod ssh_server;
