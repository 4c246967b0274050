//! Media types: the names of OCI and Docker documents and layers, and what they say.
//!
//! # Sources
//! image-spec "media types"; Docker image manifest v2 schema 2.

use crate::compress::Compression;

/// OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI image config.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// OCI layer, not compressed.
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// OCI layer, gzip.
pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// OCI layer, zstd.
pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// Docker image manifest, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker manifest list.
pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker image config.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// Docker layer, not compressed.
pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
/// Docker layer, gzip.
pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
/// Docker layer, zstd.
pub const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";

/// Whether this is an image manifest.
pub fn is_manifest(media_type: &str) -> bool {
    matches!(media_type, OCI_MANIFEST | DOCKER_MANIFEST)
}

/// Whether this is an index of manifests.
pub fn is_index(media_type: &str) -> bool {
    matches!(media_type, OCI_INDEX | DOCKER_INDEX)
}

/// Whether this is a file-system layer, of any compression.
pub fn is_layer(media_type: &str) -> bool {
    media_type.starts_with(OCI_LAYER)
        || media_type.starts_with("application/vnd.oci.image.layer.nondistributable.v1.tar")
        || media_type.starts_with("application/vnd.docker.image.rootfs.")
}

/// Whether this is an image's config.
pub fn is_config(media_type: &str) -> bool {
    matches!(media_type, OCI_CONFIG | DOCKER_CONFIG)
}

/// Whether this is a layer that registries need not have: it is not pushed.
pub fn is_foreign(media_type: &str) -> bool {
    media_type.starts_with("application/vnd.oci.image.layer.nondistributable.v1.tar")
        || media_type.starts_with("application/vnd.docker.image.rootfs.foreign.diff.tar")
}

/// The compression that a layer's media type names; what the bytes really are is found when they are read.
pub fn compression_of(media_type: &str) -> Compression {
    if media_type.ends_with("gzip") {
        Compression::Gzip
    } else if media_type.ends_with("zstd") {
        Compression::Zstd
    } else {
        Compression::Uncompressed
    }
}

/// The media type of a layer of ours.
pub fn layer(compression: Compression, docker: Family) -> &'static str {
    match (docker, compression) {
        (Family::Oci, Compression::Uncompressed) => OCI_LAYER,
        (Family::Oci, Compression::Gzip) => OCI_LAYER_GZIP,
        (Family::Oci, Compression::Zstd) => OCI_LAYER_ZSTD,
        (Family::Docker, Compression::Uncompressed) => DOCKER_LAYER,
        (Family::Docker, Compression::Gzip) => DOCKER_LAYER_GZIP,
        (Family::Docker, Compression::Zstd) => DOCKER_LAYER_ZSTD,
    }
}

/// Whose media types to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// image-spec's.
    Oci,
    /// Docker's older ones.
    Docker,
}
