//! Resolve: from a tag or a digest to a descriptor, and the documents that descriptors point at.
//!
//! Whoever pulls comes here first. What a host says about a tag is believed only if the host may resolve; what it sends for a
//! digest is checked, so any host that may be pulled from will do.
//!
//! # Sources
//! distribution-spec 1.1 "pulling manifests"; spec registries.md rules 53 to 60.

mod document;

pub(crate) use document::verify;

use bytes::Bytes;
use reqwest::{
    Method,
    header::{ACCEPT, ACCEPT_ENCODING},
};

use super::{
    Repository, Tried,
    error::Error,
    host::{Capability, Host},
    transport::{Answer, Patience},
};
use crate::{descriptor::Descriptor, digest::Digest, media_type};

/// Largest manifest or index: containerd's cap, without its misprint.
pub const MAX_MANIFEST: u64 = 4 << 20;
/// Largest image config or other document (MAN-04).
pub const MAX_CONFIG: u64 = 8 << 20;

/// What we understand, the older names first, then whatever there is (rule 53).
pub(crate) const ACCEPTED: &str = "application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.oci.image.index.v1+json, */*";

impl Repository {
    /// What the reference points at: its digest if it has one, else its tag.
    pub async fn resolve(&self) -> Result<Descriptor, Error> {
        let known = self.reference().digest().copied();
        let capability = if known.is_some() { Capability::Pull } else { Capability::Resolve };
        let name = match known {
            Some(digest) => digest.to_string(),
            None => self.reference().tag().unwrap_or("latest").to_owned(),
        };
        let hosts = self.candidates(capability)?;
        let mut tried = Tried::default();
        for (index, host) in hosts.iter().enumerate() {
            match self.resolve_at(host, &name, known, index + 1 == hosts.len()).await {
                Ok(descriptor) => return Ok(descriptor),
                Err(error) => tried.add(host, error),
            }
        }
        let error = tried.into_error(self.reference());
        match known {
            // Rule 53: a digest may be a blob's.
            Some(digest) if error.progress() <= 2 || error.kind() == crate::ErrorKind::NotFound => {
                Ok(self.resolve_blob(digest, &hosts).await.ok_or(error)?)
            }
            _ => Err(error),
        }
    }

    /// A small document, whole and verified; manifests and indexes from where manifests lie, the rest from the blobs.
    pub async fn document(&self, descriptor: &Descriptor) -> Result<Bytes, Error> {
        let manifest = is_manifest(&descriptor.media_type);
        let limit = if manifest { MAX_MANIFEST } else { MAX_CONFIG };
        if descriptor.size > limit {
            let reason = format!("{} bytes, at most {limit} are read", descriptor.size);
            let source =
                crate::Error::InvalidDocument { what: "document", digest: descriptor.digest, reason };
            return Err(Error::Content { url: self.reference().to_string(), source: source.into() });
        }
        let hosts = self.candidates(Capability::Pull)?;
        let mut tried = Tried::default();
        for (index, host) in hosts.iter().enumerate() {
            match self.document_at(host, descriptor, manifest, self.patience(index + 1 == hosts.len())).await
            {
                Ok(bytes) => return Ok(bytes),
                Err(error) => {
                    if matches!(error, Error::Content { .. }) {
                        self.distrust(&host.authority);
                    }
                    tried.add(host, error);
                }
            }
        }
        Err(tried.into_error(self.reference()))
    }

    async fn resolve_at(
        &self,
        host: &Host,
        name: &str,
        known: Option<Digest>,
        last: bool,
    ) -> Result<Descriptor, Error> {
        let rest = format!("manifests/{name}");
        let patience = self.patience(last);
        let mut call = self.call(Method::HEAD, host, &rest, patience)?;
        call.headers = vec![(ACCEPT, ACCEPTED.to_owned()), (ACCEPT_ENCODING, "identity".to_owned())];
        let answer = self.peer(host).send(&call).await?;
        match answer.status() {
            200 => {
                let claimed = document::claimed_type(&answer)?;
                let digest = match known {
                    Some(digest) => Some(digest),
                    None => claimed_digest(&answer)?,
                };
                // A host that does not say everything in a header is asked for the document itself (rule 57).
                if let (Some(digest), Some(size), Some(media_type)) = (digest, answer.length(), claimed) {
                    if size > MAX_MANIFEST {
                        return Err(answer.protocol(format!("{size} bytes, at most {MAX_MANIFEST} are read")));
                    }
                    return Ok(Descriptor::new(media_type, digest, size));
                }
            }
            // Rule 56: a GET is allowed where a HEAD is not, or at least says why not.
            403 | 405 => {}
            // The last host's refusal is what is told, and only the answer to a GET has its words.
            404 if last => {}
            _ => return Err(answer.into_failure().await),
        }
        let headers = [(ACCEPT, ACCEPTED), (ACCEPT_ENCODING, "identity")];
        let mut answer = self.get(host, &rest, &headers, patience).await?;
        let claimed = document::claimed_type(&answer)?.unwrap_or_default();
        let told = claimed_digest(&answer)?;
        let bytes = answer.whole(MAX_MANIFEST).await?;
        let digest = known.or(told).unwrap_or_else(|| Digest::of(&bytes));
        document::verify(&bytes, &digest, bytes.len() as u64).map_err(|source| answer.content(source))?;
        let media_type = document::check(&bytes, &claimed).map_err(|source| answer.content(source))?;
        Ok(Descriptor::new(media_type, digest, bytes.len() as u64))
    }

    async fn resolve_blob(&self, digest: Digest, hosts: &[&Host]) -> Option<Descriptor> {
        for host in hosts {
            let call =
                self.call(Method::HEAD, host, &format!("blobs/{digest}"), self.patience(false)).ok()?;
            let answer = self.peer(host).send(&call).await.ok();
            if let Some(size) =
                answer.filter(|answer| answer.status() == 200).and_then(|answer| answer.length())
            {
                return Some(Descriptor::new("application/octet-stream", digest, size));
            }
        }
        None
    }

    async fn document_at(
        &self,
        host: &Host,
        descriptor: &Descriptor,
        manifest: bool,
        patience: Patience,
    ) -> Result<Bytes, Error> {
        let rest = format!("{}/{}", if manifest { "manifests" } else { "blobs" }, descriptor.digest);
        let accept = format!("{}, */*", descriptor.media_type);
        let headers = [(ACCEPT, accept.as_str()), (ACCEPT_ENCODING, "identity")];
        let mut answer = self.get(host, &rest, &headers, patience).await?;
        if manifest {
            document::claimed_type(&answer)?;
        }
        if let Some(actual) = answer.length().filter(|length| *length != descriptor.size) {
            let (digest, expected) = (descriptor.digest, descriptor.size);
            return Err(answer.content(crate::Error::SizeMismatch { digest, expected, actual }));
        }
        let bytes = match answer.whole(descriptor.size).await {
            Err(Error::Protocol { .. }) => {
                let (digest, expected) = (descriptor.digest, descriptor.size);
                let actual = expected + 1;
                return Err(answer.content(crate::Error::SizeMismatch { digest, expected, actual }));
            }
            bytes => bytes?,
        };
        document::verify(&bytes, &descriptor.digest, descriptor.size)
            .map_err(|source| answer.content(source))?;
        if manifest {
            document::check(&bytes, &descriptor.media_type).map_err(|source| answer.content(source))?;
        }
        Ok(bytes)
    }
}

/// The digest that a host says the document has.
pub(crate) fn claimed_digest(answer: &Answer) -> Result<Option<Digest>, Error> {
    let Some(text) = answer.header("docker-content-digest") else { return Ok(None) };
    text.parse().map(Some).map_err(|error| answer.content(error))
}

/// Whether this lies with the manifests; what is not known to is a blob.
pub(crate) fn is_manifest(media_type: &str) -> bool {
    media_type::is_manifest(media_type) || media_type::is_index(media_type)
}
