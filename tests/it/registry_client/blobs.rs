//! Blobs and documents that are not what they should be: BLOB and MAN cases of the specification.

use buildd_oci::{ErrorKind, digest::Digest, registry::push::Pushed};
use buildd_tests::registry::{Act, Fault, Options, Tokens};

use super::*;

#[tokio::test]
async fn blob_04_06_07_a_blob_has_its_size_or_is_refused() {
    let bytes = noise(1, 100_000);
    let header = |value: &str| Act::Header("content-length", Some(value.to_owned()));
    for (act, kind) in [
        (Act::Shorter(0), ErrorKind::DataLoss),
        (Act::Shorter(1), ErrorKind::DataLoss),
        (Act::Longer(1), ErrorKind::DataLoss),
        (Act::Longer(50_000_000), ErrorKind::DataLoss),
        (header("99999"), ErrorKind::DataLoss),
    ] {
        let registry = Registry::start();
        let blob = registry.put_blob("app", bytes.clone());
        registry.fault(Fault::on("blobs", act.clone()));
        let repository = at(&registry, "app:v1");
        let found = async { read(repository.open(&blob, 0).await?).await }.await;
        let error = found.map(|bytes| bytes.len()).expect_err(&format!("{act:?}"));
        assert_eq!(error.kind(), kind, "{act:?}: {}", chain(&error));
        // The next host has it whole.
        let good = Registry::start();
        good.put_blob("app", bytes.clone());
        if let Act::Shorter(_) | Act::Header(..) = act {
            let stream = through(&[&registry, &good], "app:v1").open(&blob, 0).await.expect("a stream");
            assert!(read(stream).await.expect("all of it") == bytes, "{act:?}");
        }
    }
}

#[tokio::test]
async fn blob_08_a_size_is_believed_only_as_far_as_bytes_come() {
    let registry = Registry::start();
    let mut blob = registry.put_blob("app", "");
    assert_eq!(read(at(&registry, "app").open(&blob, 0).await.expect("nothing")).await.expect("nothing"), "");
    blob = registry.put_blob("app", "some bytes");
    for size in [0, 9, 11, 1 << 40, u64::MAX] {
        let wrong = Descriptor { size, ..blob.clone() };
        let found = async { read(at(&registry, "app").open(&wrong, 0).await?).await }.await;
        assert_eq!(found.expect_err("not its size").kind(), ErrorKind::DataLoss, "{size}");
        let found = at(&registry, "app").document(&wrong).await;
        assert_ne!(found.expect_err("not its size").kind(), ErrorKind::Unknown, "{size}");
    }
}

#[tokio::test]
async fn blob_15_ranges_that_are_not_those_asked_for_are_refused() {
    let bytes = noise(2, 100_000);
    let blob = Descriptor::new("a/b", Digest::of(&bytes), 100_000);
    let part = |range: &str| Act::Header("content-range", Some(range.to_owned()));
    for act in [
        Act::IgnoreRange,
        part("bytes 0-99999/100000"),
        part("bytes 50001-60000/100000"),
        part("bytes 50000-60000/100001"),
        part("bytes 50000-99999/100000"),
        part("nonsense"),
        Act::Header("content-range", None),
        Act::Status(416, Vec::new()),
    ] {
        let (bad, good) = (Registry::start(), Registry::start());
        for registry in [&bad, &good] {
            registry.put_blob("app", bytes.clone());
        }
        bad.fault(Fault::on("blobs", act.clone()));
        let error = at(&bad, "app").open_range(&blob, 50_000..60_000).await.map(drop).expect_err("refused");
        assert_ne!(error.kind(), ErrorKind::NotFound, "{act:?}");
        assert!(!at(&bad, "app").ranges(&blob).await.unwrap_or(false), "{act:?}");
        let stream =
            through(&[&bad, &good], "app").open_range(&blob, 50_000..60_000).await.expect("a stream");
        assert!(read(stream).await.expect("its bytes") == bytes.slice(50_000..60_000), "{act:?}");
    }
    // From an offset to the end, a host without ranges is read from the start and the rest is right.
    let registry = Registry::start();
    registry.put_blob("app", bytes.clone());
    registry.fault(Fault::on("blobs", Act::IgnoreRange));
    let stream = at(&registry, "app").open(&blob, 99_000).await.expect("a stream");
    assert!(read(stream).await.expect("its bytes") == bytes.slice(99_000..));
}

#[tokio::test]
async fn man_01_03_04_15_documents_are_what_they_are_said_to_be() {
    let registry = Registry::start();
    let (manifest, index) = (media_type::OCI_MANIFEST, media_type::OCI_INDEX);
    let big = |size: usize| format!("{{\"layers\":[],\"config\":{{}},\"x\":\"{}\"}}", "x".repeat(size));
    for (media_type, text, expected) in [
        (manifest, r#"{"layers":[],"config":{},"manifests":[]}"#.to_owned(), "of a manifest and of an index"),
        (index, r#"{"manifests":[],"config":{}}"#.to_owned(), "of a manifest and of an index"),
        (manifest, r#"{"manifests":[]}"#.to_owned(), "fields are not those"),
        (index, r#"{"layers":[]}"#.to_owned(), "fields are not those"),
        (manifest, format!("{{\"mediaType\":\"{index}\",\"manifests\":[]}}"), "given out as"),
        (manifest, r#"{"schemaVersion":1,"fsLayers":[]}"#.to_owned(), "schema 1"),
        (manifest, big(5 << 20), "at most 4194304"),
        (manifest, "[".repeat(100_000), "parse manifest"),
        ("application/vnd.oci.image.config.v1+json", big(9 << 20), "at most 8388608"),
    ] {
        let descriptor = match media_type {
            "application/vnd.oci.image.config.v1+json" => {
                Descriptor { media_type: media_type.to_owned(), ..registry.put_blob("app", text) }
            }
            _ => registry.put_manifest("app", Some("v1"), media_type, text),
        };
        let error = at(&registry, "app:v1").document(&descriptor).await.expect_err(expected);
        assert!(chain(&error).contains(expected), "{expected}: {}", chain(&error));
    }
    let claimed = Act::Header("content-length", Some((5 << 20).to_string()));
    registry.fault(Fault::on("manifests", claimed).method("HEAD"));
    let error = at(&registry, "app:v1").resolve().await.expect_err("too large");
    assert!(chain(&error).contains("at most 4194304"), "{}", chain(&error));
}

#[tokio::test]
async fn man_11_a_foreign_layer_is_fetched_elsewhere_only_if_no_host_has_it() {
    let user = ("kim".to_owned(), "s3cret".to_owned());
    let (registry, elsewhere) =
        (Registry::with(Options { basic: Some(user), ..Options::default() }), Registry::start());
    let mut layer = elsewhere.put_blob("vendor", "a foreign layer");
    layer.media_type = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip".to_owned();
    layer.urls = vec![
        "http://169.254.169.254/layer".to_owned(),
        "file:///etc/passwd".to_owned(),
        format!("{}/v2/vendor/blobs/{}", elsewhere.url(), layer.digest),
    ];
    let authorizer = Authorizer::new(Arc::new(Fixed("kim", "s3cret")));
    let view = Client::with_timeouts(hurry()).repository(
        &reference(&registry, "app"),
        vec![host(&registry)],
        authorizer,
    );
    assert_eq!(
        read(view.open(&layer, 2).await.expect("a stream")).await.expect("its bytes"),
        "foreign layer"
    );
    assert!(elsewhere.seen().iter().all(|seen| seen.header("authorization").is_none()));
    let asked = elsewhere.seen().len();
    // Other layers do not lie elsewhere, whatever their author writes.
    let plain = Descriptor { media_type: media_type::OCI_LAYER.to_owned(), ..layer.clone() };
    assert_eq!(view.open(&plain, 0).await.map(drop).expect_err("nowhere").kind(), ErrorKind::NotFound);
    // And what the registry has is the registry's.
    registry.put_blob("app", "a foreign layer");
    assert_eq!(
        read(view.open(&layer, 0).await.expect("a stream")).await.expect("its bytes"),
        "a foreign layer"
    );
    assert_eq!(elsewhere.seen().len(), asked);
}

#[tokio::test]
async fn net_14_a_mount_is_believed_when_the_blob_is_there() {
    let blob = Descriptor::new("a/b", Digest::of(b"some bytes"), 10);
    let source = Memory(Bytes::from_static(b"some bytes"));
    let from = ["other/app".to_owned(), "team/base".to_owned()];
    let registry = Registry::start();
    registry.put_blob("team/base", "some bytes");
    let pushed = at(&registry, "team/app").push_blob(&blob, &source, &from).await.expect("push");
    assert_eq!((pushed, registry.uploaded()), (Pushed::Mounted, 0));
    // Refused with an upload, refused outright, promised and not done.
    let promise = Act::Status(201, vec![("location", "/v2/team/app/blobs/x".to_owned())]);
    for act in [None, Some(Act::Status(403, Vec::new())), Some(Act::Status(404, Vec::new())), Some(promise)] {
        let registry = Registry::start();
        if let Some(act) = act.clone() {
            registry.fault(Fault::on("uploads", act).method("POST").times(1));
        }
        let pushed = at(&registry, "team/app").push_blob(&blob, &source, &from).await.expect("push");
        assert_eq!(pushed, Pushed::Uploaded, "{act:?}");
        let posts = registry.log("uploads/").iter().filter(|line| line.starts_with("POST")).count();
        assert_eq!(posts, if act.is_some() { 2 } else { 1 }, "a refused mount opens the upload");
    }
    // Whoever may not read there uploads.
    let tokens = Tokens { users: vec![("kim".to_owned(), "s3cret".to_owned())], ..Tokens::default() };
    let registry = Registry::with(Options { tokens: Some(tokens), ..Options::default() });
    registry.put_blob("team/base", "some bytes");
    let authorizer = Authorizer::new(Arc::new(Fixed("kim", "s3cret")));
    let view = Client::with_timeouts(hurry()).repository(
        &reference(&registry, "team/app"),
        vec![host(&registry)],
        authorizer,
    );
    assert_eq!(view.push_blob(&blob, &source, &from).await.expect("push"), Pushed::Mounted);
    let scopes: Vec<String> =
        registry.seen().iter().filter(|seen| seen.path == "/token").map(|seen| seen.query.clone()).collect();
    assert!(scopes.iter().all(|query| !query.contains("other")), "{scopes:?}");
}

#[tokio::test]
async fn net_20_a_registry_that_stores_another_manifest_is_told_on() {
    let registry = Registry::start();
    let config = registry.put_blob("app", "{}");
    let bytes = manifest(&config, &[]);
    let descriptor = Descriptor::new(media_type::OCI_MANIFEST, Digest::of(&bytes), bytes.len() as u64);
    let other = Act::Header("docker-content-digest", Some(Digest::of(b"other").to_string()));
    registry.fault(Fault::on("manifests", other).method("PUT"));
    let error =
        at(&registry, "app").push_manifest(&descriptor, bytes.clone(), Some("v1")).await.expect_err("other");
    assert!(chain(&error).contains("stored the manifest"), "{}", chain(&error));
    // What is not what it is called is not pushed at all.
    let wrong = Descriptor { digest: Digest::of(b"x"), ..descriptor };
    let error = at(&registry, "app").push_manifest(&wrong, bytes, Some("v2")).await.expect_err("wrong");
    assert_eq!((error.kind(), registry.tagged("app", "v2")), (ErrorKind::DataLoss, None));
}

#[tokio::test]
async fn rule_27_referrers_come_from_the_api_or_from_the_fallback_tag() {
    for no_referrers in [false, true] {
        let registry = Registry::with(Options { no_referrers, ..Options::default() });
        let subject = image(&registry, "app", "v1");
        let view = at(&registry, "app:v1");
        assert!(view.referrers(&subject.digest, None).await.expect("none yet").is_empty());
        let config = registry.put_blob("app", "{}");
        for kind in ["application/sbom", "application/signature", "application/signature"] {
            let bytes: Bytes = json!({
                "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "artifactType": kind,
                "config": config, "layers": [], "subject": subject, "annotations": {"kind": kind},
            })
            .to_string()
            .into();
            let descriptor =
                Descriptor::new(media_type::OCI_MANIFEST, Digest::of(&bytes), bytes.len() as u64);
            view.push_manifest(&descriptor, bytes, None).await.expect("push");
        }
        assert_eq!(
            view.referrers(&subject.digest, None).await.expect("referrers").len(),
            2,
            "{no_referrers}"
        );
        let found = view.referrers(&subject.digest, Some("application/sbom")).await.expect("referrers");
        assert_eq!(found.len(), 1, "{no_referrers}");
        assert_eq!(found[0].artifact_type.as_deref(), Some("application/sbom"));
        let tag = subject.digest.to_string().replace(':', "-");
        assert_eq!(registry.tagged("app", &tag).is_some(), no_referrers);
    }
}

#[tokio::test]
async fn net_17_no_image_is_named_after_the_metadata_service() {
    for authority in ["169.254.169.254", "169.254.169.254:80", "[fe80::1]:5000"] {
        let registry = Registry::start();
        let host = Host { authority: authority.to_owned(), ..host(&registry) };
        let name = Reference::parse(&format!("{authority}/latest/meta-data")).expect("a name");
        let view = Client::with_timeouts(hurry()).repository(&name, vec![host], anonymous());
        let error = view.resolve().await.expect_err("refused");
        assert!(chain(&error).contains("an address that no registry may have"), "{}", chain(&error));
    }
}
