//! Files without a daemon: what may block, paths inside a root, ignore patterns, ordered walks, mounts, free space.
//!
//! Small on purpose: every other crate stands on it.
#![deny(unsafe_code)]

pub mod blocking;
pub mod lock;
pub mod memory;
pub mod mounts;
pub mod nearest;
pub mod overlay;
pub mod path;
pub mod pattern;
pub mod pipeline;
pub mod private;
pub mod space;
pub mod sys;
pub mod walk;
