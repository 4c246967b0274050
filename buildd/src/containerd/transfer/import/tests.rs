//! Names in an archive and wishes of a client in, names of images out.

use buildd_oci::{descriptor::Descriptor, media_type};

use super::*;

/// `prefix [o][d][s]`: allow_overwrite, add_digest, skip_named_digest; `=name` is no prefix.
fn reference(text: &str) -> ImageReference {
    let (name, flags) = text.split_once(' ').unwrap_or((text, ""));
    ImageReference {
        name: name.trim_start_matches('=').to_owned(),
        is_prefix: !name.starts_with('='),
        allow_overwrite: flags.contains('o'),
        add_digest: flags.contains('d'),
        skip_named_digest: flags.contains('s'),
    }
}

/// The image's whole name or its tag, the client's references, and the names that it gets.
type Case<'a> = (Option<&'a str>, Option<&'a str>, &'a [&'a str], &'a [&'a str]);

#[test]
fn names() {
    let target = Descriptor::new(media_type::OCI_MANIFEST, Digest::of(b"m"), 1);
    let digest = format!("p@{}", target.digest);
    let digest = digest.as_str();
    let (whole, tag) = (Some("docker.io/library/one:v1"), Some("v1"));
    let cases: &[Case<'_>] = &[
        (whole, None, &[], &["docker.io/library/one:v1"]),
        (None, tag, &[], &[]),
        // A tag goes after the prefix, a whole name stays only below it.
        (None, tag, &["p"], &["p:v1"]),
        (whole, None, &["p"], &[]),
        (whole, None, &["docker.io/library"], &["docker.io/library/one:v1"]),
        (whole, None, &["docker.io/library/one"], &["docker.io/library/one:v1"]),
        (whole, None, &["docker.io/lib"], &[]),
        (whole, None, &["p o"], &["docker.io/library/one:v1"]),
        // Digests.
        (None, None, &["p"], &[]),
        (None, None, &["p d"], &[digest]),
        (None, tag, &["p d"], &["p:v1", digest]),
        (None, tag, &["p ds"], &["p:v1"]),
        (whole, None, &["p ods"], &["docker.io/library/one:v1"]),
        (whole, None, &["p od"], &["docker.io/library/one:v1", digest]),
        (None, None, &["p ds"], &[digest]),
        // Several prefixes, the same name once.
        (None, tag, &["q", "p"], &["p:v1", "q:v1"]),
        (whole, None, &["p o", "q o"], &["docker.io/library/one:v1"]),
        // A name of the user's is for what brings none.
        (None, None, &["=mine:v2"], &["mine:v2"]),
        (whole, None, &["=mine:v2"], &["docker.io/library/one:v1"]),
    ];
    for (name, tag, references, expected) in cases {
        let image = Imported {
            name: name.map(str::to_owned),
            tag: tag.map(str::to_owned),
            target: target.clone(),
            subject: None,
        };
        let references: Vec<_> = references.iter().map(|text| reference(text)).collect();
        assert_eq!(names_of(&image, &references), *expected, "{name:?} {tag:?} {references:?}");
    }
}
