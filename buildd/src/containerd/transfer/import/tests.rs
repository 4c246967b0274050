//! Names in an archive and wishes of a client in, names of images out.

use std::time::Duration;

use buildd_api::containerd::containerd::types::transfer::Data;
use buildd_oci::{descriptor::Descriptor, media_type};
use tokio::sync::mpsc;

use super::{
    super::super::streaming::{Stream, envelope},
    *,
};

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

#[tokio::test(flavor = "multi_thread")]
async fn an_import_whose_client_falls_silent_ends_and_leaves_nothing() {
    // A whole blob, and the first half of another one.
    let mut archive = tar::Builder::new(Vec::new());
    for data in [vec![1_u8; 2 << 20], vec![2; 2 << 20]] {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        let name = format!("blobs/sha256/{}", Digest::of(&data).hex());
        archive.append_data(&mut header, name, &*data).expect("memory has room");
    }
    let archive = archive.into_inner().expect("an archive");
    let (client, incoming) = mpsc::channel(4096);
    let (outgoing, _credit) = mpsc::channel(64);
    for data in archive[..3 << 20].chunks(32 << 10) {
        client.try_send(envelope(&Data { data: data.to_vec() })).expect("room");
    }
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(dir.path()).expect("a store");
    let reader = Stream::of(incoming, outgoing).into_reader_within(Duration::from_millis(50));
    let work = move || {
        let done = receive(&store, "default", reader, &ImageStore::default(), &BTreeMap::new());
        let left = (store.content.list("default"), store.content.statuses("default"));
        (done.map(|saved| saved.len()), left)
    };
    static TEST: Limit = Limit::new("test", 1);
    let (done, (blobs, ingests)) = TEST.run(work).await;
    let error = done.expect_err("the second blob is not whole");
    let status = crate::status::of(&error);
    let text = status.message();
    assert!(text.contains("the client has sent nothing for"), "{text}");
    assert_eq!(blobs.expect("a list").len(), 0);
    assert_eq!(ingests.expect("a list").len(), 0);
    drop(client);
}
