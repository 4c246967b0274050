//! Body: what a host answers, read so that neither its size nor its pace can hurt.
//!
//! `transport` hands an `Answer` to whoever asked. A host that goes silent, or drips, is given up; whoever reads decides
//! whether to ask again from there.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use reqwest::{
    Response, Url,
    header::{CONTENT_LENGTH, HeaderMap},
};
use serde::Deserialize;

use super::{Timeouts, location};
use crate::registry::error::{Error, ServerError, told};

/// Largest error document that is read.
const MAX_ERROR_BODY: usize = 64 << 10;
/// Most entries of it that are kept.
const MAX_ERRORS: usize = 5;
/// Longest message that is kept.
const MAX_MESSAGE: usize = 300;

/// An answer whose body was not read yet.
#[derive(Debug)]
pub(crate) struct Answer {
    response: Response,
    method: String,
    url: Url,
    timeouts: Timeouts,
    waited: Duration,
    got: u64,
}

/// A host was too slow.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Slow {
    /// No header came.
    #[error("no answer within {} s", .0.as_secs())]
    Header(Duration),
    /// No byte came.
    #[error("silence for {} s", .0.as_secs())]
    Silent(Duration),
    /// Some came, but not enough.
    #[error("only {bytes} bytes in {} s", time.as_secs())]
    Drip { time: Duration, bytes: u64 },
}

impl Answer {
    pub(crate) fn new(response: Response, method: &str, url: Url, timeouts: Timeouts) -> Self {
        Self { response, method: method.to_owned(), url, timeouts, waited: Duration::ZERO, got: 0 }
    }

    /// 200 and its like.
    pub(crate) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// The URL that was answered, after redirects.
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// All headers.
    pub(crate) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// One header, if it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// Every line of a header.
    pub(crate) fn lines(&self, name: &str) -> Vec<String> {
        let values = self.response.headers().get_all(name).iter();
        values.filter_map(|value| value.to_str().ok()).map(str::to_owned).collect()
    }

    /// How long the body says it is; a HEAD has the header and no body.
    pub(crate) fn length(&self) -> Option<u64> {
        let text = self.response.headers().get(CONTENT_LENGTH)?.to_str().ok()?;
        text.parse().ok()
    }

    /// The next bytes.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let start = Instant::now();
        let limit = self.timeouts.silence;
        let chunk = match tokio::time::timeout(limit, self.response.chunk()).await {
            Err(_) => return Err(self.broken(Arc::new(Slow::Silent(limit)))),
            Ok(Err(error)) => return Err(self.broken(Arc::new(error.without_url()))),
            Ok(Ok(None)) => return Ok(None),
            Ok(Ok(Some(chunk))) => chunk,
        };
        // Only waiting counts: a reader that is slow himself does not make the host slow.
        self.waited += start.elapsed();
        self.got += chunk.len() as u64;
        if self.waited >= self.timeouts.drip_window {
            if self.got < self.timeouts.drip_bytes {
                return Err(self.broken(Arc::new(Slow::Drip { time: self.waited, bytes: self.got })));
            }
            (self.waited, self.got) = (Duration::ZERO, 0);
        }
        Ok(Some(chunk))
    }

    /// The whole body, if it has at most `limit` bytes.
    pub(crate) async fn whole(&mut self, limit: u64) -> Result<Bytes, Error> {
        let fail = |answer: &Self| answer.protocol(format!("the body has more than {limit} bytes"));
        if self.length().is_some_and(|length| length > limit) {
            return Err(fail(self));
        }
        let mut all = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            if all.len() as u64 + chunk.len() as u64 > limit {
                return Err(fail(self));
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }

    /// This answer if its status is one of `accepted`, else the failure it is.
    pub(crate) async fn accept(self, accepted: &[u16]) -> Result<Self, Error> {
        if accepted.contains(&self.status()) { Ok(self) } else { Err(self.into_failure().await) }
    }

    /// The failure that this answer is.
    pub(crate) async fn into_failure(mut self) -> Error {
        Error::Status {
            errors: self.errors().await,
            method: self.method,
            url: location::shown(&self.url),
            status: self.response.status().as_u16(),
        }
    }

    /// Credentials that this answer wanted and could not have, in its own words too.
    pub(crate) async fn explain(mut self, error: Error) -> Error {
        let Error::Credentials { host, reason } = error else { return error };
        let words = self.errors().await;
        Error::Credentials { host, reason: format!("{reason}{}", told(&words)) }
    }

    /// What an error's body says.
    async fn errors(&mut self) -> Vec<ServerError> {
        let mut start = BytesMut::new();
        while start.len() < MAX_ERROR_BODY {
            let Ok(Some(chunk)) = self.chunk().await else { break };
            start.extend_from_slice(&chunk);
        }
        start.truncate(MAX_ERROR_BODY);
        server_errors(&start)
    }

    /// A rule of the protocol that this answer breaks.
    pub(crate) fn protocol(&self, reason: impl Into<String>) -> Error {
        Error::Protocol {
            method: self.method.clone(),
            url: location::shown(&self.url),
            reason: reason.into(),
        }
    }

    /// Content that is not what was asked for.
    pub(crate) fn content(&self, source: crate::Error) -> Error {
        Error::Content { url: location::shown(&self.url), source: Arc::new(source) }
    }

    fn broken(&self, source: Arc<dyn std::error::Error + Send + Sync>) -> Error {
        Error::Request { method: self.method.clone(), url: location::shown(&self.url), source }
    }
}

#[derive(Deserialize)]
struct ErrorDocument {
    errors: Vec<ErrorEntry>,
}

#[derive(Deserialize)]
struct ErrorEntry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// What an error's body says; nothing if it is not the document it should be.
fn server_errors(body: &[u8]) -> Vec<ServerError> {
    let Ok(document) = serde_json::from_slice::<ErrorDocument>(body) else { return Vec::new() };
    let plain = |text: String| text.chars().filter(|c| !c.is_control()).take(MAX_MESSAGE).collect();
    let entry = |entry: ErrorEntry| ServerError { code: plain(entry.code), message: plain(entry.message) };
    document.errors.into_iter().take(MAX_ERRORS).map(entry).collect()
}

#[cfg(test)]
mod tests;
