//! Token: one asked from a token server.
//!
//! `Authorizer` calls this once for all who wait for the same token.
//!
//! # Wire
//! ```text
//! POST realm   grant_type=password&username=..&password=..&service=..&client_id=..&scope=a b   with a password
//! POST realm   grant_type=refresh_token&refresh_token=..&...                                   with an identity token
//! GET  realm?service=..&scope=a&scope=b    Authorization: Basic ..                             where POST is not known, or nobody logged in
//! -> {"token" or "access_token": "..", "expires_in": seconds}
//! ```
//!
//! # Invariants
//! The client follows no redirects: one would carry the password on. No error quotes an answer: a server may echo what it got.
//!
//! # Sources
//! distribution `docs/spec/auth/{token,oauth}.md`; containerd `core/remotes/docker/auth/fetch.go`; spec registries.md rules 70, 71 and 74.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::{
    Method, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue},
};

use super::{super::Error, Credential, Redacted, Token, TokenRequest, realm::shown};

/// How long a token server may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Largest answer, and largest token in it: the token goes into a header of every request.
const ANSWER_BYTES: usize = 1 << 20;
const TOKEN_BYTES: usize = 64 << 10;
/// A token holds at least this long, whatever the server says (distribution's token specification), and no longer than a day.
const SHORTEST: f64 = 60.0;
const LONGEST: f64 = 24.0 * 3600.0;
/// The name we ask under.
const CLIENT_ID: &str = "buildd";

/// What is asked, and how.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) http: reqwest::Client,
    pub(super) realm: Url,
    pub(super) request: TokenRequest,
    /// The host's extra headers (rule 39).
    pub(super) headers: Vec<(String, Redacted)>,
    /// Whether an identity token is wanted as well.
    pub(super) identity: bool,
}

impl Ask {
    /// Asks with what `credential` is.
    pub(super) async fn send(&self, credential: &Credential) -> Result<Token, Error> {
        let form: &[(&str, &str)] = match credential {
            Credential::Anonymous => return self.get(None).await,
            Credential::Bearer(token) => {
                return Ok(Token { token: token.clone(), expires: None, identity: None });
            }
            Credential::Basic { username, password } => {
                &[("grant_type", "password"), ("username", username), ("password", &password.0)]
            }
            Credential::Refresh(token) => &[("grant_type", "refresh_token"), ("refresh_token", &token.0)],
        };
        match self.post(form).await {
            // Registries that do not know the form answer with one of these (rule 71).
            Err(Error::Status { status: 400 | 401 | 404 | 405, .. }) => {
                let (username, secret) = match credential {
                    Credential::Basic { username, password } => (username.as_str(), &password.0),
                    Credential::Refresh(token) => ("", &token.0),
                    Credential::Anonymous | Credential::Bearer(_) => return self.get(None).await,
                };
                self.get(Some(basic(username, secret))).await
            }
            answer => answer,
        }
    }

    async fn post(&self, form: &[(&str, &str)]) -> Result<Token, Error> {
        let body = self.form(form);
        let request = self
            .http
            .post(self.realm.clone())
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(body);
        self.answer(Method::POST, request).await
    }

    fn form(&self, form: &[(&str, &str)]) -> String {
        let scopes = self.request.scopes.join(" ");
        let offline = if self.identity { "offline" } else { "" };
        let service = self.request.service.as_str();
        let more = [("service", service), ("scope", scopes.as_str()), ("access_type", offline)];
        let mut url = self.realm.clone();
        url.query_pairs_mut()
            .clear()
            .extend_pairs(form)
            .append_pair("client_id", CLIENT_ID)
            .extend_pairs(more.iter().filter(|(_, value)| !value.is_empty()));
        url.query().unwrap_or_default().to_owned()
    }

    async fn get(&self, authorization: Option<Redacted>) -> Result<Token, Error> {
        let mut url = self.realm.clone();
        if !self.request.service.is_empty() {
            url.query_pairs_mut().append_pair("service", &self.request.service);
        }
        if self.identity {
            url.query_pairs_mut().append_pair("offline_token", "true");
        }
        for scope in &self.request.scopes {
            url.query_pairs_mut().append_pair("scope", scope);
        }
        let mut request = self.http.get(url);
        if let Some(value) = authorization.and_then(|value| HeaderValue::from_str(&value.0).ok()) {
            request = request.header(AUTHORIZATION, sensitive(value));
        }
        self.answer(Method::GET, request).await
    }

    async fn answer(&self, method: Method, request: reqwest::RequestBuilder) -> Result<Token, Error> {
        let failed = |source: reqwest::Error| Error::Request {
            method: method.to_string(),
            url: shown(&self.realm),
            source: Arc::new(source.without_url()),
        };
        let mut request = request.timeout(PATIENCE).build().map_err(failed)?;
        for (name, value) in &self.headers {
            let header =
                HeaderName::from_bytes(name.as_bytes()).ok().zip(HeaderValue::from_str(&value.0).ok());
            if let Some((name, value)) = header
                && (name != AUTHORIZATION || !request.headers().contains_key(AUTHORIZATION))
            {
                request.headers_mut().append(name, sensitive(value));
            }
        }
        let mut response = self.http.execute(request).await.map_err(failed)?;
        let status = response.status();
        if !status.is_success() {
            let (method, url, status) = (method.to_string(), shown(&self.realm), status.as_u16());
            return Err(Error::Status { method, url, status, errors: Vec::new() });
        }
        let broken = |reason: &str| {
            let (method, url) = (method.to_string(), shown(&self.realm));
            Error::Protocol { method, url, reason: reason.to_owned() }
        };
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(failed)? {
            body.extend_from_slice(&piece);
            if body.len() > ANSWER_BYTES {
                return Err(broken("the answer is larger than 1 MiB"));
            }
        }
        read(&body).map_err(broken)
    }
}

#[derive(serde::Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    refresh_token: Option<String>,
    expires_in: Option<serde_json::Value>,
}

fn read(body: &[u8]) -> Result<Token, &'static str> {
    // serde_json's message may quote the token.
    let answer: Answer = serde_json::from_slice(body).map_err(|_| "the answer is not a token in JSON")?;
    let given = [answer.access_token, answer.token].into_iter().flatten().find(|token| !token.is_empty());
    let token = given.ok_or("the answer has no token")?;
    if !sendable(&token) {
        return Err("the token cannot be sent in a header");
    }
    let lifetime = answer.expires_in.and_then(|value| value.as_f64());
    let expires =
        lifetime.map(|seconds| Instant::now() + Duration::from_secs_f64(seconds.clamp(SHORTEST, LONGEST)));
    let identity = answer.refresh_token.filter(|token| !token.is_empty() && sendable(token)).map(Redacted);
    Ok(Token { token: Redacted(token), expires, identity })
}

fn sendable(token: &str) -> bool {
    token.len() <= TOKEN_BYTES && token.bytes().all(|b| b.is_ascii_graphic())
}

/// A name and a password as a header's value.
pub(super) fn basic(username: &str, password: &str) -> Redacted {
    Redacted(format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))))
}

fn sensitive(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}
