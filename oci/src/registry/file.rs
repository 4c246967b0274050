//! File: a plain file at a URL that somebody named, fetched as a registry's blobs are.
//!
//! Builds come here for `ADD https://...` and for contexts at URLs. The same connections, retries, redirects and time limits serve it; the
//! server is nobody's registry, so no challenge of it is answered and no token server asked.
//!
//! # Invariants
//! A name and password in the URL, and the caller's `Authorization`, go to the URL's own origin and to no other.

use std::time::SystemTime;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use reqwest::{
    Method, Url,
    header::{ACCEPT_ENCODING, HeaderName},
};

use super::{
    Registry,
    auth::{Authorizer, Redacted},
    error::Error,
    transport::{self, Answer, Call, Patience, Payload, Peer, Reach},
};

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct FileRequest {
    /// Where it lies.
    pub url: String,
    /// Sent along wherever redirects lead: validators and their like, nothing secret.
    pub headers: Vec<(String, String)>,
    /// The value of `Authorization`; goes to the URL's own origin only.
    pub authorization: Option<Redacted>,
}

/// An answer of 200, or of 304 where validators were sent.
#[derive(Debug)]
pub struct FileAnswer(Answer);

impl FileAnswer {
    /// Whether the file is the one that the validators describe.
    pub fn is_unchanged(&self) -> bool {
        self.0.status() == 304
    }

    /// A header, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.0.header(name)
    }

    /// How long the file says it is.
    pub fn length(&self) -> Option<u64> {
        self.0.length()
    }

    /// The next bytes.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        self.0.chunk().await
    }
}

impl Registry {
    /// Asks for a file.
    pub async fn file(&self, request: &FileRequest) -> Result<FileAnswer, Error> {
        let bad = |reason: String| Error::Protocol {
            method: Method::GET.to_string(),
            url: shown(&request.url),
            reason,
        };
        let mut url = Url::parse(&request.url).map_err(|error| bad(format!("it is no URL: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(bad(format!("it is a {} URL", url.scheme())));
        }
        let mut host = transport::stranger(&url);
        if let Some(Redacted(value)) = request.authorization.clone().or_else(|| basic(&url)) {
            host.headers.push(("Authorization".to_owned(), value));
        }
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.set_fragment(None);
        let mut headers = vec![(ACCEPT_ENCODING, "identity".to_owned())];
        for (name, value) in &request.headers {
            let name: HeaderName = name.parse().map_err(|_| bad(format!("{name:?} is no header")))?;
            headers.push((name, value.clone()));
        }
        let authorizer = Authorizer::silent();
        let peer =
            Peer { transport: &self.transport, host: &host, authorizer: &authorizer, floor: Reach::Named };
        let patience = Patience::last_host(self.transport.timeouts.patience);
        let payload = Payload::None;
        let call = Call { method: Method::GET, url, headers, payload, scopes: Vec::new(), patience };
        let asked = request.headers.iter().any(|(name, _)| name.to_ascii_lowercase().starts_with("if-"));
        let accepted: &[u16] = if asked { &[200, 304] } else { &[200] };
        Ok(FileAnswer(peer.send(&call).await?.accept(accepted).await?))
    }
}

/// A URL as it may be shown: without user, password and query.
pub fn shown(text: &str) -> String {
    match Url::parse(text) {
        Ok(url) => transport::shown(&url),
        Err(_) => text.split(['?', '#']).next().unwrap_or_default().chars().take(200).collect(),
    }
}

/// A URL without name and password, and what they are as the value of `Authorization`.
pub fn without_user(text: &str) -> (String, Option<Redacted>) {
    let Ok(mut url) = Url::parse(text) else { return (text.to_owned(), None) };
    let Some(header) = basic(&url) else { return (text.to_owned(), None) };
    let _ = url.set_username("");
    let _ = url.set_password(None);
    (url.to_string(), Some(header))
}

/// The last part of a URL's path, decoded.
pub fn base_name(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    let last = url.path().trim_end_matches('/').rsplit('/').next()?;
    Some(percent_decoded(last)).filter(|name| !name.is_empty())
}

/// The time of a `Last-Modified` and its like.
pub fn parse_time(text: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(text).ok()
}

/// The name and password that stand in a URL, as a header.
fn basic(url: &Url) -> Option<Redacted> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let plain = |text: &str| percent_decoded(text);
    let pair = format!("{}:{}", plain(url.username()), plain(url.password().unwrap_or_default()));
    Some(Redacted(format!("Basic {}", STANDARD.encode(pair))))
}

fn percent_decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, tail @ ..] = rest {
        rest = tail;
        let code = tail.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => bytes.push(*first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{basic, shown};

    #[test]
    fn what_is_secret_in_a_url_is_sent_and_not_shown() {
        let url = "https://me:p%40ss@files.example/a.tar?token=abc#x";
        let header = basic(&url.parse().expect("a URL")).expect("a header");
        assert_eq!(header.0, "Basic bWU6cEBzcw==");
        assert_eq!(shown(url), "https://files.example/a.tar?token=***");
        assert!(basic(&"https://files.example/a".parse().expect("a URL")).is_none());
        assert_eq!(shown("no url?secret=1"), "no url");
    }
}
