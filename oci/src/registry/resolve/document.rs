//! Document: whether what came is a manifest or an index, and the one that was meant.
//!
//! One digest must not be two things to two readers: a document that could be read as a manifest and as an index, or that
//! calls itself something else than its host does, is refused (CVE-2021-41190).

use serde::{Deserialize, de::IgnoredAny};

use crate::{
    Error,
    digest::Digest,
    media_type,
    registry::{self, transport::Answer},
};

/// The media type that a host gives a manifest; `None` if it says nothing that helps.
pub(super) fn claimed_type(answer: &Answer) -> Result<Option<String>, registry::Error> {
    let Some(text) = answer.header("content-type") else { return Ok(None) };
    let name = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match name.as_str() {
        "text/html" => Err(answer.protocol(
            "answered with a web page instead of a manifest: is it a registry, or a network's log-in page?",
        )),
        // Rule 60: what schema 1 was served as, signed or not.
        "text/plain"
        | "application/vnd.docker.distribution.manifest.v1+json"
        | "application/vnd.docker.distribution.manifest.v1+prettyjws" => Err(answer.protocol(SCHEMA_1)),
        "" | "application/json" | "application/octet-stream" | "binary/octet-stream" => Ok(None),
        _ => Ok(Some(name)),
    }
}

const SCHEMA_1: &str = "the image has a schema 1 manifest, which is not supported any more: rebuild it, or pull and push it \
    with Docker 20.10";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    #[serde(default)]
    schema_version: Option<u64>,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    config: Option<IgnoredAny>,
    #[serde(default)]
    layers: Option<IgnoredAny>,
    #[serde(default)]
    manifests: Option<IgnoredAny>,
    #[serde(default)]
    fs_layers: Option<IgnoredAny>,
}

/// The media type of a document that was claimed to have one; an empty claim is none.
pub(super) fn check(bytes: &[u8], claimed: &str) -> Result<String, Error> {
    let what = if media_type::is_index(claimed) { "index" } else { "manifest" };
    let digest = Digest::of(bytes);
    let shape: Shape =
        serde_json::from_slice(bytes).map_err(|source| Error::ParseDocument { what, digest, source })?;
    let fail = |reason: String| Err(Error::InvalidDocument { what, digest, reason });
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return fail("it is no object".to_owned());
    }
    if shape.fs_layers.is_some() || shape.schema_version == Some(1) {
        return fail(SCHEMA_1.to_owned());
    }
    let (index, manifest) = (shape.manifests.is_some(), shape.layers.is_some() || shape.config.is_some());
    if index && manifest {
        return fail("it has the fields of a manifest and of an index".to_owned());
    }
    let own = shape.media_type.filter(|own| !own.is_empty());
    let media_type = match (own, claimed) {
        (Some(own), "") => own,
        (Some(own), claimed) if own != claimed => {
            return fail(format!("it calls itself {own:.100}, but was given out as {claimed:.100}"));
        }
        (_, "") if index => media_type::OCI_INDEX.to_owned(),
        (_, "") if manifest => media_type::OCI_MANIFEST.to_owned(),
        (_, "") => return fail("it is neither a manifest nor an index".to_owned()),
        (_, claimed) => claimed.to_owned(),
    };
    if (media_type::is_index(&media_type) && manifest) || (media_type::is_manifest(&media_type) && index) {
        return fail(format!("its fields are not those of {media_type}"));
    }
    Ok(media_type)
}

/// Whether some bytes are those of a digest and a size.
pub(crate) fn verify(bytes: &[u8], digest: &Digest, size: u64) -> Result<(), Error> {
    let actual = bytes.len() as u64;
    if actual != size {
        return Err(Error::SizeMismatch { digest: *digest, expected: size, actual });
    }
    let mut digester = digest.algorithm().digester();
    digester.update(bytes);
    let actual = digester.finish();
    if actual != *digest {
        return Err(Error::DigestMismatch { expected: *digest, actual: Box::new(actual), size });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
