//! Documents: one kind each, the bytes of their digest, and of bounded size.

use super::*;

#[test]
fn a_document_is_one_thing_only() {
    let (manifest, index) = (media_type::OCI_MANIFEST, media_type::OCI_INDEX);
    let docker = media_type::DOCKER_MANIFEST;
    for (text, claimed, expected) in [
        (r#"{"config":{},"layers":[]}"#, manifest, Ok(manifest)),
        (r#"{"config":{},"layers":[]}"#, "", Ok(manifest)),
        (r#"{"manifests":[]}"#, "", Ok(index)),
        (r#"{"schemaVersion":2,"mediaType":"","manifests":[]}"#, index, Ok(index)),
        (r#"{"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#, "", Ok(index)),
        (r#"{"mediaType":"a/b","blobs":[]}"#, "a/b", Ok("a/b")),
        (r#"{"config":{},"manifests":[]}"#, manifest, Err("of a manifest and of an index")),
        (r#"{"layers":[],"manifests":[]}"#, index, Err("of a manifest and of an index")),
        (r#"{"manifests":[]}"#, manifest, Err("fields are not those of")),
        (r#"{"layers":[]}"#, index, Err("fields are not those of")),
        (r#"{"mediaType":"application/vnd.oci.image.manifest.v1+json"}"#, docker, Err("given out as")),
        (r#"{"mediaType":"application/vnd.oci.image.manifest.v1+json"}"#, index, Err("given out as")),
        (r#"{"schemaVersion":1,"fsLayers":[]}"#, "", Err("schema 1")),
        (r#"{"schemaVersion":1}"#, manifest, Err("schema 1")),
        (r#"{"name":"x"}"#, "", Err("neither a manifest nor an index")),
        ("<html>", manifest, Err("parse manifest")),
        ("", index, Err("parse index")),
        ("[]", manifest, Err("no object")),
    ] {
        match (check(text.as_bytes(), claimed), expected) {
            (Ok(got), Ok(expected)) => assert_eq!(got, expected, "{text}"),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{text}: {error}"),
            (got, _) => panic!("{text}: {got:?}"),
        }
    }
}

#[test]
fn bytes_are_those_of_their_digest_or_refused() {
    let digest = Digest::of(b"hello");
    assert!(verify(b"hello", &digest, 5).is_ok());
    assert!(matches!(verify(b"hello", &digest, 4), Err(Error::SizeMismatch { actual: 5, .. })));
    assert!(matches!(verify(b"hellO", &digest, 5), Err(Error::DigestMismatch { .. })));
    let long = format!("sha512:{}", "0".repeat(128)).parse().expect("a digest");
    assert!(matches!(verify(b"hello", &long, 5), Err(Error::DigestMismatch { .. })));
}

proptest::proptest! {
    #[test]
    fn any_document_is_read_or_refused(
        text in "\\{(\"(schemaVersion|mediaType|config|layers|manifests|fsLayers)\":(1|2|\"a/b\"|\\[\\]|\\{\\}|null),?){0,4}\\}|.{0,60}",
        claimed in "(a/b)?",
    ) {
        if let Ok(found) = check(text.as_bytes(), &claimed) {
            assert!(!found.is_empty());
            assert!(claimed.is_empty() || found == claimed);
        }
    }
}
