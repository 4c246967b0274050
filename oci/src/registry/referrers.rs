//! Referrers and tags: the two lists that a registry keeps of a repository.
//!
//! Signatures, attestations and the like refer to an image; registries answer which ones do, or keep them in an index under a tag
//! named after the image's digest. Lists come in pages, all from the same host, and have an end.
//!
//! # Sources
//! distribution-spec 1.1 "listing referrers", "referrers tag schema", "listing tags"; spec registries.md rule 27.

use bytes::Bytes;
use reqwest::{Method, Url, header::ACCEPT};
use serde::Deserialize;

use super::{
    Repository, Tried,
    error::Error,
    host::{Capability, Host},
    resolve::{MAX_MANIFEST, is_manifest},
    transport::{self, Answer, Patience, Payload},
};
use crate::{
    ErrorKind,
    descriptor::Descriptor,
    digest::Digest,
    manifest::{Index, MAX_MANIFESTS, Manifest},
    media_type,
};

/// Most pages of a list: a registry whose next page is always another one ends here (NET-13).
const MAX_PAGES: usize = 1000;
/// Most tags of a repository.
const MAX_TAGS: usize = 100_000;
/// Tags to ask for at once.
const TAGS_PAGE: &str = "1000";

#[derive(Deserialize)]
struct TagPage {
    // Compat: registries of a repository without tags answer null.
    tags: Option<Vec<String>>,
}

impl Repository {
    /// What refers to a manifest, of one type or of all.
    pub async fn referrers(
        &self,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, Error> {
        let mut tried = Tried::default();
        let mut found = None;
        if let Ok(hosts) = self.candidates(Capability::Referrers) {
            for (index, host) in hosts.iter().enumerate() {
                let patience = self.patience(index + 1 == hosts.len());
                match self.referrers_at(host, digest, artifact_type, patience).await {
                    Ok(some) => {
                        found = Some(some);
                        break;
                    }
                    Err(error) => tried.add(host, error),
                }
            }
        }
        let mut found = match found {
            Some(found) => found,
            None => match self.referrers_by_tag(digest, tried).await {
                Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
                found => found?,
            },
        };
        // Not every registry filters what it was asked to filter.
        found.retain(|one| artifact_type.is_none_or(|wanted| one.artifact_type.as_deref() == Some(wanted)));
        Ok(found)
    }

    /// Every tag of the repository, as its first host that answers has them.
    pub async fn tags(&self) -> Result<Vec<String>, Error> {
        let hosts = self.candidates(Capability::Resolve)?;
        let mut tried = Tried::default();
        for (index, host) in hosts.iter().enumerate() {
            match self.tags_at(host, self.patience(index + 1 == hosts.len())).await {
                Ok(tags) => return Ok(tags),
                Err(error) => tried.add(host, error),
            }
        }
        Err(tried.into_error(self.reference()))
    }

    async fn referrers_at(
        &self,
        host: &Host,
        digest: &Digest,
        artifact_type: Option<&str>,
        patience: Patience,
    ) -> Result<Vec<Descriptor>, Error> {
        let mut url = self.call(Method::GET, host, &format!("referrers/{digest}"), patience)?.url;
        if let Some(wanted) = artifact_type {
            url.query_pairs_mut().append_pair("artifactType", wanted);
        }
        let mut all = Vec::new();
        self.pages(host, url, patience, |answer, bytes| {
            let index = Index::parse(bytes).map_err(|source| answer.content(source))?;
            all.extend(index.manifests);
            within(answer, all.len(), MAX_MANIFESTS)
        })
        .await?;
        Ok(all)
    }

    /// The older way: an index under the tag `sha256-<hex>`; none is an empty list.
    async fn referrers_by_tag(&self, digest: &Digest, mut tried: Tried) -> Result<Vec<Descriptor>, Error> {
        let hosts = self.candidates(Capability::Resolve)?;
        for (index, host) in hosts.iter().enumerate() {
            match self.fallback_index(host, digest, self.patience(index + 1 == hosts.len())).await {
                Ok(index) => return Ok(index.manifests),
                Err(error) => tried.add(host, error),
            }
        }
        Err(tried.into_error(self.reference()))
    }

    async fn fallback_index(&self, host: &Host, digest: &Digest, patience: Patience) -> Result<Index, Error> {
        let rest = format!("manifests/{}", fallback_tag(digest));
        let mut answer = self.get(host, &rest, &[(ACCEPT, media_type::OCI_INDEX)], patience).await?;
        let bytes = answer.whole(MAX_MANIFEST).await?;
        Index::parse(&bytes).map_err(|source| answer.content(source))
    }

    async fn tags_at(&self, host: &Host, patience: Patience) -> Result<Vec<String>, Error> {
        let mut url = self.call(Method::GET, host, "tags/list", patience)?.url;
        url.query_pairs_mut().append_pair("n", TAGS_PAGE);
        let mut all = Vec::new();
        self.pages(host, url, patience, |answer, bytes| {
            let page: TagPage = serde_json::from_slice(bytes)
                .map_err(|error| answer.protocol(format!("its list of tags cannot be read: {error}")))?;
            all.extend(page.tags.unwrap_or_default());
            within(answer, all.len(), MAX_TAGS)
        })
        .await?;
        Ok(all)
    }

    /// Reads a list from its first page to its last one.
    async fn pages(
        &self,
        host: &Host,
        first: Url,
        patience: Patience,
        mut take: impl FnMut(&Answer, &Bytes) -> Result<(), Error> + Send,
    ) -> Result<(), Error> {
        let mut next = Some(first);
        for _ in 0..MAX_PAGES {
            let Some(url) = next.take() else { return Ok(()) };
            let mut call = self.call(Method::GET, host, "", patience)?;
            call.url = url;
            let mut answer = self.peer(host).send(&call).await?.accept(&[200]).await?;
            let bytes = answer.whole(MAX_MANIFEST).await?;
            take(&answer, &bytes)?;
            next = transport::next_page(answer.url(), &answer.lines("link"))
                .map_err(|reason| answer.protocol(reason))?;
            if next.is_none() {
                return Ok(());
            }
        }
        Err(Error::Protocol {
            method: Method::GET.to_string(),
            url: host.authority.clone(),
            reason: format!("more than {MAX_PAGES} pages"),
        })
    }

    /// For a registry without the referrers API: enters a pushed manifest into the index of what refers to its subject.
    pub(super) async fn refer(&self, host: &Host, pushed: &Descriptor, bytes: &[u8]) -> Result<(), Error> {
        let Some((subject, entry)) = referrer(pushed, bytes) else { return Ok(()) };
        let patience = self.push_patience();
        let mut index = match self.fallback_index(host, &subject, patience).await {
            Ok(index) => index,
            Err(error) if error.kind() == ErrorKind::NotFound => Index::new(Vec::new()),
            Err(error) => return Err(error),
        };
        if index.manifests.iter().any(|one| one.digest == entry.digest) {
            return Ok(());
        }
        index.manifests.push(entry);
        let mut call =
            self.call(Method::PUT, host, &format!("manifests/{}", fallback_tag(&subject)), patience)?;
        call.headers = vec![(reqwest::header::CONTENT_TYPE, media_type::OCI_INDEX.to_owned())];
        call.payload = Payload::Bytes(index.to_bytes().into());
        self.peer(host).send(&call).await?.accept(&[200, 201, 202, 204]).await?;
        Ok(())
    }
}

/// What a manifest is about, and how it stands in a list of referrers.
fn referrer(pushed: &Descriptor, bytes: &[u8]) -> Option<(Digest, Descriptor)> {
    if !is_manifest(&pushed.media_type) {
        return None;
    }
    let mut entry = Descriptor::new(pushed.media_type.clone(), pushed.digest, pushed.size);
    if let Ok(manifest) = Manifest::parse(bytes) {
        let subject = manifest.subject?.digest;
        entry.artifact_type = Some(manifest.artifact_type.unwrap_or(manifest.config.media_type));
        entry.annotations = manifest.annotations;
        return Some((subject, entry));
    }
    let index = Index::parse(bytes).ok()?;
    entry.annotations = index.annotations;
    Some((index.subject?.digest, entry))
}

/// `sha256-<hex>`, cut to the length of a tag.
fn fallback_tag(digest: &Digest) -> String {
    let text = digest.to_string().replace(':', "-");
    text.chars().take(crate::reference::MAX_TAG).collect()
}

fn within(answer: &Answer, count: usize, limit: usize) -> Result<(), Error> {
    if count <= limit {
        Ok(())
    } else {
        Err(answer.protocol(format!("its list has more than {limit} entries")))
    }
}
