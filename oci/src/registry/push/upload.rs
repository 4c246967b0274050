//! Upload: one blob on its way into a registry, as long as that takes.
//!
//! ```text
//! POST -> session -> PUT everything -> there
//!            ^           | it broke, or is too large for one request
//!            |           v
//!            |    GET session: how much came? -> PATCH the rest, or chunks -> PUT "that was it" -> there
//!            '---- session gone: has the blob come all the same? else again from the start
//! ```

use std::time::{Duration, SystemTime};

use reqwest::{
    Method, Url,
    header::{CONTENT_RANGE, CONTENT_TYPE},
};

use super::BlobSource;
use crate::{
    descriptor::Descriptor,
    registry::{
        Repository,
        error::Error,
        host::Host,
        transport::{Answer, Backoff, Call, Patience, Payload, is_passing, is_transient, retry_after},
    },
};

/// Chunk for a registry, or a proxy before it, that refuses a blob in one request.
const CHUNK: u64 = 16 << 20;
/// Largest chunk that a registry may demand.
const MAX_CHUNK: u64 = 1 << 30;
/// How often an upload may be thrown back by what does not pass by itself: lost sessions, wrong offsets, wrong digests.
const MAX_SETBACKS: u32 = 2;
/// How often an upload may break without a byte of progress while the registry answers everything else. Proxies that refuse a body
/// often just close the connection, so after two of these smaller requests are tried (F-29).
const MAX_STUCK: u32 = 8;

/// One blob on its way.
pub(super) struct Upload<'a> {
    repository: &'a Repository,
    host: &'a Host,
    descriptor: &'a Descriptor,
    source: &'a dyn BlobSource,
    session: Option<Session>,
    chunk: Option<u64>,
    min_chunk: u64,
    setbacks: u32,
    stuck: u32,
}

#[derive(Clone, Debug)]
struct Session {
    url: Url,
    /// How many bytes the registry has.
    at: u64,
}

/// An attempt that failed.
struct Setback {
    error: Error,
    status: u16,
    asked: Option<Duration>,
}

impl From<Error> for Setback {
    fn from(error: Error) -> Self {
        Self { error, status: 0, asked: None }
    }
}

impl<'a> Upload<'a> {
    pub(super) fn new(
        repository: &'a Repository,
        host: &'a Host,
        descriptor: &'a Descriptor,
        source: &'a dyn BlobSource,
    ) -> Self {
        let (session, chunk) = (None, None);
        Self { repository, host, descriptor, source, session, chunk, min_chunk: 0, setbacks: 0, stuck: 0 }
    }

    /// Goes on with a session that a refused mount opened.
    pub(super) fn begin_at(&mut self, url: Url) {
        self.session = Some(Session { url, at: 0 });
    }

    /// Until the blob is there, or hope is gone.
    pub(super) async fn run(mut self) -> Result<(), Error> {
        let patience = self.repository.push_patience();
        let mut backoff = Backoff::new(patience, self.repository.0.transport.timeouts.backoff);
        loop {
            let before = self.session.as_ref().map_or(0, |session| session.at);
            let Err(setback) = self.attempt().await else { return Ok(()) };
            let Some(wait) = self.verdict(&setback, &mut backoff) else { return Err(setback.error) };
            tracing::debug!(
                host = self.host.authority,
                error = setback.error.chain(),
                ?wait,
                "an upload goes on"
            );
            tokio::time::sleep(wait).await;
            if self.session.is_some() && self.find_offset().await?.is_none() {
                // The answer may have been lost, not the upload (F-33).
                if self.repository.exists(self.descriptor).await? {
                    return Ok(());
                }
                self.session = None;
            }
            if self.session.as_ref().map_or(0, |session| session.at) > before {
                self.stuck = 0;
                backoff = Backoff::new(patience, self.repository.0.transport.timeouts.backoff);
            }
        }
    }

    /// How long to wait before the next attempt; `None`: there is none.
    fn verdict(&mut self, setback: &Setback, backoff: &mut Backoff) -> Option<Duration> {
        if is_transient(setback.status) {
            return backoff.after(setback.asked);
        }
        if setback.status == 0 && is_passing(&setback.error) {
            self.stuck += 1;
            if self.stuck == 2 && self.chunk.is_none() {
                self.chunk = Some(CHUNK.max(self.min_chunk));
            }
            return (self.stuck < MAX_STUCK).then(|| backoff.after(None)).flatten();
        }
        self.setbacks += 1;
        match setback.status {
            413 if self.chunk.is_none() => {
                self.chunk = Some(CHUNK.max(self.min_chunk));
                Some(Duration::ZERO)
            }
            400 | 404 | 416 if self.setbacks <= MAX_SETBACKS => {
                if setback.status != 416 {
                    self.session = None;
                }
                backoff.after(setback.asked)
            }
            _ => None,
        }
    }

    async fn attempt(&mut self) -> Result<(), Setback> {
        let session = match &self.session {
            Some(session) => session.clone(),
            None => self.start().await?,
        };
        let size = self.descriptor.size;
        if session.at == 0 && self.chunk.is_none() {
            let payload = Payload::Blob { source: self.source, range: 0..size };
            return self.commit(&session.url, payload).await;
        }
        let mut session = session;
        while session.at < size {
            let end = size.min(session.at.saturating_add(self.chunk.unwrap_or(size)));
            session = self.patch(&session, end).await?;
            self.session = Some(session.clone());
        }
        self.commit(&session.url, Payload::None).await
    }

    /// Opens a session.
    async fn start(&mut self) -> Result<Session, Setback> {
        let call = self.repository.call(
            Method::POST,
            self.host,
            "blobs/uploads/",
            self.repository.push_patience(),
        )?;
        let answer = self.repository.peer(self.host).send(&call).await?.accept(&[202]).await?;
        let min_chunk = answer.header("oci-chunk-min-length").and_then(|text| text.trim().parse().ok());
        self.min_chunk = min_chunk.unwrap_or(0).min(MAX_CHUNK);
        let session = Session { url: self.repository.location(self.host, &answer)?, at: 0 };
        self.session = Some(session.clone());
        Ok(session)
    }

    /// Sends the last bytes, or none, and says what they should amount to.
    async fn commit(&self, url: &Url, payload: Payload<'_>) -> Result<(), Setback> {
        let mut url = url.clone();
        url.query_pairs_mut().append_pair("digest", &self.descriptor.digest.to_string());
        self.send(Method::PUT, url, payload, None, &[200, 201, 202, 204]).await?;
        Ok(())
    }

    async fn patch(&self, session: &Session, end: u64) -> Result<Session, Setback> {
        let payload = Payload::Blob { source: self.source, range: session.at..end };
        let range = format!("{}-{}", session.at, end - 1);
        let answer = self.send(Method::PATCH, session.url.clone(), payload, Some(range), &[202, 204]).await?;
        let at = match answer.header("range") {
            Some(text) => received(text).filter(|at| (session.at..=end).contains(at) && *at > session.at),
            None => Some(end),
        };
        let at = at.ok_or_else(|| answer.protocol("took a chunk and says that it has none of it"))?;
        Ok(Session { url: self.repository.location(self.host, &answer)?, at })
    }

    async fn send(
        &self,
        method: Method,
        url: Url,
        payload: Payload<'_>,
        range: Option<String>,
        accepted: &[u16],
    ) -> Result<Answer, Setback> {
        // The offset changes from attempt to attempt, so one attempt is all that is made of a request.
        let call = self.repository.call(method, self.host, "", Patience::ONCE)?;
        let mut headers = vec![(CONTENT_TYPE, "application/octet-stream".to_owned())];
        headers.extend(range.map(|range| (CONTENT_RANGE, range)));
        let call = Call { url, headers, payload, ..call };
        let answer = self.repository.peer(self.host).send(&call).await?;
        let (status, asked) = (answer.status(), retry_after(answer.headers(), SystemTime::now()));
        match answer.accept(accepted).await {
            Ok(answer) => Ok(answer),
            Err(error) => Err(Setback { error, status, asked }),
        }
    }

    /// Asks how much of the blob the session has; `None`: there is no session any more.
    async fn find_offset(&mut self) -> Result<Option<()>, Error> {
        let Some(session) = &mut self.session else { return Ok(None) };
        let mut call = self.repository.call(Method::GET, self.host, "", self.repository.push_patience())?;
        call.url = session.url.clone();
        call.scopes.iter_mut().for_each(|scope| scope.push = true);
        let answer = self.repository.peer(self.host).send(&call).await?;
        if !matches!(answer.status(), 200 | 202 | 204) {
            return Ok(None);
        }
        session.at = answer.header("range").and_then(received).unwrap_or(0);
        // `0-0` may be one byte or none: what cannot be told apart is begun anew.
        if session.at < 2 || session.at > self.descriptor.size {
            return Ok(None);
        }
        // Not every registry repeats where the session goes on.
        if answer.header("location").is_some() {
            session.url = self.repository.location(self.host, &answer)?;
        }
        Ok(Some(()))
    }
}

/// How many bytes a registry has, by `Range: 0-<last>`.
fn received(text: &str) -> Option<u64> {
    let (first, last) = text.trim().trim_start_matches("bytes=").split_once('-')?;
    let last: u64 = last.parse().ok()?;
    if first == "0" { last.checked_add(1) } else { None }
}
