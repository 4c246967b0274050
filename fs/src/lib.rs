//! Files without a daemon: what may block, paths inside a root, ignore patterns, ordered walks, mounts.
//!
//! Small on purpose: every other crate stands on it.
#![forbid(unsafe_code)]

pub mod blocking;
pub mod mounts;
pub mod nearest;
pub mod path;
pub mod pattern;
pub mod private;
pub mod walk;
