//! Nouns of image-spec and distribution-spec, without a daemon and without mounts.
//!
//! An image is a `manifest` that points, by `descriptor`s, at a `config` and at layers; an index points at one manifest
//! for each `platform`. A `reference` names it. Blobs come and go through the traits of `blob`.
#![forbid(unsafe_code)]

pub mod archive;
pub mod blob;
pub mod compress;
pub mod config;
pub mod copy;
pub mod descriptor;
pub mod digest;
mod digest_text;
pub mod error;
pub mod manifest;
pub mod media_type;
pub mod platform;
pub mod reference;
pub mod registry;
pub mod shown;
pub mod tar_stream;
pub mod time;
pub mod verify;

pub use error::{Error, ErrorKind};

#[cfg(test)]
mod properties;

#[cfg(test)]
#[path = "../../tests/src/random.rs"]
mod random;
