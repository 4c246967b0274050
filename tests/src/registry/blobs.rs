//! Blobs: what lies in a repository, and how it is read: blobs with ranges, manifests, tags, referrers.

use std::collections::BTreeMap;

use buildd_oci::digest::Digest;
use bytes::Bytes;
use hyper::{Method, Response};
use serde_json::{Value, json};

use super::{Body, Seen, State, failure, query, reply};

/// One repository.
#[derive(Debug, Default)]
pub(super) struct Repository {
    pub(super) blobs: BTreeMap<Digest, Bytes>,
    pub(super) manifests: BTreeMap<Digest, (String, Bytes)>,
    pub(super) tags: BTreeMap<String, Digest>,
}

impl Repository {
    pub(super) fn store(&mut self, media_type: &str, bytes: Bytes, tag: Option<&str>) -> Digest {
        let digest = Digest::of(&bytes);
        self.manifests.insert(digest, (media_type.to_owned(), bytes));
        if let Some(tag) = tag {
            self.tags.insert(tag.to_owned(), digest);
        }
        digest
    }

    fn find(&self, name: &str) -> Option<(Digest, &(String, Bytes))> {
        let digest = name.parse().ok().or_else(|| self.tags.get(name).copied())?;
        self.manifests.get(&digest).map(|found| (digest, found))
    }
}

/// Answers everything but uploads.
pub(super) fn answer(
    method: &Method,
    seen: &Seen,
    rest: &str,
    body: Bytes,
    state: &mut State,
) -> Response<Body> {
    if rest.is_empty() {
        return reply(200, &[], "{}");
    }
    if let Some((repository, name)) = rest.split_once("/manifests/") {
        let (no_referrers, repository) = (state.options.no_referrers, state.repository(repository));
        return match *method {
            Method::PUT => put_manifest(repository, name, seen, body, no_referrers),
            _ => get_manifest(repository, name),
        };
    }
    if let Some((repository, digest)) = rest.split_once("/blobs/") {
        return get_blob(state.repository(repository), digest, seen);
    }
    if let Some((repository, digest)) = rest.split_once("/referrers/") {
        if state.options.no_referrers {
            return failure(404, "UNSUPPORTED");
        }
        return referrers(state.repository(repository), digest, &seen.query);
    }
    match rest.strip_suffix("/tags/list") {
        Some(repository) => tags(repository, seen, state),
        None => failure(404, "UNSUPPORTED"),
    }
}

fn get_manifest(repository: &Repository, name: &str) -> Response<Body> {
    let Some((digest, (media_type, bytes))) = repository.find(name) else {
        return failure(404, "MANIFEST_UNKNOWN");
    };
    let headers = [
        ("content-type", media_type.clone()),
        ("docker-content-digest", digest.to_string()),
        ("content-length", bytes.len().to_string()),
    ];
    reply(200, &headers, bytes.clone())
}

fn put_manifest(
    repository: &mut Repository,
    name: &str,
    seen: &Seen,
    body: Bytes,
    no_referrers: bool,
) -> Response<Body> {
    let Ok(document) = serde_json::from_slice::<Value>(&body) else {
        return failure(400, "MANIFEST_INVALID");
    };
    let blobs = document["layers"].as_array().into_iter().flatten().chain(document.get("config"));
    for blob in blobs {
        let digest = blob["digest"].as_str().and_then(|text| text.parse().ok());
        if !digest.is_some_and(|digest: Digest| repository.blobs.contains_key(&digest)) {
            return failure(404, "MANIFEST_BLOB_UNKNOWN");
        }
    }
    for child in document["manifests"].as_array().into_iter().flatten() {
        if child["digest"].as_str().and_then(|text| repository.find(text)).is_none() {
            return failure(404, "MANIFEST_UNKNOWN");
        }
    }
    let tag = (!name.contains(':')).then_some(name);
    if tag.is_none() && name != Digest::of(&body).to_string() {
        return failure(400, "DIGEST_INVALID");
    }
    let media_type = seen.header("content-type").unwrap_or_default().to_owned();
    let digest = repository.store(&media_type, body, tag);
    let mut headers = vec![("docker-content-digest", digest.to_string())];
    if let (Some(subject), false) = (document["subject"]["digest"].as_str(), no_referrers) {
        headers.push(("oci-subject", subject.to_owned()));
    }
    reply(201, &headers, "")
}

fn get_blob(repository: &Repository, digest: &str, seen: &Seen) -> Response<Body> {
    let found = digest.parse().ok().and_then(|digest: Digest| repository.blobs.get(&digest));
    let Some(bytes) = found else { return failure(404, "BLOB_UNKNOWN") };
    let size = bytes.len();
    let headers = vec![
        ("content-type", "application/octet-stream".to_owned()),
        ("docker-content-digest", digest.to_owned()),
        ("accept-ranges", "bytes".to_owned()),
    ];
    let part = |start: usize, end: usize| {
        let mut headers = headers.clone();
        headers.push(("content-range", format!("bytes {start}-{}/{size}", end - 1)));
        headers.push(("content-length", (end - start).to_string()));
        reply(206, &headers, bytes.slice(start..end))
    };
    let Some(range) = seen.header("range").and_then(|text| text.strip_prefix("bytes=")) else {
        let mut headers = headers;
        headers.push(("content-length", size.to_string()));
        return reply(200, &headers, bytes.clone());
    };
    let (start, end) = range.split_once('-').unwrap_or_default();
    let start: usize = start.parse().unwrap_or(usize::MAX);
    let end = end.parse().map_or(size, |last: usize| size.min(last + 1));
    if start < end { part(start, end) } else { failure(416, "RANGE_INVALID") }
}

fn referrers(repository: &Repository, subject: &str, asked: &str) -> Response<Body> {
    let wanted = query(asked, "artifactType");
    let mut found = Vec::new();
    for (digest, (media_type, bytes)) in &repository.manifests {
        let Ok(document) = serde_json::from_slice::<Value>(bytes) else { continue };
        if document["subject"]["digest"] != subject {
            continue;
        }
        let kind = document.get("artifactType").or_else(|| document["config"].get("mediaType"));
        if wanted.as_ref().is_some_and(|wanted| kind != Some(&json!(wanted))) {
            continue;
        }
        found.push(json!({
            "mediaType": media_type, "digest": digest, "size": bytes.len(), "artifactType": kind,
        }));
    }
    let index = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": found,
    });
    let media_type = "application/vnd.oci.image.index.v1+json".to_owned();
    reply(200, &[("content-type", media_type)], index.to_string())
}

fn tags(name: &str, seen: &Seen, state: &mut State) -> Response<Body> {
    let page = state.options.page.unwrap_or(usize::MAX);
    let last = query(&seen.query, "last").unwrap_or_default();
    let tags: Vec<String> =
        state.repository(name).tags.keys().filter(|tag| **tag > last).take(page).cloned().collect();
    let mut headers = vec![("content-type", "application/json".to_owned())];
    if let (Some(last), true) = (tags.last(), tags.len() == page) {
        headers.push(("link", format!("</v2/{name}/tags/list?last={last}&n={page}>; rel=\"next\"")));
    }
    reply(200, &headers, json!({ "name": name, "tags": tags }).to_string())
}
