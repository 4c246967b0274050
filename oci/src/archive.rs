//! Image archives: a tar of an OCI layout, or what `docker save` writes, or both in one.
//!
//! `import` reads a stream once and hands every file to the caller's store; only then, with index or `manifest.json` in
//! hand, does it know what the images are. `export` writes both dialects at once, sorted and without times, so that equal
//! images give equal bytes.
//!
//! # Sources
//! `../shared/spec/archives-and-layers.md` rules 1 to 34; containerd `core/images/archive`.

mod export;
mod import;

pub use export::{Absent, ExportImage, Kind, Platforms, export};
pub use import::{File, ImportSink, Imported, import};

/// Annotation with the whole name of an image in an index.
pub const IMAGE_NAME: &str = "io.containerd.image.name";
/// Annotation with the tag, or the whole name, of an image in an index.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Annotation with the digest of what an entry of an index refers to; Compat: containerd 2.2.
const SUBJECT: &str = "io.containerd.manifest.subject";
/// The file that marks an OCI layout, and what it says.
const LAYOUT_FILE: &str = "oci-layout";
const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

#[cfg(test)]
mod tests;
