//! Pulls: resolving, documents, blobs, ranges, mirrors.

use buildd_oci::{ErrorKind, digest::Digest};
use buildd_tests::registry::{Act, Fault};

use super::*;

#[tokio::test]
async fn a_tag_resolves_and_all_below_it_is_read() {
    let registry = Registry::start();
    let expected = image(&registry, "team/app", "v1");
    let repository = at(&registry, "team/app:v1");
    let descriptor = repository.resolve().await.expect("resolve");
    assert_eq!(descriptor, expected);
    let bytes = repository.document(&descriptor).await.expect("the manifest");
    let manifest = buildd_oci::manifest::Manifest::parse(&bytes).expect("a manifest");
    assert_eq!(repository.document(&manifest.config).await.expect("the config"), "{\"tag\":\"v1\"}");
    let layer = repository.open(&manifest.layers[0], 0).await.expect("the layer");
    assert!(read(layer).await.expect("its bytes") == noise(7, 100_000));
    let requests = registry.log("");
    let (tag, digest) = ("HEAD /v2/team/app/manifests/v1 200".to_owned(), expected.digest);
    assert_eq!(requests[..2], [tag, format!("GET /v2/team/app/manifests/{digest} 200")]);
    assert_eq!(requests.len(), 4, "{requests:?}");
}

#[tokio::test]
async fn a_digest_is_trusted_more_than_what_a_host_says_of_it() {
    let registry = Registry::start();
    let expected = image(&registry, "app", "v1");
    registry.fault(Fault::on(
        "manifests",
        Act::Header("docker-content-digest", Some(Digest::of(b"x").to_string())),
    ));
    let found = at(&registry, &format!("app:other@{}", expected.digest)).resolve().await.expect("resolve");
    assert_eq!(found, expected);
    // A digest may be a blob's (rule 53).
    let blob = registry.put_blob("app", "some bytes");
    let found = at(&registry, &format!("app@{}", blob.digest)).resolve().await.expect("resolve");
    assert_eq!(found, blob);
    let missing =
        at(&registry, &format!("app@{}", Digest::of(b"nothing"))).resolve().await.expect_err("nothing");
    assert_eq!(missing.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn ranges_and_offsets_give_exactly_their_bytes() {
    let registry = Registry::start();
    let bytes = noise(3, 50_000);
    let blob = registry.put_blob("app", bytes.clone());
    let repository = at(&registry, "app:v1");
    assert!(repository.ranges(&blob).await.expect("an answer"));
    for (start, end) in [(0, 1), (0, 50_000), (49_999, 50_000), (100, 30_000), (7, 7)] {
        let part = repository.open_range(&blob, start..end).await.expect("a part");
        assert!(
            read(part).await.expect("its bytes") == bytes.slice(start as usize..end as usize),
            "{start}..{end}"
        );
    }
    for offset in [0, 1, 25_000, 49_999, 50_000] {
        let rest = repository.open(&blob, offset).await.expect("the rest");
        assert!(read(rest).await.expect("its bytes") == bytes.slice(offset as usize..), "{offset}");
    }
    for (start, end) in [(0, 50_001), (50_001, 50_001), (u64::MAX, u64::MAX)] {
        let error = repository.open_range(&blob, start..end).await.expect_err("outside of the blob");
        assert_eq!(error.kind(), ErrorKind::DataLoss, "{start}..{end}");
    }
}
