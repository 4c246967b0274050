//! Transfer: the roads by which images come and go: pull, push, copy, import, and what unpacks and packs their layers.

pub mod copy;
pub mod import;
pub mod pack;
pub mod progress;
pub mod pull;
pub mod push;
pub mod registries;
mod send;
pub mod unpack;
