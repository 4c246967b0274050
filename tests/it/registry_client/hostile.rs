//! Hostile registries: BLOB, MAN and NET cases of the specification.

use buildd_oci::ErrorKind;
use buildd_tests::registry::{Act, Fault, Options, Tokens};

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
        let blob = Descriptor::new("a/b", buildd_oci::digest::Digest::of(&bytes), 50_000);
        repository.push_blob(&blob, &Memory(bytes.clone()), &[]).await.expect("push");
        assert_eq!(registry.content("app", &blob.digest), Some(bytes));
        registry.expire_tokens();
    }
    // The token server sees the password, the registry only tokens.
    for seen in registry.seen().iter().filter(|seen| seen.path != "/token") {
        assert!(seen.header("authorization").is_none_or(|value| value.starts_with("Bearer ")), "{seen:?}");
    }
    let error = with(&registry, "app:v1", "eve", "guess")
        .push_blob(
            &Descriptor::new("a/b", buildd_oci::digest::Digest::of(b"x"), 1),
            &Memory(Bytes::from_static(b"x")),
            &[],
        )
        .await
        .expect_err("not a user");
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{}", chain(&error));
}
