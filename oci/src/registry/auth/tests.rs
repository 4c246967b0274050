//! Credentials and tokens: rules 39 and 68 to 76 of the specification, and the attacks on them.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    super::{
        Error,
        host::{Capabilities, Host, Scheme, Tls},
    },
    challenge, realm, *,
};

/// What no error and no debug text may show.
const MARKER: &str = "MARKER-secret";

/// A request as the server saw it: method and target, lower-case header lines, body.
#[derive(Clone, Debug)]
struct Seen {
    line: String,
    headers: Vec<String>,
    body: String,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        let prefix = format!("{name}: ");
        self.headers.iter().find_map(|line| line.strip_prefix(&prefix))
    }
}

/// A token server on loopback: answers each request with status and body of the function.
struct Server {
    authority: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    fn start(answer: impl Fn(&Seen) -> (u16, String) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let authority = listener.local_addr().expect("an address").to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let request = read(&stream);
                let (status, body) = answer(&request);
                log.lock().expect("a log").push(request);
                let head =
                    format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n", body.len());
                // What a 401 says stands in its header too.
                let head = match status {
                    401 if body.starts_with("Bearer ") => format!("{head}www-authenticate: {body}\r\n"),
                    _ => head,
                };
                let head = if status == 302 { format!("{head}location: /elsewhere\r\n") } else { head };
                // A client that saw enough hangs up.
                drop(stream.write_all(format!("{head}\r\n{body}").as_bytes()));
            }
        });
        Self { authority, seen }
    }

    /// One that gives out `t1`, `t2`, ... for `seconds`.
    fn counting(seconds: &'static str) -> Self {
        let count = Mutex::new(0);
        Self::start(move |_| {
            let mut count = count.lock().expect("a count");
            *count += 1;
            (200, format!("{{\"token\":\"t{count}\",\"expires_in\":{seconds}}}"))
        })
    }

    /// A registry that lets in who has a token, and sends others for one.
    fn challenging(challenge: String) -> Self {
        Self::start(move |seen| match seen.header("authorization") {
            Some("Bearer t") => (200, "{}".to_owned()),
            _ => (401, challenge.clone()),
        })
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("a log").clone()
    }

    fn challenge(&self) -> Vec<String> {
        vec![format!(
            "Bearer realm=\"http://{}/token\",service=\"reg\",scope=\"repository:a/b:pull\"",
            self.authority
        )]
    }
}

fn read(stream: &std::net::TcpStream) -> Seen {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).expect("a request");
    let mut seen = Seen {
        line: line.trim_end().trim_end_matches(" HTTP/1.1").to_owned(),
        headers: Vec::new(),
        body: String::new(),
    };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a header");
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        seen.headers.push(format!("{}: {value}", name.to_ascii_lowercase()));
    }
    let length = seen.header("content-length").map_or(0, |length| length.parse().expect("a number"));
    reader.take(length).read_to_string(&mut seen.body).expect("a body");
    seen
}

/// Credentials by host; counts how often it was asked.
#[derive(Debug, Default)]
struct Known {
    hosts: Vec<(String, Credential)>,
    token: Option<Redacted>,
}

#[async_trait::async_trait]
impl Credentials for Known {
    async fn credential(&self, host: &str) -> Result<Credential, Error> {
        Ok(self.hosts.iter().find(|(name, _)| name == host).map(|(_, c)| c.clone()).unwrap_or_default())
    }

    async fn token(&self, _: &TokenRequest) -> Result<Option<Token>, Error> {
        Ok(self.token.clone().map(|token| Token { token, expires: None, identity: None }))
    }
}

fn client() -> reqwest::Client {
    drop(rustls::crypto::ring::default_provider().install_default());
    let builder = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    builder.build().expect("a client")
}

fn host(authority: &str, scheme: Scheme) -> Host {
    Host {
        scheme,
        authority: authority.to_owned(),
        path: "/v2".to_owned(),
        capabilities: Capabilities::ALL,
        tls: Tls::default(),
        headers: Vec::new(),
        dial_timeout: None,
        origins: Vec::new(),
    }
}

fn local() -> Host {
    host("127.0.0.1:5000", Scheme::Http)
}

fn user() -> Credential {
    Credential::Basic { username: "me&you".to_owned(), password: Redacted(MARKER.to_owned()) }
}

fn with(credential: Credential) -> Authorizer {
    with_all(&[("127.0.0.1:5000", credential)])
}

fn with_all(hosts: &[(&str, Credential)]) -> Authorizer {
    let hosts = hosts.iter().map(|(host, credential)| ((*host).to_owned(), credential.clone())).collect();
    Authorizer::new(Arc::new(Known { hosts, token: None }))
}

fn pull() -> Vec<Scope> {
    vec![Scope { repository: "a/b".to_owned(), push: false }]
}

fn push() -> Vec<Scope> {
    vec![Scope { repository: "a/b".to_owned(), push: true }]
}

async fn ask(authorizer: &Authorizer, server: &Server, sent: Option<&Redacted>) -> Result<String, Error> {
    let answer = authorizer.challenged(&client(), &local(), &server.challenge(), &pull(), sent).await;
    answer.map(|value| value.0)
}

async fn header(authorizer: &Authorizer, scopes: &[Scope]) -> Option<String> {
    authorizer.header(&local(), scopes).await.expect("no error").map(|value| value.0)
}

fn basic_value() -> String {
    format!("Basic {}", STANDARD.encode(format!("me&you:{MARKER}")))
}

#[tokio::test]
async fn rule_70_an_anonymous_token_is_asked_with_get_and_kept_for_its_scopes() {
    let server = Server::counting("300");
    let authorizer = Authorizer::new(Arc::new(Anonymous));
    assert_eq!(header(&authorizer, &pull()).await, None, "the host has not asked");
    assert_eq!(ask(&authorizer, &server, None).await.expect("a token"), "Bearer t1");
    assert_eq!(header(&authorizer, &pull()).await.as_deref(), Some("Bearer t1"));
    let seen = server.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].line, "GET /token?service=reg&scope=repository%3Aa%2Fb%3Apull");
    assert_eq!(seen[0].header("authorization"), None);
    // Another scope is another token (NET-05), asked for without a 401 since the server is known.
    assert_eq!(header(&authorizer, &push()).await.as_deref(), Some("Bearer t2"));
    assert_eq!(server.seen()[1].line, "GET /token?service=reg&scope=repository%3Aa%2Fb%3Apull%2Cpush");
    assert_eq!(header(&authorizer, &pull()).await.as_deref(), Some("Bearer t1"));
}

#[tokio::test]
async fn rule_71_a_password_is_posted_and_falls_back_to_get() {
    let server = Server::start(|_| (200, "{\"token\":\"b\",\"access_token\":\"a\"}".to_owned()));
    assert_eq!(ask(&with(user()), &server, None).await.expect("a token"), "Bearer a", "access_token wins");
    let seen = server.seen();
    assert_eq!((seen.len(), seen[0].line.as_str()), (1, "POST /token"));
    let expected = format!(
        "grant_type=password&username=me%26you&password={MARKER}&client_id=buildd&service=reg&scope=repository%3Aa%2Fb%3Apull"
    );
    assert_eq!(seen[0].body, expected);
    for status in [400, 401, 404, 405] {
        let server = Server::start(move |seen| {
            if seen.line.starts_with("POST") {
                (status, String::new())
            } else {
                (200, "{\"token\":\"g\"}".to_owned())
            }
        });
        assert_eq!(ask(&with(user()), &server, None).await.expect("a token"), "Bearer g", "{status}");
        let seen = server.seen();
        assert_eq!(seen[1].header("authorization"), Some(basic_value().as_str()));
    }
    let server = Server::start(|_| (500, String::new()));
    assert!(ask(&with(user()), &server, None).await.is_err());
    assert_eq!(server.seen().len(), 1, "no fallback");
}

#[tokio::test]
async fn rule_74_an_identity_token_is_a_refresh_token() {
    let server = Server::counting("300");
    let credential = Credential::Refresh(Redacted(MARKER.to_owned()));
    assert_eq!(ask(&with(credential), &server, None).await.expect("a token"), "Bearer t1");
    assert!(server.seen()[0].body.starts_with(&format!("grant_type=refresh_token&refresh_token={MARKER}&")));
}

#[tokio::test]
async fn a_registry_token_and_a_sessions_token_need_no_server() {
    let server = Server::counting("300");
    let credential = Credential::Bearer(Redacted("mine".to_owned()));
    let authorizer = with(credential);
    let value = ask(&authorizer, &server, None).await.expect("a token");
    assert_eq!(value, "Bearer mine");
    let error = ask(&authorizer, &server, Some(&Redacted(value))).await.expect_err("refused for good");
    assert!(error.to_string().contains("refuses the token"), "{error}");
    let known = Known { hosts: Vec::new(), token: Some(Redacted("theirs".to_owned())) };
    let authorizer = Authorizer::new(Arc::new(known));
    assert_eq!(ask(&authorizer, &server, None).await.expect("a token"), "Bearer theirs");
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn rule_69_basic_needs_both_and_is_then_sent_at_once() {
    let lines = ["Digest realm=\"x\"".to_owned(), "Basic realm=\"x\"".to_owned()];
    let ask = async |authorizer: &Authorizer, sent: Option<&Redacted>| {
        authorizer.challenged(&client(), &local(), &lines, &pull(), sent).await
    };
    let authorizer = with(user());
    let value = ask(&authorizer, None).await.expect("a header");
    assert_eq!(value.0, basic_value());
    assert_eq!(header(&authorizer, &push()).await, Some(basic_value()));
    let error = ask(&authorizer, Some(&value)).await.expect_err("refused");
    assert!(error.to_string().contains("refuses the name and password"), "{error}");
    assert_eq!(header(&authorizer, &pull()).await, None, "not sent again");
    let half = Credential::Basic { username: "me".to_owned(), password: Redacted::default() };
    for credential in [half, Credential::Anonymous, Credential::Refresh(Redacted("x".to_owned()))] {
        let error = ask(&with(credential), None).await.expect_err("not enough");
        assert_eq!(error.hint().as_deref(), Some("log in: buildctl login 127.0.0.1:5000"));
    }
}

#[tokio::test]
async fn rule_72_a_refused_token_is_replaced_once() {
    let server = Server::counting("300");
    let authorizer = with(user());
    let first = ask(&authorizer, &server, None).await.expect("a token");
    assert_eq!(header(&authorizer, &pull()).await.as_ref(), Some(&first));
    let second = ask(&authorizer, &server, Some(&Redacted(first.clone()))).await.expect("the next");
    assert_eq!(second, "Bearer t2");
    // One who was refused with the old one gets the new one without asking.
    assert_eq!(ask(&authorizer, &server, Some(&Redacted(first))).await.expect("the same"), "Bearer t2");
    let mut lines = server.challenge();
    lines[0] += ",error=\"insufficient_scope\"";
    let sent = Redacted(second);
    let error =
        authorizer.challenged(&client(), &local(), &lines, &pull(), Some(&sent)).await.expect_err("twice");
    assert!(
        error.to_string().ends_with("refuses the token of its token server: insufficient_scope"),
        "{error}"
    );
    assert_eq!(server.seen().len(), 2);
    // A server that takes back each token after some requests is followed for ever.
    for _ in 0..5 {
        let sent = header(&authorizer, &pull()).await.map(Redacted).expect("a token");
        ask(&authorizer, &server, Some(&sent)).await.expect("the next");
    }
}

#[tokio::test]
async fn tokens_are_asked_anew_before_they_expire() {
    // A minute is the least that a token holds, whatever the server says.
    let server = Server::counting("1");
    let authorizer = with(user());
    ask(&authorizer, &server, None).await.expect("a token");
    let before = Instant::now();
    authorizer.age(Duration::from_secs(40));
    assert_eq!(header(&authorizer, &pull()).await.as_deref(), Some("Bearer t1"));
    authorizer.age(Duration::from_secs(10));
    assert_eq!(header(&authorizer, &pull()).await.as_deref(), Some("Bearer t2"), "10 of 60 seconds are left");
    assert!(before.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_token_server_that_is_gone_does_not_stop_a_token_that_holds() {
    let gone = Mutex::new(false);
    let server = Server::start(move |_| {
        let mut gone = gone.lock().expect("a flag");
        if std::mem::replace(&mut *gone, true) {
            (503, String::new())
        } else {
            (200, "{\"token\":\"t1\",\"expires_in\":60}".to_owned())
        }
    });
    let authorizer = with(user());
    ask(&authorizer, &server, None).await.expect("a token");
    authorizer.age(Duration::from_secs(50));
    assert_eq!(header(&authorizer, &pull()).await.as_deref(), Some("Bearer t1"));
    authorizer.age(Duration::from_secs(11));
    assert_eq!(header(&authorizer, &pull()).await, None, "the 401 will tell");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_want_one_token_ask_once() {
    let server = Server::counting("300");
    let authorizer = with(user());
    let all = (0..50).map(|_| ask(&authorizer, &server, None));
    for answer in futures::future::join_all(all).await {
        assert_eq!(answer.expect("a token"), "Bearer t1");
    }
    let sent = Redacted("Bearer t1".to_owned());
    let all = (0..50).map(|_| ask(&authorizer, &server, Some(&sent)));
    for answer in futures::future::join_all(all).await {
        assert_eq!(answer.expect("a token"), "Bearer t2", "one refusal, told fifty times");
    }
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn one_who_goes_away_leaves_the_others_with_an_answer() {
    let server = Server::counting("300");
    let authorizer = with(user());
    let mut gone = Box::pin(ask(&authorizer, &server, None));
    let mut stays = Box::pin(ask(&authorizer, &server, None));
    assert!(futures::poll!(gone.as_mut()).is_pending());
    assert!(futures::poll!(stays.as_mut()).is_pending());
    drop(gone);
    assert_eq!(stays.await.expect("a token"), "Bearer t1");
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn net_06_credentials_stay_with_their_host() {
    let server = Server::counting("300");
    let authorizer = with_all(&[("127.0.0.1:5000", user())]);
    for authority in ["127.0.0.1:5001", "127.0.0.1", "localhost:5000"] {
        let mirror = host(authority, Scheme::Http);
        authorizer.challenged(&client(), &mirror, &server.challenge(), &pull(), None).await.expect("a token");
        let lines = ["Basic realm=\"x\"".to_owned()];
        authorizer.challenged(&client(), &mirror, &lines, &pull(), None).await.expect_err("none for it");
    }
    for seen in server.seen() {
        assert!(seen.line.starts_with("GET"), "{seen:?}");
        assert_eq!(seen.header("authorization"), None);
    }
    // Nor does a token of one host go to another.
    ask(&authorizer, &server, None).await.expect("a token");
    let https = Host { scheme: Scheme::Https, ..local() };
    for other in [host("127.0.0.1:6000", Scheme::Http), https] {
        assert_eq!(authorizer.header(&other, &pull()).await.expect("no error"), None);
    }
}

#[tokio::test]
async fn rule_39_the_hosts_headers_go_to_its_token_server() {
    let server = Server::start(|seen| {
        if seen.line.starts_with("POST") {
            (404, String::new())
        } else {
            (200, "{\"token\":\"t\"}".to_owned())
        }
    });
    let headers = vec![("X-A".to_owned(), "1".to_owned()), ("Authorization".to_owned(), "other".to_owned())];
    let host = Host { headers, ..local() };
    with(user()).challenged(&client(), &host, &server.challenge(), &pull(), None).await.expect("a token");
    for (seen, authorization) in server.seen().iter().zip(["other", &basic_value()]) {
        assert_eq!((seen.header("x-a"), seen.header("authorization")), (Some("1"), Some(authorization)));
    }
}

#[tokio::test]
async fn net_04_token_answers_are_checked() {
    for (status, body, said) in [
        (200, "{}".to_owned(), "no token"),
        (200, "{\"token\":\"\"}".to_owned(), "no token"),
        (200, format!("{{\"token\":\"{MARKER}\\r\\nEvil: 1\"}}"), "cannot be sent"),
        (200, format!("{{\"token\":\"{MARKER}{}\"}}", "x".repeat(65 << 10)), "cannot be sent"),
        (200, format!("{{\"token\":[\"{MARKER}\"]}}"), "not a token in JSON"),
        (200, format!("<html>{MARKER}"), "not a token in JSON"),
        (200, " ".repeat((1 << 20) + 1), "larger than 1 MiB"),
        (302, String::new(), "302"),
        (401, format!("{{\"errors\":[{{\"message\":\"{MARKER}\"}}]}}"), "refuses them"),
        (500, MARKER.to_owned(), "500"),
    ] {
        let server = Server::start(move |_| (status, body.clone()));
        let error = ask(&with(user()), &server, None).await.expect_err(said);
        let text = format!("{error} {error:?}");
        assert!(text.contains(said), "{text} does not say {said}");
        assert!(!text.contains(MARKER), "{text}");
    }
    for seconds in ["-1", "1e300", "\"x\"", "null", "0"] {
        let server = Server::counting(seconds);
        assert_eq!(ask(&with(user()), &server, None).await.expect(seconds), "Bearer t1");
    }
}

#[tokio::test]
async fn secrets_are_in_no_debug_text_and_no_error() {
    let server = Server::counting("300");
    let authorizer = with(user());
    let value = ask(&authorizer, &server, None).await.expect("a token");
    let echo = vec![format!("Bearer realm=\"http://{MARKER}@127.0.0.1/\",error=\"{MARKER}\"")];
    let error = authorizer.challenged(&client(), &local(), &echo, &pull(), None).await.expect_err("a user");
    let mut echo = server.challenge();
    echo[0] += &format!(",error=\"{MARKER}\"");
    let sent = Redacted(value);
    authorizer.challenged(&client(), &local(), &echo, &pull(), Some(&sent)).await.expect("the next");
    let sent = Redacted("Bearer t2".to_owned());
    let twice =
        authorizer.challenged(&client(), &local(), &echo, &pull(), Some(&sent)).await.expect_err("twice");
    let text = format!("{authorizer:?} {error} {error:?} {twice} {twice:?} {:?} {sent:?}", user());
    assert!(!text.contains(MARKER) && !text.contains("t2"), "{text}");
}

#[tokio::test]
async fn rule_76_a_fixed_credential_is_for_one_host() {
    let fixed = Fixed { host: "reg.example:5000".to_owned(), credential: user() };
    assert_eq!(fixed.credential("reg.example:5000").await.expect("no error"), user());
    for other in ["reg.example", "mirror.example:5000", "REG.example:5000", ""] {
        assert_eq!(fixed.credential(other).await.expect("no error"), Credential::Anonymous, "{other}");
    }
    assert!(!format!("{fixed:?}").contains(MARKER));
}

#[tokio::test]
async fn a_login_is_proved_and_tokens_are_asked_for_others() {
    let token = Server::start(|seen| match seen.header("authorization") {
        Some(_) => (401, String::new()),
        None if seen.body.contains("password=right") => (200, "{\"token\":\"t\"}".to_owned()),
        None => (404, String::new()),
    });
    let challenge = token.challenge().remove(0);
    let registry = Server::challenging(challenge);
    let host = host(&registry.authority, Scheme::Http);
    let with = |password: &str| {
        let credential =
            Credential::Basic { username: "u".to_owned(), password: Redacted(password.to_owned()) };
        let fixed = Fixed { host: registry.authority.clone(), credential: credential.clone() };
        (credential, Authorizer::new(Arc::new(fixed)))
    };
    let client = super::super::Registry::new().expect("a registry");
    client.ping(&host, &with("right").1).await.expect("it is right");
    let error = client.ping(&host, &with("wrong").1).await.expect_err("it is wrong");
    assert!(
        matches!(&error, Error::Credentials { reason, .. } if reason.ends_with("refuses them")),
        "{error:?}"
    );
    assert!(registry.seen().iter().all(|seen| seen.line == "GET /v2/"), "{:?}", registry.seen());
    let request = |realm: String| TokenRequest {
        host: registry.authority.clone(),
        realm,
        service: "reg".to_owned(),
        scopes: Vec::new(),
    };
    let realm = request(format!("http://{}/token", token.authority));
    let token = client.token(&host, &with("right").0, realm).await.expect("a token");
    assert_eq!(token.token.0, "t");
    let evil = request("http://evil.example/".to_owned());
    let error = client.token(&host, &with("right").0, evil).await.expect_err("not a server of this host");
    assert!(matches!(error, Error::Address { .. }), "{error:?}");
}

#[test]
fn net_01_and_net_17_realms() {
    let https = |authority: &str| host(authority, Scheme::Https);
    let plain = |authority: &str| host(authority, Scheme::Http);
    for (host, text) in [
        (https("reg.example"), "https://auth.example/token?a=b"),
        (plain("10.0.0.1:5000"), "http://10.0.0.1:5001/token"),
        (plain("reg.example"), "https://auth.example/token"),
        (plain("127.0.0.1:5000"), "http://localhost:5001/token"),
        (https("localhost:5000"), "http://127.0.0.1:5001/token"),
        (host("[::1]:5000", Scheme::HttpsOrHttp), "http://[::1]/token"),
    ] {
        assert!(realm::check(&host, text).is_ok(), "{host:?} {text}");
    }
    for (host, text, said) in [
        (https("reg.example"), "http://reg.example/token", "plain HTTP"),
        (https("reg.example"), "http://127.0.0.1/token", "no other machine"),
        (https("reg.example"), "https://localhost/token", "no other machine"),
        (plain("10.0.0.1:5000"), "https://[::1]/token", "no other machine"),
        (https("localhost:5000"), "http://10.0.0.1/token", "plain HTTP"),
        (https("localhost:5000"), "https://169.254.169.254/", "no other machine"),
        (https("169.254.169.254"), "https://169.254.169.254/", "no other machine"),
        (plain("reg.example"), "http://evil.example/token", "plain HTTP"),
        (plain("127.0.0.1:5000"), "http://127.0.0.1.evil.example/", "plain HTTP"),
        (https("reg.example"), "https://169.254.169.254/latest", "no other machine"),
        (https("reg.example"), "https://0xa9fea9fe/latest", "no other machine"),
        (https("reg.example"), "https://[::ffff:169.254.169.254]/", "no other machine"),
        (https("reg.example"), "https://[fe80::1]/", "no other machine"),
        (https("reg.example"), "file:///etc/passwd", "has no host"),
        (https("reg.example"), "ftp://reg.example/", "neither http nor https"),
        (https("reg.example"), "https://u:p@reg.example/", "has a user"),
        (https("reg.example"), "/token", "is no URL"),
    ] {
        let reason = realm::check(&host, text).expect_err(text);
        assert!(reason.contains(said), "{reason} does not say {said}");
    }
}

/// Each challenge as `scheme name=value ...`.
fn parsed(lines: &[&str]) -> Vec<String> {
    let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    let show = |challenge: &challenge::Challenge| {
        let known = ["realm", "service", "scope", "error", "a"];
        let values =
            known.iter().filter_map(|name| challenge.parameter(name).map(|value| format!(" {name}={value}")));
        values.fold(challenge.scheme.clone(), |text, value| text + &value)
    };
    challenge::parse(&lines).expect("challenges").iter().map(show).collect()
}

#[test]
fn rule_68_challenges() {
    for (lines, expected) in [
        (
            &["Bearer realm=\"https://a/t\",service=\"s\",scope=\"repository:a:pull,push\""][..],
            &["bearer realm=https://a/t service=s scope=repository:a:pull,push"][..],
        ),
        (
            &["Basic realm=\"a\", Bearer realm=\"b\" , service=\"c\""],
            &["basic realm=a", "bearer realm=b service=c"],
        ),
        (&["BASIC REALM=a", "bearer Realm = \"b\""], &["basic realm=a", "bearer realm=b"]),
        (&["Negotiate, Basic realm=x"], &["negotiate", "basic realm=x"]),
        (&["Negotiate abc==, Basic realm=x"], &["negotiate", "basic realm=x"]),
        (&["Negotiate abc/+d, Basic realm=x"], &["negotiate", "basic realm=x"]),
        (&["Bearer realm=\"a\\\"b\\\\c\""], &["bearer realm=a\"b\\c"]),
        (&["Bearer realm=https://a/t"], &["bearer realm=https://a/t"]),
        (&["Bearer realm=\"\",realm=\"b\""], &["bearer"]),
        (&["Bearer realm=\"é, Basic\""], &["bearer realm=é, Basic"]),
        (&[", ,Basic realm=x,,"], &["basic realm=x"]),
        (&["Basic"], &["basic"]),
        // What makes no sense is dropped from there on.
        (&["Basic realm=x, Bearer realm=\"a", "Basic a=b"], &["basic realm=x", "basic a=b"]),
        (&["\"Basic\" realm=x"], &[]),
        (&["Bearer realm=\"a\\"], &[]),
        (&["=a"], &[]),
        (&[""], &[]),
        (&[], &[]),
    ] {
        assert_eq!(parsed(lines), expected, "{lines:?}");
    }
}

#[tokio::test]
async fn net_10_hostile_challenges_are_bounded() {
    let authorizer = with(user());
    for lines in [
        vec![format!("Bearer realm=\"{}\"", "x".repeat(1 << 20))],
        vec!["Basic realm=x".to_owned(); 1000],
        vec!["Basic a=b, ".repeat(1000)],
        vec!["Basic ".to_owned() + &"a=b, ".repeat(1000)],
        vec![format!(
            "Bearer realm=\"http://127.0.0.1/\",scope=\"{}\"",
            (0..100).map(|n| format!("s{n} ")).collect::<String>()
        )],
        vec![format!("Bearer realm=https://{}/", "x".repeat(5000))],
        vec!["Bearer service=x".to_owned()],
        vec!["Digest realm=x".to_owned()],
        Vec::new(),
    ] {
        let error =
            authorizer.challenged(&client(), &local(), &lines, &pull(), None).await.expect_err("refused");
        assert!(matches!(error, Error::Credentials { .. }), "{error:?}");
        assert!(error.to_string().len() < 300, "{error}");
    }
}

proptest::proptest! {
    #[test]
    fn no_challenge_makes_it_panic(line in "(Bearer|Basic|realm|[=\",\\\\ é]|\\PC){0,60}") {
        drop(challenge::parse(&[line]));
    }

    #[test]
    fn what_is_written_properly_is_read_back(
        challenges in proptest::collection::vec(("[a-z]{1,8}", proptest::option::of("\\PC{1,20}")), 1..8)
    ) {
        let quote = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        let write = |(scheme, value): &(String, Option<String>)| match value {
            Some(value) => format!("{scheme} realm=\"{}\"", quote(value)),
            None => scheme.clone(),
        };
        let show = |(scheme, value): &(String, Option<String>)| match value {
            Some(value) => format!("{scheme} realm={value}"),
            None => scheme.clone(),
        };
        let line = challenges.iter().map(write).collect::<Vec<_>>().join(", ");
        let expected: Vec<String> = challenges.iter().map(show).collect();
        proptest::prop_assert_eq!(parsed(&[&line]), expected);
    }
}
