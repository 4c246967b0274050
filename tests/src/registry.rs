//! Registry: a real one, small, in the process of the test, that does wrong exactly what it is told to.
//!
//! It speaks the distribution API with uploads in every form, mounts, ranges, referrers, tags, Basic authentication and tokens,
//! with or without TLS, on a loopback port of its own. It keeps a list of everything it was asked, so that a test can say who
//! saw which credentials. It runs on a thread of its own, for tests with and without an async runtime.

mod blobs;
mod debian;
mod faults;
mod tls;
mod tokens;
mod uploads;

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use buildd_oci::{descriptor::Descriptor, digest::Digest};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{Method, Request, Response, StatusCode, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};

pub use self::{
    debian::DockerRegistry,
    faults::{Act, Fault, Gate, Hang},
    tls::Authority,
    tokens::Tokens,
};

/// How a registry behaves when nothing goes wrong.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Speaks TLS with a certificate of this authority.
    pub tls: Option<Authority>,
    /// Wants a certificate of this authority from the client too.
    pub client_certificates: Option<Authority>,
    /// Wants this user name and password.
    pub basic: Option<(String, String)>,
    /// Wants tokens.
    pub tokens: Option<Tokens>,
    /// Has no referrers API.
    pub no_referrers: bool,
    /// Says `OCI-Chunk-Min-Length`.
    pub min_chunk: Option<u64>,
    /// Refuses larger bodies with 413.
    pub max_body: Option<u64>,
    /// Tags on one page.
    pub page: Option<usize>,
}

/// One request, as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// GET, HEAD, ...
    pub method: String,
    /// Without the query.
    pub path: String,
    /// The query, or nothing.
    pub query: String,
    /// The headers by their lower-case names; of several of one name the last.
    pub headers: BTreeMap<String, String>,
    /// What was answered; 0: the connection was cut instead.
    pub status: u16,
    /// Whether it came over HTTP/2.
    pub http2: bool,
}

impl Seen {
    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

type Body = UnsyncBoxBody<Bytes, faults::Cut>;
/// The connection is cut instead of an answer.
type Reply = Result<Response<Body>, faults::Cut>;

#[derive(Debug, Default)]
struct State {
    options: Options,
    address: String,
    repositories: BTreeMap<String, blobs::Repository>,
    uploads: HashMap<String, uploads::Session>,
    next_upload: u64,
    faults: Vec<Fault>,
    seen: Vec<Seen>,
    issued: tokens::Issued,
    uploaded: u64,
}

/// A running registry; it ends when dropped.
#[derive(Debug)]
pub struct Registry {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
}

impl Registry {
    /// Speaks plain HTTP and asks for nothing.
    pub fn start() -> Self {
        Self::with(Options::default())
    }

    /// Behaves as told.
    pub fn with(options: Options) -> Self {
        let acceptor = options.tls.as_ref().map(|ca| tls::acceptor(ca, options.client_certificates.as_ref()));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        listener.set_nonblocking(true).expect("a socket option");
        let address = listener.local_addr().expect("an address");
        let scheme = if options.tls.is_some() { "https" } else { "http" };
        let state = State { options, address: format!("{scheme}://{address}"), ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let shared = state.clone();
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                tokio::select! {
                    () = accept(listener, acceptor, shared) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, state, stop: Some(stop) }
    }

    /// `127.0.0.1:<port>`.
    pub fn authority(&self) -> String {
        self.address.to_string()
    }

    /// `http://127.0.0.1:<port>` or its TLS form.
    pub fn url(&self) -> String {
        self.state().address.clone()
    }

    /// Puts a blob into a repository.
    pub fn put_blob(&self, repository: &str, bytes: impl Into<Bytes>) -> Descriptor {
        let bytes = bytes.into();
        let descriptor = Descriptor::new("application/octet-stream", Digest::of(&bytes), bytes.len() as u64);
        self.state().repository(repository).blobs.insert(descriptor.digest, bytes);
        descriptor
    }

    /// Puts a manifest into a repository, under its digest and, if given, a tag.
    pub fn put_manifest(
        &self,
        repository: &str,
        tag: Option<&str>,
        media_type: &str,
        bytes: impl Into<Bytes>,
    ) -> Descriptor {
        let bytes = bytes.into();
        let descriptor = Descriptor::new(media_type, Digest::of(&bytes), bytes.len() as u64);
        self.state().repository(repository).store(media_type, bytes, tag);
        descriptor
    }

    /// What lies under a digest: a blob or a manifest.
    pub fn content(&self, repository: &str, digest: &Digest) -> Option<Bytes> {
        let mut state = self.state();
        let repository = state.repository(repository);
        let manifest = repository.manifests.get(digest).map(|(_, bytes)| bytes.clone());
        manifest.or_else(|| repository.blobs.get(digest).cloned())
    }

    /// What a tag points at.
    pub fn tagged(&self, repository: &str, tag: &str) -> Option<Digest> {
        self.state().repository(repository).tags.get(tag).copied()
    }

    /// Throws a blob away, as a registry's collector might.
    pub fn remove_blob(&self, repository: &str, digest: &Digest) {
        self.state().repository(repository).blobs.remove(digest);
    }

    /// Does something wrong from now on.
    pub fn fault(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Does nothing wrong any more.
    pub fn forgive(&self) {
        self.state().faults.clear();
    }

    /// Begins an upload; its path.
    pub fn begin_upload(&self, repository: &str) -> String {
        uploads::open(repository, &mut self.state())
    }

    /// Everything that was asked, in order.
    pub fn seen(&self) -> Vec<Seen> {
        self.state().seen.clone()
    }

    /// Method, path and status of everything that was asked whose path contains `part`.
    pub fn log(&self, part: &str) -> Vec<String> {
        let seen = self.seen();
        let line = |seen: &Seen| format!("{} {} {}", seen.method, seen.path, seen.status);
        seen.iter().filter(|seen| seen.path.contains(part)).map(line).collect()
    }

    /// How many bytes came in uploads, refused and repeated ones too.
    pub fn uploaded(&self) -> u64 {
        self.state().uploaded
    }

    /// Every token that was given out stops working.
    pub fn expire_tokens(&self) {
        self.state().issued.expire();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }
}

impl State {
    fn repository(&mut self, name: &str) -> &mut blobs::Repository {
        self.repositories.entry(name.to_owned()).or_default()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(
    listener: tokio::net::TcpListener,
    acceptor: Option<tokio_rustls::TlsAcceptor>,
    state: Arc<Mutex<State>>,
) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        let (acceptor, state) = (acceptor.clone(), state.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| serve(request, state.clone()));
            let server = auto::Builder::new(TokioExecutor::new());
            // What a connection dies of is the client's or a fault's doing.
            match acceptor {
                None => drop(server.serve_connection(TokioIo::new(stream), service).await),
                Some(acceptor) => {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        drop(server.serve_connection(TokioIo::new(stream), service).await);
                    }
                }
            }
        });
    }
}

async fn serve(request: Request<Incoming>, state: Arc<Mutex<State>>) -> Reply {
    let (parts, body) = request.into_parts();
    let headers = parts.headers.iter().map(|(name, value)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    });
    let seen = Seen {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: headers.collect(),
        status: 0,
        http2: parts.version == hyper::Version::HTTP_2,
    };
    let (index, act) = {
        let mut state = lock(&state);
        state.seen.push(seen.clone());
        (state.seen.len() - 1, faults::next(&mut state.faults, &seen))
    };
    let reply = faults::answer(act, &parts.method, &seen, body, &state).await;
    if let Ok(response) = &reply {
        lock(&state).seen[index].status = response.status().as_u16();
    }
    reply
}

/// The answer of a registry that does nothing wrong.
async fn answer(method: &Method, seen: &Seen, body: uploads::Upload, state: &Mutex<State>) -> Reply {
    if seen.path == "/token" {
        return Ok(tokens::issue(seen, &body.collect().await?, &mut lock(state)));
    }
    let Some(rest) = seen.path.strip_prefix("/v2/") else { return Ok(failure(404, "UNSUPPORTED")) };
    if let Some(refusal) = tokens::refusal(seen, rest, &lock(state)) {
        return Ok(refusal);
    }
    if let Some((repository, rest)) = rest.split_once("/blobs/uploads/") {
        return uploads::answer(method, seen, repository, rest, body, state).await;
    }
    let bytes = body.collect().await?;
    Ok(blobs::answer(method, seen, rest, bytes, &mut lock(state)))
}

fn reply(status: u16, headers: &[(&str, String)], body: impl Into<Bytes>) -> Response<Body> {
    let mut builder = Response::builder().status(StatusCode::from_u16(status).expect("a status"));
    for (name, value) in headers {
        builder = builder.header(*name, value);
    }
    let body = Full::new(body.into()).map_err(|never: Infallible| match never {});
    builder.body(body.boxed_unsync()).expect("headers that can be sent")
}

/// An error document.
fn failure(status: u16, code: &str) -> Response<Body> {
    let body = serde_json::json!({ "errors": [{ "code": code, "message": code.to_lowercase() }] });
    reply(status, &[("content-type", "application/json".to_owned())], body.to_string())
}

/// One value of a query.
fn query(query: &str, name: &str) -> Option<String> {
    let found = query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name)?;
    Some(decode(found.1))
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).ok();
                bytes.push(digits.and_then(|hex| u8::from_str_radix(hex, 16).ok()).unwrap_or(b'?'));
                rest = tail;
            }
            (b'+', _) => bytes.push(b' '),
            _ => bytes.push(*first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
