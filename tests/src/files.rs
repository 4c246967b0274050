//! Files: a small web server in the process of the test, for what builds fetch: files with validators, redirects and repositories.
//!
//! It keeps a list of what it was asked, so that a test can say who saw which header. It runs on a thread and a loopback port of its own.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Request, Response,
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};

mod git;

pub use git::Repository;

/// What lies at a path.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The bytes.
    pub body: Vec<u8>,
    /// Further headers; `etag` and `last-modified` among them are compared with what requests say.
    pub headers: Vec<(String, String)>,
    /// The status; 0 is 200.
    pub status: u16,
    /// The connection ends after so many bytes, as often as this says.
    pub cut: Option<(usize, usize)>,
    /// The `Authorization` it wants.
    pub wants: Option<String>,
}

impl Page {
    /// A file without more.
    pub fn of(body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::default() }
    }

    /// The same with a header.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// To another place.
    pub fn redirect(to: &str) -> Self {
        Self { status: 302, ..Self::default() }.with("location", to)
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// A request, as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    /// GET, POST, ...
    pub method: String,
    /// Without the query.
    pub path: String,
    /// By lower-case name.
    pub headers: BTreeMap<String, String>,
    /// What was answered.
    pub status: u16,
}

#[derive(Debug, Default)]
struct State {
    pages: BTreeMap<String, Page>,
    asked: Vec<Asked>,
    /// The folder whose bare repositories are served below `/git/`, and the `Authorization` they want.
    repositories: Option<(PathBuf, Option<String>)>,
}

/// A running server; it ends when dropped.
#[derive(Debug)]
pub struct FileServer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
}

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

impl FileServer {
    /// Serves nothing yet.
    pub fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        listener.set_nonblocking(true).expect("a socket option");
        let address = listener.local_addr().expect("an address");
        let state = Arc::<Mutex<State>>::default();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let shared = state.clone();
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                tokio::select! {
                    () = accept(listener, shared) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, state, stop: Some(stop) }
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// `127.0.0.1:<port>`.
    pub fn authority(&self) -> String {
        self.address.to_string()
    }

    /// Puts something at a path.
    pub fn put(&self, path: &str, page: Page) {
        lock(&self.state).pages.insert(path.to_owned(), page);
    }

    /// Serves the bare repositories of a folder below `/git/`, to whoever sends `wants`.
    pub fn serve_repositories(&self, folder: PathBuf, wants: Option<&str>) {
        lock(&self.state).repositories = Some((folder, wants.map(str::to_owned)));
    }

    /// Everything that was asked, in order.
    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.state).asked.clone()
    }

    /// The statuses of what was asked of a path.
    pub fn statuses(&self, path: &str) -> Vec<u16> {
        self.asked().iter().filter(|asked| asked.path == path).map(|asked| asked.status).collect()
    }
}

impl Drop for FileServer {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: tokio::net::TcpListener, state: Arc<Mutex<State>>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let state = state.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| serve(request, state.clone()));
            let server = auto::Builder::new(TokioExecutor::new());
            // What a connection dies of is the client's or a cut's doing.
            drop(server.serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

async fn serve(request: Request<Incoming>, state: Arc<Mutex<State>>) -> Result<Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    let headers = parts.headers.iter().map(|(name, value)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    });
    let mut asked = Asked {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        headers: headers.collect(),
        status: 0,
    };
    let repositories = lock(&state).repositories.clone();
    let response = match (asked.path.strip_prefix("/git/"), repositories) {
        (Some(_), Some((folder, wants))) => {
            let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            let query = parts.uri.query().unwrap_or_default();
            git::answer(&asked, query, body, &folder, wants.as_deref()).await
        }
        _ => answer(&asked, &mut lock(&state)),
    };
    asked.status = response.status().as_u16();
    lock(&state).asked.push(asked);
    Ok(response)
}

fn answer(asked: &Asked, state: &mut State) -> Response<Body> {
    let Some(page) = state.pages.get_mut(&asked.path) else { return reply(404, &[], "not here") };
    if page.wants.is_some() && page.wants.as_ref() != asked.headers.get("authorization") {
        return reply(401, &[("www-authenticate".into(), "Basic realm=\"x\"".into())], "who are you");
    }
    let same = |ours: &str, theirs: &str| {
        page.header(ours).is_some() && page.header(ours) == asked.headers.get(theirs).map(String::as_str)
    };
    if same("etag", "if-none-match") || same("last-modified", "if-modified-since") {
        return reply(304, &page.headers, "");
    }
    if let Some((at, times)) = page.cut.filter(|(_, times)| *times > 0) {
        page.cut = Some((at, times - 1));
        let pieces =
            vec![Ok(Frame::data(Bytes::from(page.body[..at].to_vec()))), Err(std::io::Error::other("cut"))];
        let body = StreamBody::new(futures::stream::iter(pieces)).boxed_unsync();
        let builder = Response::builder().header("content-length", page.body.len());
        return builder.body(body).expect("a header that can be sent");
    }
    reply(if page.status == 0 { 200 } else { page.status }, &page.headers, page.body.clone())
}

fn reply(status: u16, headers: &[(String, String)], body: impl Into<Bytes>) -> Response<Body> {
    let mut builder = Response::builder().status(status);
    for (name, value) in headers {
        builder = builder.header(name, value);
    }
    let body = Full::new(body.into()).map_err(|never: Infallible| match never {}).boxed_unsync();
    builder.body(body).expect("headers that can be sent")
}
