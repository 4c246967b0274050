//! Pulls: resolving, documents, blobs, ranges, mirrors.

use buildd_oci::{ErrorKind, digest::Digest};
use buildd_tests::registry::{Act, Fault, Options};

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
async fn rule_56_a_refusal_has_the_registrys_own_words() {
    let registry = Registry::start();
    let error = at(&registry, "app:v1").resolve().await.expect_err("not there");
    assert!(chain(&error).contains("MANIFEST_UNKNOWN"), "{}", chain(&error));
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let user = ("kim".to_owned(), "s3cret".to_owned());
    let closed = Registry::with(Options { basic: Some(user), ..Options::default() });
    let error = at(&closed, "app:v1").resolve().await.expect_err("nobody");
    assert!(chain(&error).contains("authentication required"), "{}", chain(&error));
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    // A mirror that has it not is passed over at once: nobody reads its words.
    image(&registry, "app", "v1");
    let mirror = Registry::start();
    let hosts = vec![host(&mirror), host(&registry)];
    let view = Client::with_timeouts(hurry()).repository(&reference(&registry, "app:v1"), hosts, anonymous());
    view.resolve().await.expect("the last host");
    assert_eq!(mirror.log("manifests"), ["HEAD /v2/app/manifests/v1 404"]);
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

#[tokio::test(flavor = "multi_thread")]
async fn a_large_blob_comes_in_parts_where_its_host_sends_them() {
    let bytes = noise(9, (40 << 20) + 5);
    let (registry, dead, plain) = (Registry::start(), Registry::start(), Registry::start());
    let blob = registry.put_blob("app", bytes.clone());
    plain.put_blob("app", bytes.clone());
    plain.fault(Fault::on("blobs", Act::IgnoreRange));
    dead.fault(Fault::on("blobs", Act::Status(404, Vec::new())));
    let ranges = |registry: &Registry| {
        let seen = registry.seen();
        let mut all: Vec<String> =
            seen.iter().filter_map(|seen| seen.header("range")).map(str::to_owned).collect();
        all.sort_by_key(|range| {
            range["bytes=".len()..].split('-').next().and_then(|start| start.parse::<u64>().ok())
        });
        all
    };
    // Parts break and go on; the host that does not have the blob is asked once.
    registry.fault(Fault::on("blobs", Act::Cut(3 << 20)).after(1).times(2));
    let stream = through(&[&dead, &registry], "app").open(&blob, 7).await.expect("a stream");
    let served = stream.served();
    assert!(read(stream).await.expect("all of it") == bytes.slice(7..));
    assert_eq!(served.hosts(), [registry.authority()]);
    let asked = ranges(&registry);
    assert!(asked.len() >= 5 + 2, "{asked:?}");
    assert_eq!(
        (asked[0].as_str(), asked.last().map(String::as_str)),
        ("bytes=7-8388614", Some("bytes=33554439-"))
    );
    assert_eq!(dead.log("blobs").len(), 1, "a host without the blob is asked once");
    // In one go from a host without ranges, from the start as well as from an offset.
    for offset in [0, 1000] {
        let stream = at(&plain, "app").open(&blob, offset).await.expect("a stream");
        assert!(read(stream).await.expect("all of it") == bytes.slice(offset as usize..));
    }
    assert_eq!(plain.log("blobs").len(), 2);
    // One that stops sending parts half-way is as good as gone.
    let fickle = Registry::start();
    fickle.put_blob("app", bytes.clone());
    fickle.fault(Fault::on("blobs", Act::IgnoreRange).after(2));
    let found = async { read(at(&fickle, "app").open(&blob, 0).await?).await }.await;
    assert!(chain(&found.map(drop).expect_err("no parts")).contains("where a part was asked for"));
    let stream = through(&[&fickle, &registry], "app").open(&blob, 0).await.expect("a stream");
    assert!(read(stream).await.expect("all of it") == bytes);
    // Two at once: the second one comes in one go.
    let view = at(&registry, "app");
    let (one, two) =
        (view.open(&blob, 0).await.expect("a stream"), view.open(&blob, 0).await.expect("a stream"));
    let (before, mut one) = (ranges(&registry).len(), one);
    let mut start = 0;
    while start <= 8 << 20 {
        start += one.next().await.expect("more").expect("bytes").len();
    }
    assert!(read(two).await.expect("all of it") == bytes);
    assert!(ranges(&registry).len() <= before + 1 + 3, "both came in parts");
    assert!(read(one).await.expect("all of it") == bytes.slice(start..));
    // Where one connection is fast, it is left alone.
    let quick = Timeouts { slow_part: Duration::from_secs(60), ..hurry() };
    let before = ranges(&registry).len();
    let stream = through_with(quick, &[&registry], "app").open(&blob, 0).await.expect("a stream");
    assert!(read(stream).await.expect("all of it") == bytes);
    assert_eq!(ranges(&registry).len(), before + 2);
}

#[tokio::test]
async fn rule_40_we_say_who_we_are_unless_a_header_does() {
    let registry = Registry::start();
    image(&registry, "app", "v1");
    at(&registry, "app:v1").resolve().await.expect("resolve");
    let agent = |index: usize| registry.seen()[index].header("user-agent").map(str::to_owned);
    assert!(agent(0).is_some_and(|agent| agent.starts_with("buildd/")), "{:?}", agent(0));
    let named = Host { headers: vec![("User-Agent".to_owned(), "somebody/1".to_owned())], ..host(&registry) };
    let view =
        Client::with_timeouts(hurry()).repository(&reference(&registry, "app:v1"), vec![named], anonymous());
    view.resolve().await.expect("resolve");
    assert_eq!(agent(1).as_deref(), Some("somebody/1"));
}
