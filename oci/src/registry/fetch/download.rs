//! Download: the state of one blob's stream: where it is, who serves it, who failed.

use std::{
    collections::HashMap,
    ops::Range,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use reqwest::{
    Method,
    header::{ACCEPT_ENCODING, RANGE},
};

use super::{Served, foreign};
use crate::{
    descriptor::Descriptor,
    registry::{
        Repository, Tried,
        error::Error,
        host::{Capability, Host},
        transport::{Answer, Backoff, Patience},
    },
};

/// Breaks in a row, without progress between them, after which a host gives no more.
const MAX_BREAKS: u32 = 4;
/// What counts as progress: a host that breaks after every few bytes is no better than one that is down.
const PROGRESS: u64 = 64 << 10;

/// Largest piece that is given on: one read of a fast network is half a megabyte, and readers queue pieces by their number.
const PIECE: usize = 64 << 10;

/// One blob on its way.
pub(super) struct Download {
    repository: Repository,
    descriptor: Descriptor,
    at: u64,
    end: u64,
    current: Option<Current>,
    /// Hosts that broke, and the waits before they are asked again.
    broken: HashMap<String, Backoff>,
    /// Hosts that give no more, by what they said last.
    out: HashMap<String, Error>,
    since_break: u64,
    served: Served,
    /// Came, and was not given on yet.
    pending: Bytes,
    /// Served before, so it is asked first.
    preferred: Option<String>,
    /// A host that sends the whole blob instead of a part may do so.
    whole: bool,
    waited: Duration,
}

struct Current {
    answer: Answer,
    host: String,
    /// Bytes before the wanted ones, from a host that does not know ranges.
    skip: u64,
}

impl Download {
    pub(super) fn new(
        repository: Repository,
        descriptor: Descriptor,
        range: Range<u64>,
        served: Served,
    ) -> Self {
        Self {
            repository,
            descriptor,
            at: range.start,
            end: range.end,
            current: None,
            broken: HashMap::new(),
            out: HashMap::new(),
            since_break: 0,
            served,
            pending: Bytes::new(),
            preferred: None,
            whole: false,
            waited: Duration::ZERO,
        }
    }

    /// Becomes the rest of the blob, if the host sends that instead of a part.
    pub(super) fn take_whole(&mut self) {
        self.whole = true;
    }

    /// Asks this host first.
    pub(super) fn prefer(&mut self, host: Option<String>) {
        self.preferred = host;
    }

    /// Who serves it.
    pub(super) fn host(&self) -> Option<String> {
        self.current.as_ref().map(|current| current.host.clone())
    }

    /// Where it ends.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// How long the network let us wait.
    pub(super) fn waited(&self) -> Duration {
        self.waited
    }

    /// All of it.
    pub(super) fn into_stream(self) -> BoxStream<'static, Result<Bytes, Error>> {
        let next =
            |mut download: Self| async move { Ok(download.next().await?.map(|bytes| (bytes, download))) };
        stream::try_unfold(self, next).boxed()
    }

    /// The next bytes; `None` after the last one.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if !self.pending.is_empty() {
                return Ok(Some(self.pending.split_to(self.pending.len().min(PIECE))));
            }
            if self.at == self.end {
                return self.finish().await;
            }
            if self.current.is_none() {
                self.connect().await?;
            }
            let Some(current) = &mut self.current else { continue };
            let start = Instant::now();
            let chunk = current.answer.chunk().await;
            self.waited += start.elapsed();
            match chunk {
                Ok(Some(bytes)) => self.take(bytes)?,
                Ok(None) => {
                    let short = crate::Error::SizeMismatch {
                        digest: self.descriptor.digest,
                        expected: self.descriptor.size,
                        actual: self.at,
                    };
                    let error = current.answer.content(short);
                    self.broke(error).await;
                }
                Err(error) => self.broke(error).await,
            }
        }
    }

    /// What of some bytes is ours: those before the wanted ones are dropped, those behind the end of a part too.
    fn take(&mut self, mut bytes: Bytes) -> Result<(), Error> {
        let Some(current) = &mut self.current else { return Ok(()) };
        let skipped = current.skip.min(bytes.len() as u64);
        current.skip -= skipped;
        let _ = bytes.split_to(usize::try_from(skipped).unwrap_or(bytes.len()));
        if bytes.is_empty() {
            return Ok(());
        }
        let left = self.end - self.at;
        if bytes.len() as u64 > left {
            if self.end == self.descriptor.size {
                return Err(self.too_long());
            }
            bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        }
        self.at += bytes.len() as u64;
        self.since_break += bytes.len() as u64;
        self.served.add(&current.host);
        if self.since_break >= PROGRESS {
            self.broken.remove(&current.host);
        }
        self.pending = bytes;
        Ok(())
    }

    /// After the last byte there must be none, where the answer did not say its length (BLOB-07).
    async fn finish(&mut self) -> Result<Option<Bytes>, Error> {
        if let Some(current) = &mut self.current
            && self.end == self.descriptor.size
            && current.answer.length().is_none()
            && matches!(current.answer.chunk().await, Ok(Some(_)))
        {
            return Err(self.too_long());
        }
        self.current = None;
        Ok(None)
    }

    fn too_long(&self) -> Error {
        let size = crate::Error::SizeMismatch {
            digest: self.descriptor.digest,
            expected: self.descriptor.size,
            actual: self.descriptor.size + 1,
        };
        match &self.current {
            Some(current) => {
                self.served.add(&current.host);
                current.answer.content(size)
            }
            None => Error::Content { url: self.repository.reference().to_string(), source: size.into() },
        }
    }

    /// The connection is gone: waits a little, or gives the host up.
    async fn broke(&mut self, error: Error) {
        let Some(current) = self.current.take() else { return };
        self.since_break = 0;
        let timeouts = self.repository.0.transport.timeouts;
        let patience = Patience { attempts: MAX_BREAKS, total: timeouts.patience };
        let backoff = self
            .broken
            .entry(current.host.clone())
            .or_insert_with(|| Backoff::new(patience, timeouts.backoff));
        tracing::debug!(host = current.host, at = self.at, %error, "a blob's connection broke");
        match backoff.after(None) {
            Some(wait) => tokio::time::sleep(wait).await,
            None => {
                self.out.insert(current.host, error);
            }
        }
    }

    /// Opens the rest at the first host that gives it.
    pub(super) async fn connect(&mut self) -> Result<(), Error> {
        let repository = self.repository.clone();
        let mut hosts: Vec<&Host> = repository.candidates(Capability::Pull)?;
        hosts.sort_by_key(|host| self.preferred.as_ref() != Some(&host.authority));
        let last = hosts.iter().rposition(|host| !self.out.contains_key(&host.authority));
        for (index, host) in hosts.iter().enumerate() {
            if self.out.contains_key(&host.authority) {
                continue;
            }
            match self.connect_to(host, repository.patience(Some(index) == last)).await {
                Ok(current) => {
                    if std::mem::take(&mut self.whole) && current.answer.status() == 200 {
                        self.end = self.descriptor.size;
                    }
                    self.preferred = Some(current.host.clone());
                    self.current = Some(current);
                    return Ok(());
                }
                Err(error) => {
                    self.out.insert(host.authority.clone(), error);
                }
            }
        }
        if let Some(current) = self.connect_elsewhere(&hosts).await {
            self.current = Some(current);
            return Ok(());
        }
        let mut tried = Tried::default();
        for host in hosts {
            if let Some(error) = self.out.remove(&host.authority) {
                tried.add(host, error);
            }
        }
        Err(tried.into_error(repository.reference()))
    }

    /// Where a layer that registries may not distribute is kept instead, if no host has it.
    async fn connect_elsewhere(&mut self, hosts: &[&Host]) -> Option<Current> {
        let absent = |error: &Error| matches!(error, Error::Status { status: 404, .. });
        if !foreign::may_be_elsewhere(&self.descriptor) || !self.out.values().all(absent) {
            return None;
        }
        for url in self.descriptor.urls.iter().take(foreign::MAX_URLS) {
            match foreign::open(&self.repository, hosts, url, self.range()).await {
                Ok(answer) => match self.begin(answer, url.clone()) {
                    Ok(current) => return Some(current),
                    Err(error) => tracing::debug!(%error, "a foreign layer is not what it should be"),
                },
                Err(error) => tracing::debug!(%error, "a foreign layer is not where it should be"),
            }
        }
        None
    }

    async fn connect_to(&self, host: &Host, patience: Patience) -> Result<Current, Error> {
        let rest = format!("blobs/{}", self.descriptor.digest);
        let mut call = self.repository.call(Method::GET, host, &rest, patience)?;
        call.headers = vec![(ACCEPT_ENCODING, "identity".to_owned())];
        call.headers.extend(self.range().map(|range| (RANGE, range)));
        let answer = self.repository.peer(host).send(&call).await?.accept(&[200, 206]).await?;
        self.begin(answer, host.authority.clone())
    }

    /// What is asked for; `None`: everything.
    fn range(&self) -> Option<String> {
        match (self.at, self.end == self.descriptor.size) {
            (0, true) => None,
            (at, true) => Some(format!("bytes={at}-")),
            (at, false) => Some(format!("bytes={at}-{}", self.end.saturating_sub(1))),
        }
    }

    /// Whether an answer begins with what was asked for.
    fn begin(&self, answer: Answer, host: String) -> Result<Current, Error> {
        let size = self.descriptor.size;
        if answer.status() == 206 {
            return match part(&answer, &self.descriptor) {
                Some(got) if self.range().is_some() && got.start == self.at && got.end <= self.end => {
                    Ok(Current { answer, host, skip: 0 })
                }
                _ => Err(answer.protocol("sends another part of the blob than was asked for")),
            };
        }
        if let Some(actual) = answer.length().filter(|length| *length != size) {
            let (digest, expected) = (self.descriptor.digest, size);
            return Err(answer.content(crate::Error::SizeMismatch { digest, expected, actual }));
        }
        if self.at > 0 && self.end != size && !self.whole {
            return Err(answer.protocol("sends the whole blob where a part was asked for"));
        }
        let skip = self.at;
        Ok(Current { answer, host, skip })
    }
}

/// Which bytes an answer with a part of a blob holds; `None` if it does not say so, or is about something else.
pub(super) fn part(answer: &Answer, descriptor: &Descriptor) -> Option<Range<u64>> {
    (answer.status() == 206)
        .then(|| content_range(answer.header("content-range")?, descriptor.size))
        .flatten()
}

/// Reads `bytes 0-99/1234` for a blob of `size` bytes.
fn content_range(text: &str, size: u64) -> Option<Range<u64>> {
    let (range, total) = text.trim().strip_prefix("bytes")?.trim_start().split_once('/')?;
    if total != "*" && total.parse() != Ok(size) {
        return None;
    }
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last && last < size).then(|| first..last + 1)
}

#[cfg(test)]
mod tests;
