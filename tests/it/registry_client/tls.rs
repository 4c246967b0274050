//! TLS: whom the client trusts at which host, and when it speaks without (rules 28 to 33, 43 to 49; NET-09, NET-15).

use buildd_oci::ErrorKind;
use buildd_tests::registry::{Act, Authority, Fault, Options, Tokens};

use super::*;

/// A registry with an image, the image, and a client's view of it with these settings.
fn encrypted(authority: &Authority) -> (Registry, Descriptor) {
    let registry = Registry::with(Options { tls: Some(authority.clone()), ..Options::default() });
    let expected = image(&registry, "app", "v1");
    (registry, expected)
}

fn trusting(registry: &Registry, tls: Tls) -> Repository {
    trusting_with(&Client::with_timeouts(hurry()), registry, tls)
}

fn trusting_with(client: &Client, registry: &Registry, tls: Tls) -> Repository {
    client.repository(&reference(registry, "app:v1"), vec![Host { tls, ..host(registry) }], anonymous())
}

#[tokio::test]
async fn net_15_a_server_is_trusted_only_with_its_authority_and_under_its_name() {
    let dir = tempfile::tempdir().expect("a folder");
    let (ours, other) = (Authority::new(&["127.0.0.1"]), Authority::new(&["127.0.0.1"]));
    let [itself, misnamed] = ["127.0.0.1", "x.example"].map(|name| Authority::self_signed(&[name]));
    let [ca, other_ca, own, misnamed_pem] =
        ["ca.pem", "other.pem", "own.pem", "misnamed.pem"].map(|name| dir.path().join(name));
    misnamed.write(&misnamed_pem);
    ours.write(&ca);
    other.write(&other_ca);
    itself.write(&own);
    let only = |path: &std::path::Path| Tls { ca: vec![path.to_owned()], ..Tls::default() };
    let both = Tls { ca: vec![other_ca.clone(), ca.clone()], ..Tls::default() };
    let skip = Tls { skip_verify: true, ..Tls::default() };
    for (what, server, tls, expected) in [
        ("its authority", &ours, only(&ca), None),
        ("two authorities", &ours, both, None),
        ("nobody", &ours, Tls::default(), Some("UnknownIssuer")),
        ("another authority", &ours, only(&other_ca), Some("invalid peer certificate")),
        ("another name", &ours.named(&["registry.example"]), only(&ca), Some("not valid for name")),
        ("an old certificate", &ours.expired(), only(&ca), Some("expired")),
        ("itself", &itself, only(&own), None),
        ("itself under another name", &misnamed, only(&misnamed_pem), Some("not valid for name")),
        ("anyone", &ours.named(&["registry.example"]), skip.clone(), None),
        ("anyone, however old", &ours.expired(), skip, None),
    ] {
        let (registry, expected_image) = encrypted(server);
        match (trusting(&registry, tls).resolve().await, expected) {
            (Ok(found), None) => assert_eq!(found, expected_image, "{what}"),
            (Err(error), Some(text)) => {
                assert!(chain(&error).contains(text), "{what}: {}", chain(&error));
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{what}");
                assert!(error.hint().is_some_and(|hint| hint.contains("hosts.toml")), "{what}");
                assert!(registry.seen().is_empty(), "{what}: something was sent");
            }
            (found, _) => panic!("{what}: {:?}", found.map_err(|error| chain(&error))),
        }
    }
}

#[tokio::test]
async fn rule_28_a_file_of_certificates_that_cannot_be_used_is_an_error() {
    let dir = tempfile::tempdir().expect("a folder");
    let ours = Authority::new(&["127.0.0.1"]);
    let (registry, _) = encrypted(&ours);
    let [ca, absent, empty, broken] =
        ["ca.pem", "absent.pem", "empty.pem", "broken.pem"].map(|name| dir.path().join(name));
    ours.write(&ca);
    std::fs::write(&empty, "nothing here").expect("write");
    std::fs::write(&broken, "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n").expect("write");
    for (tls, name, text) in [
        (Tls { ca: vec![ca.clone(), absent.clone()], ..Tls::default() }, "absent.pem", "No such file"),
        (Tls { ca: vec![empty.clone()], ..Tls::default() }, "empty.pem", "no certificate in it"),
        (Tls { ca: vec![broken], ..Tls::default() }, "broken.pem", "not PEM"),
        (Tls { client: vec![(ca.clone(), ca.clone())], ..Tls::default() }, "ca.pem", "no private key in it"),
        (Tls { client: vec![(empty.clone(), empty)], ..Tls::default() }, "empty.pem", "no certificate in it"),
    ] {
        let error = trusting(&registry, tls).resolve().await.expect_err(name);
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        let text_found = chain(&error);
        assert!(text_found.contains(name) && text_found.contains(text), "{text_found}");
    }
    assert!(registry.seen().is_empty());
}

#[tokio::test]
async fn rule_29_a_client_certificate_is_shown_to_its_host_only() {
    let dir = tempfile::tempdir().expect("a folder");
    let (servers, clients) = (Authority::new(&["127.0.0.1"]), Authority::new(&["127.0.0.1"]));
    let [ca, certificate, key] = ["ca.pem", "client.pem", "client.key"].map(|name| dir.path().join(name));
    servers.write(&ca);
    clients.write_client(&certificate, &key);
    let options =
        Options { tls: Some(servers.clone()), client_certificates: Some(clients), ..Options::default() };
    let registry = Registry::with(options.clone());
    let expected = image(&registry, "app", "v1");
    let with =
        Tls { ca: vec![ca.clone()], client: vec![(certificate.clone(), key.clone())], skip_verify: false };
    assert_eq!(trusting(&registry, with.clone()).resolve().await.expect("resolve"), expected);
    // One file may hold both.
    let both = dir.path().join("both.pem");
    let [a, b] = [&certificate, &key].map(|path| std::fs::read_to_string(path).expect("a file"));
    std::fs::write(&both, a + &b).expect("write");
    let combined = Tls { client: vec![(both.clone(), both)], ..with.clone() };
    assert_eq!(trusting(&registry, combined).resolve().await.expect("resolve"), expected);
    let without = Tls { client: Vec::new(), ..with.clone() };
    assert!(trusting(&registry, without).resolve().await.is_err());
    // Where a redirect leads, it is not shown.
    let elsewhere = Registry::with(options);
    let blob = registry.put_blob("app", "some bytes");
    elsewhere.put_blob("app", "some bytes");
    let to = format!("{}/v2/app/blobs/{}", elsewhere.url(), blob.digest);
    registry.fault(Fault::on("blobs", Act::Status(307, vec![("location", to)])));
    assert!(trusting(&registry, with).open(&blob, 0).await.is_err());
    assert!(elsewhere.seen().is_empty());
}

#[tokio::test]
async fn net_09_not_checking_one_host_checks_every_other() {
    let (registry, expected) = encrypted(&Authority::new(&["127.0.0.1"]));
    let (other, _) = encrypted(&Authority::new(&["127.0.0.1"]));
    let blob = registry.put_blob("app", "some bytes");
    other.put_blob("app", "some bytes");
    let client = Client::with_timeouts(hurry());
    let skip = Tls { skip_verify: true, ..Tls::default() };
    let lax = trusting_with(&client, &registry, skip);
    assert_eq!(lax.resolve().await.expect("resolve"), expected);
    // The same host with other settings has other connections.
    let error = trusting_with(&client, &registry, Tls::default()).resolve().await.expect_err("not trusted");
    assert!(chain(&error).contains("UnknownIssuer"), "{}", chain(&error));
    let to = format!("{}/v2/app/blobs/{}", other.url(), blob.digest);
    registry.fault(Fault::on("blobs", Act::Status(307, vec![("location", to)])));
    let error = lax.open(&blob, 0).await.map(drop).expect_err("not trusted");
    assert!(chain(&error).contains("UnknownIssuer"), "{}", chain(&error));
    assert!(other.seen().is_empty());
}

#[tokio::test]
async fn rule_46_plain_http_only_where_it_was_allowed_and_then_for_good() {
    let skip = Tls { skip_verify: true, ..Tls::default() };
    let view = |registry: &Registry, scheme| {
        let host = Host { scheme, tls: skip.clone(), ..host(registry) };
        Client::with_timeouts(hurry()).repository(&reference(registry, "app:v1"), vec![host], anonymous())
    };
    let (encrypted, expected) = encrypted(&Authority::new(&["127.0.0.1"]));
    assert_eq!(view(&encrypted, Scheme::HttpsOrHttp).resolve().await.expect("TLS"), expected);
    let plain = Registry::start();
    let expected = image(&plain, "app", "v1");
    let repository = view(&plain, Scheme::HttpsOrHttp);
    assert_eq!(repository.resolve().await.expect("plain"), expected);
    let bytes = repository.document(&expected).await.expect("plain again");
    let layer = buildd_oci::manifest::Manifest::parse(&bytes).expect("a manifest").layers.remove(0);
    let blob = Descriptor::new("a/b", buildd_oci::digest::Digest::of(b"pushed"), 6);
    read(repository.open(&layer, 0).await.expect("a layer")).await.expect("its bytes");
    repository.push_blob(&blob, &Memory(Bytes::from_static(b"pushed")), &[]).await.expect("push");
    let error = view(&plain, Scheme::Https).resolve().await.expect_err("no TLS there");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.hint().is_some_and(|hint| hint.contains("plain HTTP")), "{:?}", error.hint());
}

/// HTTP/2 breaks in other ways: a stream is reset, and the connection lives on.
#[tokio::test]
async fn f_30_f_31_f_33_streams_that_are_reset_go_on_too() {
    let dir = tempfile::tempdir().expect("a folder");
    let (ours, ca) = (Authority::new(&["127.0.0.1"]), dir.path().join("ca.pem"));
    ours.write(&ca);
    let (registry, _) = encrypted(&ours);
    let repository = trusting(&registry, Tls { ca: vec![ca], ..Tls::default() });
    let bytes = noise(4, 1_000_000);
    let blob = Descriptor::new("a/b", buildd_oci::digest::Digest::of(&bytes), 1_000_000);
    registry.fault(Fault::on("uploads", Act::LoseAnswer).method("POST").times(1));
    registry.fault(Fault::on("uploads", Act::CutUpload(400_000)).method("PUT").times(1));
    registry.fault(Fault::on("blobs", Act::Cut(300_000)).method("GET").after(1).times(2));
    let pushed = repository.push_blob(&blob, &Memory(bytes.clone()), &[]).await;
    pushed.unwrap_or_else(|error| panic!("{}: {:?}", chain(&error), registry.log("")));
    let stream = repository.open(&blob, 0).await.expect("a stream");
    assert!(read(stream).await.expect("all of it") == bytes);
    assert_eq!(registry.seen().iter().filter(|seen| seen.header("range").is_some()).count(), 2);
    assert!(registry.seen().iter().all(|seen| seen.http2), "HTTP/1 was spoken");
}

#[tokio::test]
async fn rule_32_a_token_server_is_trusted_as_its_host_is() {
    let authority = Authority::new(&["127.0.0.1"]);
    let dir = tempfile::tempdir().expect("a folder");
    let ca = dir.path().join("ca.pem");
    authority.write(&ca);
    let tls = || Options { tls: Some(authority.clone()), ..Options::default() };
    let server = Registry::with(tls());
    let tokens = Tokens { realm: format!("{}/token", server.url()), ..Tokens::default() };
    let registry = Registry::with(Options { tokens: Some(tokens), ..tls() });
    image(&registry, "app", "v1");
    let view = |tls: Tls| {
        let host = Host { tls, ..host(&registry) };
        Client::with_timeouts(hurry()).repository(&reference(&registry, "app:v1"), vec![host], anonymous())
    };
    // The other server's tokens are not this registry's, but it was asked: over the same authority.
    let trusting = Tls { ca: vec![ca], ..Tls::default() };
    let error = view(trusting).resolve().await.expect_err("a token of somebody else");
    assert!(chain(&error).contains("refuses the token"), "{}", chain(&error));
    assert!(!server.log("/token").is_empty());
    let asked = server.seen().len();
    view(Tls::default()).resolve().await.expect_err("an authority that nobody knows");
    assert_eq!(server.seen().len(), asked);
}
