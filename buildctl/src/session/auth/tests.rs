//! Logins and tokens that a session hands out: each to its host, and signed by the client's own key.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::signature::{ED25519, UnparsedPublicKey};

use super::*;

/// A user whose file has these logins: host, name, password.
fn user(logins: &[(&str, &str, &str)]) -> (tempfile::TempDir, AuthService) {
    let folder = tempfile::tempdir().expect("a folder");
    let auths: serde_json::Map<String, serde_json::Value> = logins
        .iter()
        .map(|(host, name, password)| {
            let auth = STANDARD.encode(format!("{name}:{password}"));
            ((*host).to_owned(), serde_json::json!({"auth": auth}))
        })
        .collect();
    let text = serde_json::json!({"auths": auths}).to_string();
    std::fs::write(folder.path().join("config.json"), text).expect("a file");
    let service = AuthService::of(Some(folder.path().to_owned()));
    (folder, service)
}

async fn credentials_of(service: &AuthService, host: &str) -> Result<(String, String), Status> {
    let answer =
        service.credentials(Request::new(CredentialsRequest { host: host.to_owned() })).await?.into_inner();
    Ok((answer.username, answer.secret))
}

async fn public(service: &AuthService, host: &str, salt: &[u8]) -> Vec<u8> {
    let request = GetTokenAuthorityRequest { host: host.to_owned(), salt: salt.to_vec() };
    service.get_token_authority(Request::new(request)).await.expect("a key").into_inner().public_key
}

#[tokio::test]
async fn each_host_gets_its_own_login_and_others_none() {
    let (folder, service) = user(&[("reg.example", "a", "1"), ("https://index.docker.io/v1/", "b", "2")]);
    for (host, name, secret) in [
        ("reg.example", "a", "1"),
        ("registry-1.docker.io", "b", "2"),
        ("reg.example:5000", "", ""),
        ("reg.example.evil.example", "", ""),
    ] {
        let answer = credentials_of(&service, host).await.expect(host);
        assert_eq!(answer, (name.to_owned(), secret.to_owned()), "{host}");
    }
    // A login during the build counts, and a file that is wrong is told.
    let path = folder.path().join("config.json");
    std::fs::write(&path, "{\"auths\":{\"c\":{\"identitytoken\":\"t\"}}}").expect("a file");
    assert_eq!(credentials_of(&service, "c").await.expect("a token"), (String::new(), "t".to_owned()));
    std::fs::write(&path, "{").expect("a file");
    let error = credentials_of(&service, "c").await.expect_err("a broken file");
    assert!(error.message().contains("config.json:1:1: it is not JSON"), "{error}");
    std::fs::remove_file(&path).expect("gone");
    assert_eq!(credentials_of(&service, "c").await.expect("nobody"), Default::default());
    assert_eq!(credentials_of(&AuthService::of(None), "c").await.expect("nobody"), Default::default());
}

#[tokio::test]
async fn a_token_is_asked_with_the_login() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let host = listener.local_addr().expect("an address").to_string();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a request");
        let mut seen = String::new();
        while !seen.contains("scope=") {
            let mut piece = [0; 4096];
            let size = stream.read(&mut piece).expect("a request");
            seen += std::str::from_utf8(&piece[..size]).expect("text");
        }
        let body = "{\"token\":\"t\",\"expires_in\":300}";
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all(format!("{head}{body}").as_bytes()).expect("an answer");
        seen
    });
    let (_folder, service) = user(&[(&host, "me", "secret")]);
    let request = |realm: String| FetchTokenRequest {
        client_id: "x".to_owned(),
        host: host.clone(),
        realm,
        service: "reg".to_owned(),
        scopes: vec!["repository:a:pull".to_owned()],
    };
    // A realm that is none of the host's gets nothing.
    let evil = service.fetch_token(Request::new(request("http://evil.example/".to_owned()))).await;
    assert_eq!(evil.expect_err("refused").code(), tonic::Code::Unavailable);
    let answer = service.fetch_token(Request::new(request(format!("http://{host}/token")))).await;
    let answer = answer.expect("a token").into_inner();
    assert_eq!(answer.token, "t");
    assert!((298..=300).contains(&answer.expires_in) && answer.issued_at > 1_700_000_000, "{answer:?}");
    let seen = server.join().expect("a server");
    assert!(seen.starts_with("POST /token ") && seen.contains("username=me&password=secret"), "{seen}");
}

#[tokio::test]
async fn keys_are_of_login_salt_and_user() {
    let (folder, service) = user(&[("reg.example", "a", "1"), ("other.example", "a", "1")]);
    let key = public(&service, "reg.example", b"salt").await;
    assert_eq!(key, public(&service, "reg.example", b"salt").await);
    // Another process of this user.
    let again = AuthService::of(Some(folder.path().to_owned()));
    assert_eq!(key, public(&again, "reg.example", b"salt").await);
    // A file of seeds that is broken only costs a token.
    std::fs::write(folder.path().join(".token_seed"), "?").expect("a file");
    let others = [
        public(&again, "reg.example", b"salt").await,
        public(&service, "reg.example", b"pepper").await,
        public(&service, "other.example", b"salt").await,
        public(&user(&[("reg.example", "a", "1")]).1, "reg.example", b"salt").await,
        public(&user(&[]).1, "reg.example", b"salt").await,
    ];
    assert!(others.iter().all(|other| *other != key));
    assert_eq!(others[4], public(&AuthService::of(None), "x", b"salt").await, "nobody is nobody everywhere");
    assert_eq!(others[0], public(&service, "reg.example", b"salt").await, "the new seed is kept");
}

#[tokio::test]
async fn a_signature_proves_the_key() {
    let (_folder, service) = user(&[("reg.example", "a", "1")]);
    let request = VerifyTokenAuthorityRequest {
        host: "reg.example".to_owned(),
        payload: b"payload".to_vec(),
        salt: b"salt".to_vec(),
    };
    let signed =
        service.verify_token_authority(Request::new(request)).await.expect("signed").into_inner().signed;
    let (signature, payload) = signed.split_at(64);
    assert_eq!(payload, b"payload");
    let key = UnparsedPublicKey::new(&ED25519, public(&service, "reg.example", b"salt").await);
    key.verify(payload, signature).expect("our own");
    key.verify(b"another", signature).expect_err("not what was signed");
}
