//! Uploads: blobs on their way in: in one request, in chunks, resumed, mounted from another repository.

use std::sync::Mutex;

use buildd_oci::digest::Digest;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::{Method, Response, body::Incoming};

use super::{Body, Reply, Seen, State, failure, faults::Cut, lock, query, reply};

/// One upload that was begun.
#[derive(Debug, Default)]
pub(super) struct Session {
    repository: String,
    bytes: BytesMut,
}

/// The body of a request, which may be cut while it comes.
pub(super) struct Upload {
    pub(super) body: Incoming,
    /// The connection is cut after so many bytes; they are kept.
    pub(super) cut: Option<usize>,
}

impl Upload {
    /// The whole body, of a request that is small.
    pub(super) async fn collect(self) -> Result<Bytes, Cut> {
        let cut = self.cut;
        let bytes = self.body.collect().await.map_err(|_| Cut)?.to_bytes();
        if cut.is_some() { Err(Cut) } else { Ok(bytes) }
    }

    /// Appends what comes to a session; `Err`: the connection broke, or is to be cut.
    async fn receive(mut self, id: &str, state: &Mutex<State>) -> Result<(), Cut> {
        let mut got = 0;
        while let Some(frame) = self.body.frame().await {
            let Ok(mut data) = frame.map_err(|_| Cut)?.into_data() else { continue };
            let cut = self.cut.is_some_and(|cut| got + data.len() >= cut);
            if let Some(limit) = self.cut {
                data.truncate(limit - got);
            }
            got += data.len();
            let mut state = lock(state);
            state.uploaded += data.len() as u64;
            if let Some(session) = state.uploads.get_mut(id) {
                session.bytes.extend_from_slice(&data);
            }
            if cut {
                return Err(Cut);
            }
        }
        if self.cut.is_some() { Err(Cut) } else { Ok(()) }
    }
}

/// Answers everything below `/blobs/uploads/`.
pub(super) async fn answer(
    method: &Method,
    seen: &Seen,
    repository: &str,
    id: &str,
    body: Upload,
    state: &Mutex<State>,
) -> Reply {
    if *method == Method::POST {
        body.collect().await?;
        return Ok(begin(seen, repository, &mut lock(state)));
    }
    let (known, max_body, have) = {
        let state = lock(state);
        let session = state.uploads.get(id).filter(|session| session.repository == repository);
        (session.is_some(), state.options.max_body, session.map_or(0, |session| session.bytes.len()))
    };
    if !known {
        let _ = body.collect().await;
        return Ok(failure(404, "BLOB_UPLOAD_UNKNOWN"));
    }
    let length = seen.header("content-length").and_then(|text| text.parse::<u64>().ok());
    if max_body.is_some_and(|max| length.is_none_or(|length| length > max)) {
        // As proxies do that want their answer to be read.
        let _ = body.collect().await;
        return Ok(failure(413, "SIZE_INVALID"));
    }
    match *method {
        Method::PATCH => {
            let range = seen.header("content-range").and_then(|text| text.split_once('-'));
            if range.is_some_and(|(start, _)| start.parse() != Ok(have)) {
                body.collect().await?;
                return Ok(failure(416, "RANGE_INVALID"));
            }
            body.receive(id, state).await?;
            Ok(progress(202, repository, id, &lock(state)))
        }
        Method::PUT => {
            body.receive(id, state).await?;
            Ok(commit(seen, id, &mut lock(state)))
        }
        Method::GET => Ok(progress(204, repository, id, &lock(state))),
        _ => {
            lock(state).uploads.remove(id);
            Ok(reply(204, &[], ""))
        }
    }
}

fn begin(seen: &Seen, repository: &str, state: &mut State) -> Response<Body> {
    if let (Some(digest), Some(from)) = (query(&seen.query, "mount"), query(&seen.query, "from")) {
        let parsed: Option<Digest> = digest.parse().ok();
        let found =
            parsed.and_then(|parsed| Some((parsed, state.repository(&from).blobs.get(&parsed)?.clone())));
        if let Some((parsed, bytes)) = found {
            state.repository(repository).blobs.insert(parsed, bytes);
            return reply(201, &[("location", format!("/v2/{repository}/blobs/{digest}"))], "");
        }
    }
    let path = open(repository, state);
    progress(202, repository, path.rsplit('/').next().unwrap_or_default(), state)
}

/// Opens a session; its path.
pub(super) fn open(repository: &str, state: &mut State) -> String {
    state.next_upload += 1;
    let id = format!("upload-{}", state.next_upload);
    state.uploads.insert(id.clone(), Session { repository: repository.to_owned(), bytes: BytesMut::new() });
    format!("/v2/{repository}/blobs/uploads/{id}")
}

fn progress(status: u16, repository: &str, id: &str, state: &State) -> Response<Body> {
    let have = state.uploads.get(id).map_or(0, |session| session.bytes.len());
    let mut headers = vec![
        ("location", format!("/v2/{repository}/blobs/uploads/{id}?state={have}")),
        ("range", format!("0-{}", have.saturating_sub(1))),
    ];
    headers.extend(state.options.min_chunk.map(|min| ("oci-chunk-min-length", min.to_string())));
    reply(status, &headers, "")
}

fn commit(seen: &Seen, id: &str, state: &mut State) -> Response<Body> {
    let Some(session) = state.uploads.remove(id) else { return failure(404, "BLOB_UPLOAD_UNKNOWN") };
    let bytes = session.bytes.freeze();
    let digest = Digest::of(&bytes);
    if query(&seen.query, "digest") != Some(digest.to_string()) {
        return failure(400, "DIGEST_INVALID");
    }
    state.repository(&session.repository).blobs.insert(digest, bytes);
    reply(201, &[("location", format!("/v2/{}/blobs/{digest}", session.repository))], "")
}
