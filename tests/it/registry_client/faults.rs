//! Faults: F-26 to F-38 of the specification.

use std::{future::Future, time::Instant};

use buildd_oci::{ErrorKind, digest::Digest, registry::push::Pushed};
use buildd_tests::registry::{Act, Fault, Hang, Options, Seen};

use super::*;

fn blob(bytes: &Bytes) -> Descriptor {
    Descriptor::new(media_type::OCI_LAYER, Digest::of(bytes), bytes.len() as u64)
}

fn status(status: u16) -> Act {
    Act::Status(status, Vec::new())
}

/// Requests of a method whose path contains a text.
fn of(registry: &Registry, method: &str, path: &str) -> Vec<Seen> {
    registry.seen().into_iter().filter(|seen| seen.method == method && seen.path.contains(path)).collect()
}

/// A port where nobody listens: none that is chosen for whoever asks for one.
fn nobody() -> String {
    "127.0.0.1:1".to_owned()
}

/// Tries again for an hour where trying again helps.
fn patient() -> Timeouts {
    Timeouts { patience: Duration::from_secs(3600), ..hurry() }
}

/// What must not wait for the end of patience: a liveness deadline, far from both.
async fn at_once<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work).await.expect("told at once")
}

#[tokio::test]
async fn f_26_hosts_that_cannot_be_reached_are_passed_over_and_all_named() {
    let registry = Registry::start();
    let expected = image(&registry, "app", "v1");
    let broken =
        |authority: &str, scheme| Host { scheme, authority: authority.to_owned(), ..host(&registry) };
    let refuses = nobody();
    let unreachable = vec![
        broken(&refuses, Scheme::Http),
        broken("no-such-host.invalid", Scheme::Https),
        // Speaks no TLS, and is not asked in any other way.
        broken(&registry.authority(), Scheme::Https),
    ];
    let client = Client::with_timeouts(hurry());
    let name = reference(&registry, "app:v1");
    let hosts = unreachable.iter().cloned().chain([host(&registry)]).collect();
    let repository = client.repository(&name, hosts, anonymous());
    assert_eq!(repository.resolve().await.expect("the last host"), expected);
    assert!(repository.document(&expected).await.is_ok());
    let nowhere = Client::with_timeouts(patient()).repository(&name, unreachable, anonymous());
    let error = at_once(nowhere.resolve()).await.expect_err("no host");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let text = error.to_string();
    for part in
        ["none of 3 hosts", &refuses, "Connection refused", "no-such-host.invalid", "InvalidContentType"]
    {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
}

#[tokio::test]
async fn f_27_server_errors_that_pass_are_waited_out() {
    for code in [500, 502, 503, 504, 408] {
        let registry = Registry::start();
        for method in ["HEAD", "GET"] {
            registry.fault(Fault::on("manifests", status(code)).method(method).times(3));
        }
        let expected = image(&registry, "app", "v1");
        let repository = at(&registry, "app:v1");
        let found = repository.resolve().await.unwrap_or_else(|error| panic!("{code}: {}", chain(&error)));
        assert_eq!(found, expected);
        repository.document(&found).await.unwrap_or_else(|error| panic!("{code}: {}", chain(&error)));
        assert_eq!(registry.log("manifests").len(), 8);
    }
    // With another host to ask, that one is asked soon.
    let (bad, good) = (Registry::start(), Registry::start());
    bad.fault(Fault::on("manifests", status(503)));
    let expected = image(&good, "app", "v1");
    assert_eq!(through(&[&bad, &good], "app:v1").resolve().await.expect("the second host"), expected);
    assert_eq!(bad.log("manifests").len(), 2);
}

#[tokio::test]
async fn f_28_too_many_requests_is_heeded_on_every_verb() {
    let date = "Wed, 21 Oct 2015 07:28:00 GMT";
    for asked in [None, Some("0"), Some("1"), Some(date), Some("soon"), Some("-1")] {
        let registry = Registry::start();
        let limit = |method| {
            let headers = asked.iter().map(|value| ("retry-after", (*value).to_owned())).collect();
            // Uploads in chunks: PATCH is asked too.
            registry.fault(Fault::on("", Act::Status(429, headers)).method(method).times(1));
        };
        let bytes = noise(1, 40_000);
        registry.fault(Fault::on("uploads", Act::CutUpload(1000)).method("PUT").times(1));
        ["HEAD", "POST", "PUT", "PATCH", "GET"].into_iter().for_each(limit);
        let repository = at(&registry, "app:v1");
        let start = Instant::now();
        let pushed = repository.push_blob(&blob(&bytes), &Memory(bytes.clone()), &[]).await;
        pushed.unwrap_or_else(|error| panic!("{asked:?}: {}", chain(&error)));
        registry.fault(Fault::on("manifests", Act::Status(429, Vec::new())).method("PUT").times(2));
        let document = manifest(&blob(&bytes), &[]);
        let descriptor =
            Descriptor::new(media_type::OCI_MANIFEST, Digest::of(&document), document.len() as u64);
        repository.push_manifest(&descriptor, document, Some("v1")).await.expect("push");
        assert_eq!(registry.tagged("app", "v1"), Some(descriptor.digest));
        let limited = registry.seen().iter().filter(|seen| seen.status == 429).count();
        assert_eq!(limited, 7, "{asked:?}: {:?}", registry.log(""));
        assert!(asked != Some("1") || start.elapsed() >= Duration::from_secs(3), "{:?}", start.elapsed());
    }
    // A host that wants more time than there is gets its answer told at once.
    let registry = Registry::start();
    let headers = vec![("retry-after", "1000000000".to_owned())];
    registry.fault(Fault::on("", Act::Status(429, headers)));
    let error = at_once(at(&registry, "app:v1").resolve()).await.expect_err("limited");
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
    assert_eq!(registry.seen().len(), 1, "asked once: {:?}", registry.log(""));
}

#[tokio::test]
async fn f_29_refusals_are_told_at_once() {
    let bytes = noise(1, 40_000);
    for code in [400, 403, 404, 405, 413, 416] {
        for (method, path) in
            [("POST", "uploads"), ("PUT", "uploads"), ("PUT", "manifests"), ("GET", "blobs/sha256")]
        {
            let registry = Registry::start();
            registry.put_blob("app", bytes.clone());
            let body = r#"{"errors":[{"code":"DENIED","message":"never"}]}"#;
            let act = Act::Answer(code, vec![("content-type", "application/json".to_owned())], body.into());
            registry.fault(Fault::on(path, act).method(method));
            let repository = through_with(patient(), &[&registry], "app:v1");
            let other = noise(2, 40_000);
            let error = match (method, path) {
                ("GET", _) => {
                    at_once(repository.open(&blob(&bytes), 0)).await.map(drop).expect_err("refused")
                }
                (_, "uploads") => {
                    let source = Memory(other.clone());
                    let pushed = at_once(repository.push_blob(&blob(&other), &source, &[])).await;
                    pushed.map(drop).expect_err("refused")
                }
                _ => {
                    let document = manifest(&blob(&bytes), &[]);
                    let size = document.len() as u64;
                    let descriptor = Descriptor::new(media_type::OCI_MANIFEST, Digest::of(&document), size);
                    at_once(repository.push_manifest(&descriptor, document, Some("v1")))
                        .await
                        .expect_err("refused")
                }
            };
            let text = chain(&error);
            assert!(
                text.contains(&code.to_string()) && text.contains("DENIED never"),
                "{method} {path}: {text}"
            );
            let count = of(&registry, method, path).len();
            assert!(count <= 3, "{code} to {method} {path} was asked for {count} times");
        }
    }
}

#[tokio::test]
async fn f_30_a_download_that_breaks_goes_on_where_it_was() {
    let size = 1_000_000;
    let bytes = noise(5, size);
    for cut in [0, 1, size / 2, size - 1] {
        let registry = Registry::start();
        let blob = registry.put_blob("app", bytes.clone());
        registry.fault(Fault::on("blobs", Act::Cut(cut)).times(1));
        let stream = at(&registry, "app:v1").open(&blob, 0).await.expect("a stream");
        assert!(read(stream).await.expect("all of it") == bytes, "{cut}");
        let seen = of(&registry, "GET", "blobs");
        assert_eq!(seen.len(), 2, "{cut}: {:?}", registry.log("blobs"));
        if let Some(range) = seen[1].header("range") {
            let from: usize =
                range.trim_start_matches("bytes=").trim_end_matches('-').parse().expect("a number");
            assert!(cut - from <= size / 10, "{cut}: again from {from}");
        } else {
            assert!(cut <= size / 10, "{cut}: again from the start");
        }
    }
    // One host breaks and loses the blob; the next, which does not know ranges, goes on.
    let registries = [Registry::start(), Registry::start()];
    for (index, registry) in registries.iter().enumerate() {
        registry.put_blob("app", bytes.clone());
        if index == 1 {
            registry.fault(Fault::on("blobs", Act::IgnoreRange).times(1));
        } else if index == 0 {
            registry.fault(Fault::on("blobs", Act::Cut(300_000)).times(1));
            registry.fault(Fault::on("blobs", status(404)));
        }
    }
    let repository = through(&[&registries[0], &registries[1]], "app:v1");
    let stream = repository.open(&blob(&bytes), 0).await.expect("a stream");
    let served = stream.served();
    assert!(read(stream).await.expect("all of it") == bytes);
    assert!(served.hosts().contains(&registries[0].authority()), "{:?}", served.hosts());
    assert!(served.hosts().contains(&registries[1].authority()), "{:?}", served.hosts());
}

#[tokio::test]
async fn f_30_a_host_that_always_breaks_is_given_up() {
    let bytes = noise(5, 100_000);
    for cut in [0, 1, 99_999] {
        let registry = Registry::start();
        let blob = registry.put_blob("app", bytes.clone());
        registry.fault(Fault::on("blobs", Act::Cut(cut.min(1000))));
        let error = match at(&registry, "app:v1").open(&blob, 0).await {
            Ok(stream) => read(stream).await.expect_err("it never ends"),
            Err(error) => error,
        };
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", chain(&error));
        assert!(of(&registry, "GET", "blobs").len() <= 20, "{:?}", registry.log("blobs").len());
    }
}

#[tokio::test]
async fn f_31_an_upload_that_breaks_goes_on_where_the_registry_is() {
    let size = 1_000_000;
    let bytes = noise(6, size);
    for cut in [0, 1, size / 2, size - 1, size] {
        let registry = Registry::start();
        registry.fault(Fault::on("uploads", Act::CutUpload(cut)).method("PUT").times(1));
        let repository = at(&registry, "app:v1");
        let pushed = repository.push_blob(&blob(&bytes), &Memory(bytes.clone()), &[]).await;
        assert_eq!(pushed.unwrap_or_else(|error| panic!("{cut}: {}", chain(&error))), Pushed::Uploaded);
        assert!(registry.content("app", &Digest::of(&bytes)).is_some(), "{cut}");
        let again = registry.uploaded() as usize - size;
        assert!(again <= 1, "{cut}: {again} bytes were sent twice: {:?}", registry.log("uploads"));
    }
    // The rest breaks too, and the session is lost in the end: from the start then.
    let registry = Registry::start();
    registry.fault(Fault::on("uploads", Act::CutUpload(300_000)).method("PUT").times(1));
    registry.fault(Fault::on("uploads", Act::CutUpload(300_000)).method("PATCH").times(2));
    registry.fault(Fault::on("uploads", status(404)).method("GET").after(2).times(1));
    let pushed = at(&registry, "app:v1").push_blob(&blob(&bytes), &Memory(bytes.clone()), &[]).await;
    pushed.unwrap_or_else(|error| panic!("{}: {:?}", chain(&error), registry.log("")));
    assert_eq!(of(&registry, "POST", "uploads").len(), 2);
    assert!(registry.content("app", &Digest::of(&bytes)).is_some());
}

#[tokio::test]
async fn f_32_whoever_drips_or_is_silent_is_left() {
    let timeouts = Timeouts {
        answer: Duration::from_millis(300),
        silence: Duration::from_millis(300),
        drip_window: Duration::from_millis(500),
        patience: Duration::from_secs(2),
        ..hurry()
    };
    let bytes = noise(7, 200_000);
    let good = Registry::start();
    good.put_blob("app", bytes.clone());
    for act in [Act::Stop(0), Act::Stop(100_000), Act::Hang(Hang::On), Act::Drip] {
        let slow = Registry::start();
        slow.put_blob("app", bytes.clone());
        slow.fault(Fault::on("", act.clone()));
        let stream =
            through_with(timeouts, &[&slow, &good], "app:v1").open(&blob(&bytes), 0).await.expect("a stream");
        assert!(read(stream).await.expect("all of it") == bytes, "{act:?}");
    }
    let silent = Registry::start();
    silent.fault(Fault::on("", Act::Hang(Hang::On)));
    let text = chain(&through_with(timeouts, &[&silent], "app:v1").resolve().await.expect_err("no answer"));
    assert!(text.contains("no answer within"), "{text}");
    // An upload that the other side does not take is given up as well, however large its buffers are.
    let bytes = noise(8, 30_000_000);
    silent.forgive();
    silent.fault(Fault::on("uploads/upload", Act::Hang(Hang::On)));
    let view = through_with(Timeouts { upload_answer: timeouts.answer, ..timeouts }, &[&silent], "app:v1");
    let error = view.push_blob(&blob(&bytes), &Memory(bytes.clone()), &[]).await.expect_err("never taken");
    assert!(
        chain(&error).contains("silence for") || chain(&error).contains("no answer"),
        "{}",
        chain(&error)
    );
}

#[tokio::test]
async fn f_33_an_answer_that_is_lost_does_no_harm() {
    let bytes = noise(8, 50_000);
    for (method, path) in [("POST", "uploads"), ("PUT", "uploads"), ("PUT", "manifests"), ("HEAD", "")] {
        let registry = Registry::start();
        registry.fault(Fault::on(path, Act::LoseAnswer).method(method).times(1));
        let repository = at(&registry, "app:v1");
        let pushed = repository.push_blob(&blob(&bytes), &Memory(bytes.clone()), &[]).await;
        pushed.unwrap_or_else(|error| panic!("{method} {path}: {}", chain(&error)));
        let document = manifest(&blob(&bytes), &[]);
        let descriptor =
            Descriptor::new(media_type::OCI_MANIFEST, Digest::of(&document), document.len() as u64);
        repository.push_manifest(&descriptor, document, Some("v1")).await.expect("push");
        assert_eq!(registry.tagged("app", "v1"), Some(descriptor.digest));
        assert_eq!(registry.uploaded(), 50_000, "{method} {path}: {:?}", registry.log(""));
    }
}

#[tokio::test]
async fn f_36_a_blob_that_the_registry_lost_is_told_by_its_code() {
    let registry = Registry::start();
    let repository = at(&registry, "app:v1");
    let bytes = noise(9, 1000);
    let push =
        || async { repository.push_blob(&blob(&bytes), &Memory(bytes.clone()), &[]).await.expect("push") };
    push().await;
    let document = manifest(&blob(&bytes), &[]);
    let descriptor = Descriptor::new(media_type::OCI_MANIFEST, Digest::of(&document), document.len() as u64);
    registry.remove_blob("app", &Digest::of(&bytes));
    let error = repository.push_manifest(&descriptor, document.clone(), Some("v1")).await.expect_err("lost");
    assert!(error.says("MANIFEST_BLOB_UNKNOWN"), "{}", chain(&error));
    assert_eq!(registry.tagged("app", "v1"), None);
    assert_eq!(push().await, Pushed::Uploaded);
    repository.push_manifest(&descriptor, document, Some("v1")).await.expect("push");
}

#[tokio::test]
async fn f_38_a_mirror_that_serves_other_bytes_is_left_and_asked_last() {
    let (mirror, primary) = (Registry::start(), Registry::start());
    let expected = image(&mirror, "app", "v1");
    image(&primary, "app", "v1");
    mirror.fault(Fault::on("manifests/sha256", Act::Flip(40)).method("GET"));
    let repository = through(&[&mirror, &primary], "app:v1");
    let bytes = repository.document(&expected).await.expect("the primary's");
    assert_eq!(Digest::of(&bytes), expected.digest);
    let asked = mirror.log("").len();
    repository.document(&expected).await.expect("the primary's");
    assert_eq!(mirror.log("").len(), asked, "the mirror was asked first again");
    // Of a stream only its reader knows; he says so.
    let repository = through(&[&mirror, &primary], "app:v1");
    let layer = buildd_oci::manifest::Manifest::parse(&bytes).expect("a manifest").layers.remove(0);
    mirror.fault(Fault::on("blobs", Act::Flip(5_000)));
    let stream = repository.open(&layer, 0).await.expect("a stream");
    let served = stream.served();
    assert_ne!(Digest::of(&read(stream).await.expect("bytes")), layer.digest);
    served.distrust();
    let stream = repository.open(&layer, 0).await.expect("a stream");
    assert_eq!(stream.served().hosts(), Vec::<String>::new());
    assert_eq!(Digest::of(&read(stream).await.expect("bytes")), layer.digest);
}

#[tokio::test]
async fn f_31_a_registry_that_takes_only_small_requests_gets_chunks() {
    let bytes = noise(10, 40_000_000);
    let registry = Registry::with(Options { max_body: Some(17 << 20), ..Options::default() });
    let pushed = at(&registry, "app:v1").push_blob(&blob(&bytes), &Memory(bytes.clone()), &[]).await;
    pushed.unwrap_or_else(|error| panic!("{}: {:?}", chain(&error), registry.log("")));
    assert!(registry.content("app", &Digest::of(&bytes)).is_some());
    assert_eq!(of(&registry, "PATCH", "uploads").len(), 3);
    let registry = Registry::with(Options { max_body: Some(1 << 20), ..Options::default() });
    let bytes = noise(10, 20_000_000);
    let pushed = at(&registry, "app:v1").push_blob(&blob(&bytes), &Memory(bytes.clone()), &[]).await;
    let error = pushed.expect_err("larger than any chunk");
    assert!(chain(&error).contains("413"), "{}", chain(&error));
}

#[tokio::test]
async fn f_29_a_proxy_that_closes_instead_of_answering_is_given_up() {
    let bytes = noise(11, 40_000);
    let registry = Registry::start();
    for method in ["PUT", "PATCH"] {
        registry.fault(Fault::on("uploads", Act::Hang(Hang::Up)).method(method));
    }
    let repository = through_with(patient(), &[&registry], "app:v1");
    let pushed = at_once(repository.push_blob(&blob(&bytes), &Memory(bytes.clone()), &[])).await;
    assert_eq!(pushed.expect_err("never taken").kind(), ErrorKind::Unavailable);
    assert!(!of(&registry, "PATCH", "uploads").is_empty(), "chunks were not tried");
    assert!(registry.log("uploads/upload").len() < 30, "{:?}", registry.log("uploads/upload"));
}
