//! Push: blobs and manifests to the first host that takes them.
//!
//! An export pushes layers and configs, then the manifests that point at them, and a tag last; here is one step of that each.
//! What the registry has already is not sent; what another repository of it has is mounted.
//!
//! # Errors
//! `Error::says("MANIFEST_BLOB_UNKNOWN")`: the registry lost a blob since it was pushed (F-36); push it again, then the manifest.
//!
//! # Sources
//! distribution-spec 1.1 "push"; spec registries.md rules 77 to 82.

mod upload;

use bytes::Bytes;
use futures::stream::BoxStream;
use reqwest::{Method, Url, header::CONTENT_TYPE};

use self::upload::Upload;
use super::{
    Repository, auth,
    error::Error,
    host::{Capability, Host},
    resolve::{self, claimed_digest},
    transport::{self, Answer, Patience, Payload},
};
use crate::descriptor::Descriptor;

/// What a push reads from: opened again, from where the registry stands, at each attempt.
#[async_trait::async_trait]
pub trait BlobSource: Send + Sync {
    /// The blob's bytes from `offset` on.
    async fn open(&self, offset: u64) -> Result<BoxStream<'static, Result<Bytes, Error>>, Error>;
}

/// How a blob came to be in the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// We sent it.
    Uploaded,
    /// Another repository of the registry had it.
    Mounted,
    /// It was there.
    Existed,
}

impl Repository {
    /// Whether the host that is pushed to has this blob or manifest.
    pub async fn exists(&self, descriptor: &Descriptor) -> Result<bool, Error> {
        let kind = if resolve::is_manifest(&descriptor.media_type) { "manifests" } else { "blobs" };
        let answer = self.head(self.push_host()?, &format!("{kind}/{}", descriptor.digest)).await?;
        match answer.status() {
            200 => Ok(true),
            404 => Ok(false),
            _ => Err(answer.into_failure().await),
        }
    }

    /// Brings a blob into the registry; `mount_from` are repositories of it that may have the blob.
    pub async fn push_blob(
        &self,
        descriptor: &Descriptor,
        source: &dyn BlobSource,
        mount_from: &[String],
    ) -> Result<Pushed, Error> {
        if self.exists(descriptor).await? {
            return Ok(Pushed::Existed);
        }
        let host = self.push_host()?;
        let mut upload = Upload::new(self, host, descriptor, source);
        if let Some(from) = nearest(self.reference().path(), mount_from) {
            match self.mount(host, descriptor, from).await {
                // A registry's word is checked: a manifest that points at nothing is refused much later (NET-14).
                Some(Mount::Done) if self.exists(descriptor).await? => return Ok(Pushed::Mounted),
                Some(Mount::Session(url)) => upload.begin_at(url),
                _ => {}
            }
        }
        upload.run().await?;
        Ok(Pushed::Uploaded)
    }

    /// Puts a manifest or an index under its digest, or under a tag; what it points at must be there before.
    pub async fn push_manifest(
        &self,
        descriptor: &Descriptor,
        bytes: Bytes,
        tag: Option<&str>,
    ) -> Result<(), Error> {
        resolve::verify(&bytes, &descriptor.digest, descriptor.size)
            .map_err(|source| Error::Content { url: self.reference().to_string(), source: source.into() })?;
        let host = self.push_host()?;
        let rest = format!("manifests/{}", tag.map_or_else(|| descriptor.digest.to_string(), str::to_owned));
        let answer = self.head(host, &rest).await?;
        let there = answer.status() == 200;
        if there && (tag.is_none() || claimed_digest(&answer).ok().flatten() == Some(descriptor.digest)) {
            return Ok(());
        }
        let mut call = self.call(Method::PUT, host, &rest, self.push_patience())?;
        call.headers = vec![(CONTENT_TYPE, descriptor.media_type.clone())];
        call.payload = Payload::Bytes(bytes.clone());
        let answer = self.peer(host).send(&call).await?.accept(&[200, 201, 202, 204]).await?;
        if let Some(stored) = claimed_digest(&answer)?.filter(|stored| *stored != descriptor.digest) {
            return Err(answer.protocol(format!("stored the manifest {} as {stored}", descriptor.digest)));
        }
        // A registry that understood what the manifest refers to says so.
        if answer.header("oci-subject").is_none() {
            self.refer(host, descriptor, &bytes).await?;
        }
        Ok(())
    }

    /// Rule 24: the first that takes uploads, and no other.
    fn push_host(&self) -> Result<&Host, Error> {
        Ok(self.candidates(Capability::Push)?[0])
    }

    pub(super) fn push_patience(&self) -> Patience {
        Patience::push(self.0.transport.timeouts.patience)
    }

    async fn head(&self, host: &Host, rest: &str) -> Result<Answer, Error> {
        let mut call = self.call(Method::HEAD, host, rest, self.push_patience())?;
        // One token for the whole push.
        call.scopes.iter_mut().for_each(|scope| scope.push = true);
        call.headers = vec![(reqwest::header::ACCEPT, resolve::ACCEPTED.to_owned())];
        self.peer(host).send(&call).await
    }

    /// Asks for a blob of another repository; `None`: it cannot be had so, for whatever reason.
    async fn mount(&self, host: &Host, descriptor: &Descriptor, from: &str) -> Option<Mount> {
        let patience = Patience::next_host_waits(self.0.transport.timeouts.patience);
        let mut call = self.call(Method::POST, host, "blobs/uploads/", patience).ok()?;
        call.url
            .query_pairs_mut()
            .append_pair("mount", &descriptor.digest.to_string())
            .append_pair("from", from);
        call.scopes.push(auth::Scope { repository: from.to_owned(), push: false });
        let answer = self.peer(host).send(&call).await.ok()?;
        match answer.status() {
            201 => Some(Mount::Done),
            202 => self.location(host, &answer).ok().map(Mount::Session),
            _ => None,
        }
    }

    /// Where an upload goes on (rule 79).
    fn location(&self, host: &Host, answer: &Answer) -> Result<Url, Error> {
        let home = self.peer(host).home()?;
        let location =
            answer.header("location").ok_or_else(|| answer.protocol("opens an upload without a Location"))?;
        let hop =
            transport::follow(&home, answer.url(), location).map_err(|reason| answer.protocol(reason))?;
        Ok(hop.url)
    }
}

enum Mount {
    Done,
    Session(Url),
}

/// The repository most like ours: whoever may push here may most likely read there (rule 78).
fn nearest<'a>(path: &str, from: &'a [String]) -> Option<&'a str> {
    let alike = |other: &str| path.split('/').zip(other.split('/')).take_while(|(a, b)| a == b).count();
    let others = from.iter().map(String::as_str).filter(|other| *other != path && !other.is_empty());
    // The first of several that are equally near.
    others.rev().max_by_key(|other| alike(other))
}

#[cfg(test)]
mod tests;
