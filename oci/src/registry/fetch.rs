//! Fetch: a blob as a stream that mends itself.
//!
//! A pull opens a blob, whole, from an offset, or a range of it, and reads. When the connection breaks, the stream goes on from
//! the byte it stopped at: on the same host, and when that gives no more, on the next one.
//!
//! # Invariants
//! The stream gives exactly the bytes that were asked for, by number; whether they are the right ones is known to whoever
//! hashes them from the blob's start, and told back with `Served::distrust`. Nothing is held in memory.
//!
//! # Sources
//! distribution-spec 1.1 "pulling blobs"; RFC 9110 "range requests"; spec registries.md rules 61 to 65.

mod download;
mod foreign;
mod parallel;

use std::{
    ops::Range,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{Stream, stream::BoxStream};
use reqwest::header::RANGE;

use self::download::Download;
use super::{Repository, error::Error, host::Capability};
use crate::descriptor::Descriptor;

/// The bytes of a blob, or of a part of one.
pub struct BlobStream {
    bytes: BoxStream<'static, Result<Bytes, Error>>,
    served: Served,
}

impl std::fmt::Debug for BlobStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlobStream").field("served", &self.served).finish_non_exhaustive()
    }
}

impl BlobStream {
    /// Who served the bytes; filled while they come.
    pub fn served(&self) -> Served {
        self.served.clone()
    }
}

impl Stream for BlobStream {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.bytes.as_mut().poll_next(context)
    }
}

/// The hosts that served a stream.
#[derive(Clone, Debug)]
pub struct Served {
    repository: Repository,
    hosts: Arc<Mutex<Vec<String>>>,
}

impl Served {
    fn new(repository: Repository) -> Self {
        Self { repository, hosts: Arc::default() }
    }

    fn add(&self, authority: &str) {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if !hosts.iter().any(|host| host == authority) {
            hosts.push(authority.to_owned());
        }
    }

    /// Who it was.
    pub fn hosts(&self) -> Vec<String> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What they sent did not hash to what it should: the next time they are asked last (F-38).
    pub fn distrust(&self) {
        for host in self.hosts() {
            self.repository.distrust(&host);
        }
    }
}

impl Repository {
    /// A blob from a byte on to its end; a large one over several connections, where one is slow.
    pub async fn open(&self, descriptor: &Descriptor, offset: u64) -> Result<BlobStream, Error> {
        match parallel::open(self, descriptor, offset).await? {
            Some(stream) => Ok(stream),
            None => self.open_part(descriptor, offset..descriptor.size).await,
        }
    }

    /// Some of a blob's bytes. A host that sends the whole blob instead serves only what begins at its start.
    pub async fn open_range(&self, descriptor: &Descriptor, range: Range<u64>) -> Result<BlobStream, Error> {
        self.open_part(descriptor, range).await
    }

    /// Whether the first host that has the blob sends parts of it, so that several may be fetched at once.
    pub async fn ranges(&self, descriptor: &Descriptor) -> Result<bool, Error> {
        let hosts = self.candidates(Capability::Pull)?;
        let mut tried = super::Tried::default();
        let rest = format!("blobs/{}", descriptor.digest);
        for (index, host) in hosts.iter().enumerate() {
            let mut call =
                self.call(reqwest::Method::GET, host, &rest, self.patience(index + 1 == hosts.len()))?;
            call.headers = vec![(RANGE, "bytes=0-0".to_owned())];
            let answer = match self.peer(host).send(&call).await {
                Ok(answer) => answer.accept(&[200, 206, 416]).await,
                Err(error) => Err(error),
            };
            match answer {
                Ok(answer) => {
                    return Ok(download::part(&answer, descriptor).is_some_and(|part| part == (0..1)));
                }
                Err(error) => tried.add(host, error),
            }
        }
        Err(tried.into_error(self.reference()))
    }

    async fn open_part(&self, descriptor: &Descriptor, range: Range<u64>) -> Result<BlobStream, Error> {
        if range.start > range.end || range.end > descriptor.size {
            return Err(Error::Content {
                url: self.reference().to_string(),
                source: Arc::new(crate::Error::SizeMismatch {
                    digest: descriptor.digest,
                    expected: descriptor.size,
                    actual: range.end.max(range.start),
                }),
            });
        }
        let served = Served::new(self.clone());
        if range.is_empty() && descriptor.size > 0 {
            return Ok(BlobStream { bytes: Box::pin(futures::stream::empty()), served });
        }
        let mut download = Download::new(self.clone(), descriptor.clone(), range, served.clone());
        // Connected now, so that "not found" is told here and not by the first read.
        download.connect().await?;
        Ok(BlobStream { bytes: download.into_stream(), served })
    }
}
