//! Hostile registries: BLOB, MAN and NET cases of the specification.

use buildd_oci::{ErrorKind, digest::Digest};
use buildd_tests::registry::{Act, Authority, Fault, Options, Tokens};

use super::*;

fn with(registry: &Registry, rest: &str, user: &'static str, password: &'static str) -> Repository {
    let authorizer = Authorizer::new(Arc::new(Fixed(user, password)));
    Client::with_timeouts(hurry()).repository(&reference(registry, rest), vec![host(registry)], authorizer)
}

/// Everybody who was shown any credentials of ours.
fn shown_credentials(registry: &Registry) -> Vec<String> {
    let seen = registry.seen();
    seen.iter().filter_map(|seen| seen.header("authorization")).map(str::to_owned).collect()
}

#[tokio::test]
async fn net_02_a_redirect_takes_no_credentials_along() {
    let user = ("kim".to_owned(), "s3cret".to_owned());
    let registry = Registry::with(Options { basic: Some(user), ..Options::default() });
    let elsewhere = Registry::start();
    let blob = registry.put_blob("app", "some bytes");
    elsewhere.put_blob("app", "some bytes");
    let to = format!("{}/v2/app/blobs/{}?X-Signature=abc", elsewhere.url(), blob.digest);
    for status in [301, 302, 303, 307, 308] {
        let redirect = Act::Status(status, vec![("location", to.clone())]);
        registry.fault(Fault::on("blobs/sha256", redirect).after(1).times(1));
        let mut from = host(&registry);
        from.headers = vec![("X-Registry-Token".to_owned(), "mine".to_owned())];
        let authorizer = Authorizer::new(Arc::new(Fixed("kim", "s3cret")));
        let client = Client::with_timeouts(hurry());
        let repository = client.repository(&reference(&registry, "app:v1"), vec![from], authorizer);
        let stream = repository.open(&blob, 0).await.expect("the blob");
        assert_eq!(read(stream).await.expect("its bytes"), "some bytes", "{status}");
    }
    assert!(!shown_credentials(&registry).is_empty());
    for seen in elsewhere.seen() {
        assert_eq!(seen.header("authorization"), None);
        assert_eq!(seen.header("x-registry-token"), None);
        assert_eq!(seen.query, "X-Signature=abc");
    }
    assert_eq!(elsewhere.seen().len(), 5);
}

#[tokio::test]
async fn net_01_basic_credentials_are_asked_for_and_wrong_ones_told() {
    let user = ("kim".to_owned(), "s3cret".to_owned());
    let registry = Registry::with(Options { basic: Some(user), ..Options::default() });
    let expected = image(&registry, "app", "v1");
    assert_eq!(with(&registry, "app:v1", "kim", "s3cret").resolve().await.expect("resolve"), expected);
    let error = with(&registry, "app:v1", "kim", "wr0ng").resolve().await.expect_err("wrong");
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    assert!(!chain(&error).contains("wr0ng"), "{}", chain(&error));
    let error = at(&registry, "app:v1").resolve().await.expect_err("nobody");
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    assert!(error.hint().is_some_and(|hint| hint.contains("buildctl login")), "{:?}", error.hint());
}

#[tokio::test]
async fn f_34_a_token_that_expires_in_the_middle_of_a_push_is_renewed() {
    let users = vec![("kim".to_owned(), "s3cret".to_owned())];
    let tokens = Tokens { users, ..Tokens::default() };
    let registry = Registry::with(Options { tokens: Some(tokens), ..Options::default() });
    let repository = with(&registry, "app:v1", "kim", "s3cret");
    for seed in 0..4 {
        let bytes = noise(seed, 50_000);
        let blob = Descriptor::new("a/b", Digest::of(&bytes), 50_000);
        repository.push_blob(&blob, &Memory(bytes.clone()), &[]).await.expect("push");
        assert!(registry.content("app", &blob.digest).is_some());
        registry.expire_tokens();
    }
    // The token server sees the password, the registry only tokens.
    for seen in registry.seen().iter().filter(|seen| seen.path != "/token") {
        assert!(seen.header("authorization").is_none_or(|value| value.starts_with("Bearer ")), "{seen:?}");
    }
    let error = with(&registry, "app:v1", "eve", "guess")
        .push_blob(&Descriptor::new("a/b", Digest::of(b"x"), 1), &Memory(Bytes::from_static(b"x")), &[])
        .await
        .expect_err("not a user");
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{}", chain(&error));
}

#[tokio::test]
async fn net_02_a_redirect_may_not_lead_anywhere() {
    let registry = Registry::start();
    let blob = registry.put_blob("app", "some bytes");
    let other = Registry::with(Options { tls: Some(Authority::new(&["127.0.0.1"])), ..Options::default() });
    for (location, text) in [
        ("http://169.254.169.254/latest/meta-data", "an outside host has no business with"),
        ("http://[fe80::1]/x", "an outside host has no business with"),
        ("file:///etc/passwd", "sends us to a file URL"),
        ("http://user:pass@127.0.0.1:1/x", "a user name in it"),
        ("https://", "sends us to"),
        (&format!("{}/v2/app/blobs/{}", other.url(), blob.digest), "UnknownIssuer"),
        ("/v2/app/blobs/round", "more than 10 redirects"),
    ] {
        registry
            .fault(Fault::on("blobs", Act::Status(307, vec![("location", location.to_owned())])).times(11));
        let error = at(&registry, "app:v1").open(&blob, 0).await.map(drop).expect_err(location);
        assert!(chain(&error).contains(text), "{location}: {}", chain(&error));
        assert!(!chain(&error).contains("pass"), "{}", chain(&error));
        registry.forgive();
    }
    registry.fault(Fault::on("blobs", Act::Status(302, Vec::new())));
    let error = at(&registry, "app:v1").open(&blob, 0).await.map(drop).expect_err("no Location");
    assert!(chain(&error).contains("redirects to nowhere"), "{}", chain(&error));
}

#[tokio::test]
async fn net_03_an_upload_goes_where_its_location_says_without_credentials() {
    let user = ("kim".to_owned(), "s3cret".to_owned());
    let registry = Registry::with(Options { basic: Some(user), ..Options::default() });
    let elsewhere = Registry::start();
    let bytes = noise(1, 30_000);
    let blob = Descriptor::new("a/b", Digest::of(&bytes), 30_000);
    let session = elsewhere.begin_upload("app");
    let opens = |location: String| {
        Fault::on("uploads", Act::Status(202, vec![("location", location)])).method("POST").times(1)
    };
    registry.fault(opens(format!("{}{session}", elsewhere.url())));
    with(&registry, "app:v1", "kim", "s3cret")
        .push_blob(&blob, &Memory(bytes.clone()), &[])
        .await
        .expect("push");
    assert!(elsewhere.content("app", &blob.digest).is_some());
    assert!(shown_credentials(&elsewhere).is_empty());
    // Relative, and in the form without a scheme.
    for form in ["/v2/app/blobs/uploads/ID", "ID", "//AUTHORITY/v2/app/blobs/uploads/ID?a=b%3Ac"] {
        let registry = Registry::start();
        let session = registry.begin_upload("app");
        let id = session.rsplit('/').next().expect("its last part");
        let location = form.replace("ID", id).replace("AUTHORITY", &registry.authority());
        let opens = Act::Status(202, vec![("location", location)]);
        registry.fault(Fault::on("uploads", opens).method("POST"));
        at(&registry, "app:v1").push_blob(&blob, &Memory(bytes.clone()), &[]).await.expect(form);
        assert!(registry.content("app", &blob.digest).is_some(), "{form}");
    }
    for location in ["http://169.254.169.254/up", "file:///tmp/x", &"/x".repeat(5000)] {
        let registry = Registry::start();
        let opens = Act::Status(202, vec![("location", location.to_owned())]);
        registry.fault(Fault::on("uploads", opens).method("POST"));
        let pushed = at(&registry, "app:v1").push_blob(&blob, &Memory(bytes.clone()), &[]).await;
        assert_eq!(pushed.expect_err("refused").kind(), ErrorKind::DataLoss, "{location:.40}");
    }
}

#[tokio::test]
async fn net_06_credentials_of_one_host_are_not_shown_to_its_mirror() {
    /// Knows only one host.
    #[derive(Debug)]
    struct Only(String);
    #[async_trait::async_trait]
    impl Credentials for Only {
        async fn credential(&self, host: &str) -> Result<Credential, Error> {
            let password = Redacted("s3cret".to_owned());
            let known = Credential::Basic { username: "kim".to_owned(), password };
            Ok(if host == self.0 { known } else { Credential::Anonymous })
        }
    }
    let user = ("kim".to_owned(), "s3cret".to_owned());
    let primary = Registry::with(Options { basic: Some(user.clone()), ..Options::default() });
    let mirror = Registry::with(Options { basic: Some(user), ..Options::default() });
    let expected = image(&primary, "app", "v1");
    let authorizer = Authorizer::new(Arc::new(Only(primary.authority())));
    let hosts = vec![host(&mirror), host(&primary)];
    let repository =
        Client::with_timeouts(hurry()).repository(&reference(&primary, "app:v1"), hosts, authorizer);
    assert_eq!(repository.resolve().await.expect("the primary"), expected);
    assert!(shown_credentials(&mirror).is_empty(), "{:?}", mirror.seen());
    // The mirror is told for whom it stands (rule 50), the primary is not.
    let ns = format!("ns={}", primary.authority().replace(':', "%3A"));
    assert!(mirror.seen().iter().all(|seen| seen.query == ns), "{:?}", mirror.seen());
    assert!(primary.seen().iter().all(|seen| seen.query.is_empty()), "{:?}", primary.seen());
}

#[tokio::test]
async fn net_07_a_host_is_asked_only_for_what_it_may_serve() {
    let (pushes, mirror, primary) = (Registry::start(), Registry::start(), Registry::start());
    let expected = image(&primary, "app", "v1");
    image(&mirror, "app", "v1");
    let none = Capabilities { pull: false, resolve: false, push: false, referrers: false };
    let hosts = vec![
        Host { capabilities: Capabilities { push: true, ..none }, ..host(&pushes) },
        Host { capabilities: Capabilities { pull: true, ..none }, ..host(&mirror) },
        host(&primary),
    ];
    let repository =
        Client::with_timeouts(hurry()).repository(&reference(&primary, "app:v1"), hosts, anonymous());
    assert_eq!(repository.resolve().await.expect("resolve"), expected);
    let bytes = repository.document(&expected).await.expect("a manifest");
    let manifest = buildd_oci::manifest::Manifest::parse(&bytes).expect("a manifest");
    read(repository.open(&manifest.layers[0], 0).await.expect("a layer")).await.expect("its bytes");
    assert!(repository.referrers(&expected.digest, None).await.expect("none").is_empty());
    assert!(pushes.seen().is_empty(), "a host that may only be pushed to was asked: {:?}", pushes.log(""));
    assert_eq!(mirror.log("").len(), 2, "the mirror may not say what a tag points at: {:?}", mirror.log(""));
    let blob = Descriptor::new("a/b", Digest::of(b"x"), 1);
    repository.push_blob(&blob, &Memory(Bytes::from_static(b"x")), &[]).await.expect("push");
    assert!(pushes.content("app", &blob.digest).is_some() && primary.content("app", &blob.digest).is_none());
    let only = vec![Host { capabilities: none, ..host(&primary) }];
    let nobody = Client::with_timeouts(hurry()).repository(&reference(&primary, "app:v1"), only, anonymous());
    let error = nobody.resolve().await.expect_err("no host");
    assert_eq!((error.kind(), error.to_string().contains("no resolve hosts")), (ErrorKind::NotFound, true));
    let pushed = nobody.push_blob(&blob, &Memory(Bytes::new()), &[]).await.expect_err("no host");
    assert!(pushed.to_string().contains("no push hosts"));
}

#[tokio::test]
async fn net_12_what_a_host_says_of_a_manifest_is_checked() {
    let other = Digest::of(b"something else").to_string();
    let long = format!("sha512:{}", "0".repeat(128));
    let digest = |value: &str| Act::Header("docker-content-digest", Some(value.to_owned()));
    let kind = |value: &str| Act::Header("content-type", Some(value.to_owned()));
    // (fault, on which requests, what comes of resolving and reading)
    for (act, method, expected) in [
        (Act::Header("docker-content-digest", None), "", Ok(())),
        (Act::Header("content-length", None), "", Ok(())),
        (Act::Header("content-type", None), "", Ok(())),
        (kind("application/json"), "", Ok(())),
        (kind("application/vnd.oci.image.manifest.v1+json; charset=utf-8"), "", Ok(())),
        (Act::Status(405, Vec::new()), "HEAD", Ok(())),
        (Act::Status(403, Vec::new()), "HEAD", Ok(())),
        (digest("md5:d41d8cd98f00b204e9800998ecf8427e"), "", Err("the algorithm must be")),
        (digest("sha256:../../etc/passwd"), "", Err("wrong number of digits")),
        (digest(&other), "HEAD", Err("404")),
        (digest(&long), "HEAD", Err("404")),
        (Act::Header("content-length", Some("9".repeat(18))), "HEAD", Err("bytes, at most")),
        (Act::Header("content-length", Some("17".to_owned())), "HEAD", Err("its descriptor says 17")),
        (Act::Flip(3), "GET", Err("content hashes to")),
        (Act::Shorter(50), "GET", Err("50 bytes, its descriptor says")),
        (Act::Longer(9_000_000), "GET", Err("its descriptor says")),
        (kind("text/html"), "", Err("a web page instead of a manifest")),
        (kind("text/plain"), "", Err("schema 1")),
        (kind("application/vnd.docker.distribution.manifest.v1+prettyjws"), "", Err("schema 1")),
        (kind("application/vnd.oci.image.index.v1+json"), "HEAD", Err("given out as")),
    ] {
        let registry = Registry::start();
        image(&registry, "app", "v1");
        let fault = Fault::on("manifests", act.clone());
        registry.fault(if method.is_empty() { fault } else { fault.method(method) });
        let repository = at(&registry, "app:v1");
        let found = async { repository.document(&repository.resolve().await?).await }.await;
        match (found, expected) {
            (Ok(_), Ok(())) => {}
            (Err(error), Err(text)) if chain(&error).contains(text) => {}
            (found, expected) => {
                panic!("{act:?}: {expected:?}, got {:?}", found.map_err(|error| chain(&error)))
            }
        }
    }
}

#[tokio::test]
async fn net_13_a_list_ends_and_stays_at_its_host() {
    let registry = Registry::with(Options { page: Some(3), ..Options::default() });
    for tag in ["a", "b", "c", "d", "e", "f", "g"] {
        image(&registry, "app", tag);
    }
    assert_eq!(at(&registry, "app").tags().await.expect("tags"), ["a", "b", "c", "d", "e", "f", "g"]);
    let elsewhere = Registry::start();
    for (link, text) in [
        ("</v2/app/tags/list?last=a>; rel=\"next\"".to_owned(), "more than 1000 pages"),
        (format!("<{}/v2/app/tags/list>; rel=\"next\"", elsewhere.url()), "next page at another host"),
        ("<http://169.254.169.254/>; rel=next".to_owned(), "no business with"),
    ] {
        registry.forgive();
        registry
            .fault(Fault::on("tags", Act::Answer(200, vec![("link", link)], "{\"tags\":[\"x\"]}".into())));
        let error = at(&registry, "app").tags().await.expect_err(text);
        assert!(chain(&error).contains(text), "{}", chain(&error));
    }
    assert!(elsewhere.seen().is_empty());
    for (body, fine) in
        [("{\"tags\":null}", true), ("{}", true), ("[]", false), ("", false), ("{\"tags\":7}", false)]
    {
        registry.forgive();
        registry.fault(Fault::on("tags", Act::Answer(200, Vec::new(), body.into())));
        assert_eq!(at(&registry, "app").tags().await.is_ok(), fine, "{body}");
    }
}

#[tokio::test]
async fn rule_67_where_a_redirect_leads_we_are_nobody() {
    let user = ("kim".to_owned(), "s3cret".to_owned());
    let registry = Registry::with(Options { basic: Some(user), ..Options::default() });
    // Like a registry before a store that gives tokens to everybody.
    let store = Registry::with(Options { tokens: Some(Tokens::default()), ..Options::default() });
    let expected = image(&registry, "app", "v1");
    image(&store, "mirrored/app", "v1");
    for (path, to) in [
        ("manifests/v1", "manifests/v1".to_owned()),
        ("manifests/sha256", format!("manifests/{}", expected.digest)),
    ] {
        let location = format!("{}/v2/mirrored/app/{to}", store.url());
        registry.fault(
            Fault::on(path, Act::Status(307, vec![("location", location)]))
                .after(if path == "manifests/v1" { 1 } else { 0 }),
        );
    }
    let view = with(&registry, "app:v1", "kim", "s3cret");
    let found = view.resolve().await.unwrap_or_else(|error| panic!("{}: {:?}", chain(&error), store.seen()));
    assert_eq!(found, expected);
    view.document(&found).await.unwrap_or_else(|error| panic!("{}: {:?}", chain(&error), store.seen()));
    let shown = shown_credentials(&store);
    assert!(!shown.is_empty() && shown.iter().all(|value| value.starts_with("Bearer token-")), "{shown:?}");
    assert!(store.seen().iter().all(|seen| !seen.query.contains("kim")));
    // A store that wants a password gets none.
    let closed = Registry::with(Options {
        basic: Some(("kim".to_owned(), "s3cret".to_owned())),
        ..Options::default()
    });
    registry.forgive();
    let location = format!("{}/v2/app/manifests/v1", closed.url());
    registry.fault(Fault::on("manifests", Act::Status(307, vec![("location", location)])));
    assert_eq!(view.resolve().await.expect_err("a password is wanted").kind(), ErrorKind::Unauthenticated);
    assert!(shown_credentials(&closed).is_empty());
}

/// A server that answers whatever it is asked with these bytes, again and again if `endless`.
async fn raw(answer: Vec<u8>, endless: bool) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
    let authority = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                while stream.write_all(&answer).await.is_ok() && endless {}
            });
        }
    });
    authority
}

#[tokio::test]
async fn net_11_answers_against_the_rules_of_http_end_in_an_error() {
    let ok = "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.oci.image.manifest.v1+json\r\n";
    let chunked = format!("{ok}Transfer-Encoding: chunked\r\n\r\n");
    let timeouts =
        Timeouts { answer: Duration::from_secs(1), patience: Duration::from_millis(300), ..hurry() };
    for (what, answer, endless) in [
        ("a header of 1 MiB", format!("{ok}X: {}\r\n\r\n", "x".repeat(1 << 20)), false),
        ("a header without end", "x".repeat(1 << 16), true),
        ("100000 headers", format!("{ok}{}\r\n", "X: y\r\n".repeat(100_000)), false),
        ("headers without end", "X: y\r\n".repeat(1000), true),
        ("interim answers without end", "HTTP/1.1 100 Continue\r\n\r\n".repeat(100), true),
        ("no HTTP", "SSH-2.0-OpenSSH_9.0\r\n".to_owned(), false),
        ("nothing", String::new(), false),
        ("HTTP/0.9", "{\"layers\":[]}".to_owned(), false),
        ("a negative length", format!("{ok}Content-Length: -5\r\n\r\n{{}}"), false),
        ("two lengths", format!("{ok}Content-Length: 5\r\nContent-Length: 6\r\n\r\n{{}}"), false),
        ("a length of 2^64", format!("{ok}Content-Length: 18446744073709551616\r\n\r\n{{}}"), false),
        ("a chunk of 2^64", format!("{chunked}10000000000000000\r\nx"), false),
        ("a chunk's extension without end", format!("{chunked}1;{}", "x".repeat(1 << 20)), false),
        (
            "a body without end",
            format!("{chunked}{}", "1000\r\n{}\r\n".replace("{}", &"x".repeat(4096)).repeat(64)),
            true,
        ),
        ("trailers without end", format!("{chunked}0\r\n{}", "X: y\r\n".repeat(10_000)), true),
    ] {
        let authority = raw(answer.into_bytes(), endless).await;
        let host = Host { authority: authority.clone(), ..host(&Registry::start()) };
        let name = Reference::parse(&format!("{authority}/app:v1")).expect("a name");
        let view = Client::with_timeouts(timeouts).repository(&name, vec![host], anonymous());
        let blob = Descriptor::new("a/b", Digest::of(b"x"), 1 << 20);
        let end = tokio::time::timeout(Duration::from_secs(20), async {
            let resolved = view.resolve().await.map(drop);
            let read = async { read(view.open(&blob, 0).await?).await.map(drop) }.await;
            (resolved, read, view.document(&blob).await.map(drop))
        });
        let (resolved, read, document) = end.await.unwrap_or_else(|_| panic!("{what}: it never ends"));
        assert!(
            resolved.is_err() && read.is_err() && document.is_err(),
            "{what}: {resolved:?} {read:?} {document:?}"
        );
    }
}
