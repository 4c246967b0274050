//! Sessions: the clients that we can call back, by their id.
//!
//! `Control.Session` registers one; builds look it up by the id in their request and wait for it for a moment, because the two calls race.
//! A session ends when its stream does, or when two health checks in a row go unanswered; whoever uses it then sees the cancellation.

mod auth;
mod calls;
mod filesend;
mod filesync;
mod layout;
mod ssh;
pub(crate) mod transport;
mod upload;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use buildd_api::buildkit::{
    health::{HealthCheckRequest, health_client::HealthClient},
    moby::buildkit::v1::BytesMessage,
};
use buildd_oci::registry::auth::Authorizer;
use futures::Stream;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming, metadata::MetadataMap, transport::Channel};

/// How long a build waits for its session to appear.
const WAIT: Duration = Duration::from_secs(5);
/// Between health checks.
const HEALTH_INTERVAL: Duration = Duration::from_secs(5);
/// How long one may take.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(15);
/// How many in a row may fail.
const HEALTH_FAILURES: u32 = 2;
/// Sessions at once: stops a client from filling memory.
const MAX_SESSIONS: usize = 1024;
/// Bytes of a session's id.
const MAX_ID: usize = 256;

/// A client that can be called back.
#[derive(Debug)]
pub(crate) struct ClientSession {
    /// Its id.
    pub(crate) id: String,
    /// The name under which its files may be kept, with its user: nobody else's; empty if it gave none.
    pub(crate) shared_key: String,
    /// Its methods, lower-cased.
    methods: Arc<BTreeSet<String>>,
    /// The way to it.
    pub(crate) channel: Channel,
    /// Cancelled when it is gone.
    pub(crate) gone: CancellationToken,
    /// Proves to registries who it is; one for all that it builds, so that a token is asked for once.
    authorizer: Authorizer,
}

impl ClientSession {
    /// Whether the client said that it serves a method, `/package.Service/Method`.
    pub(crate) fn supports(&self, method: &str) -> bool {
        supports(&self.methods, method)
    }
}

fn supports(methods: &BTreeSet<String>, method: &str) -> bool {
    methods.contains(&method.to_lowercase())
}

/// All clients that can be called back.
#[derive(Debug)]
pub(crate) struct Sessions {
    live: Mutex<HashMap<String, Arc<ClientSession>>>,
    arrivals: watch::Sender<u64>,
}

impl Default for Sessions {
    fn default() -> Self {
        Self { live: Mutex::default(), arrivals: watch::Sender::new(0) }
    }
}

impl Sessions {
    /// Takes a client in; what it is answered with, which ends the session when dropped.
    pub(crate) fn accept(
        self: &Arc<Self>,
        metadata: &MetadataMap,
        user: Option<u32>,
        incoming: Streaming<BytesMessage>,
    ) -> Result<impl Stream<Item = Result<BytesMessage, Status>> + Send + 'static, Status> {
        let header = |key: &str| metadata.get(key).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let id = header("x-docker-expose-session-uuid").to_owned();
        if id.is_empty() || id.len() > MAX_ID {
            return Err(Status::invalid_argument("a session needs an id of at most 256 bytes"));
        }
        let methods = metadata.get_all("x-docker-expose-session-grpc-method").iter();
        let methods: BTreeSet<String> =
            methods.filter_map(|value| value.to_str().ok()).map(str::to_lowercase).collect();
        let methods = Arc::new(methods);
        let (channel, outgoing) = transport::channel(incoming);
        let gone = CancellationToken::new();
        let key: String = header("x-docker-expose-session-sharedkey").chars().take(MAX_ID).collect();
        let shared_key = match user {
            Some(user) if !key.is_empty() => format!("{user}:{key}"),
            _ => String::new(),
        };
        let asked = auth::ClientCredentials {
            methods: Arc::clone(&methods),
            channel: channel.clone(),
            gone: gone.clone(),
        };
        let authorizer = Authorizer::new(Arc::new(asked));
        let session = ClientSession { id, shared_key, methods, channel, gone, authorizer };
        let end = self.register(Arc::new(session))?;
        Ok(EndWith { outgoing: Box::pin(outgoing), _end: end })
    }

    fn register(self: &Arc<Self>, session: Arc<ClientSession>) -> Result<End, Status> {
        {
            let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
            if live.contains_key(&session.id) {
                return Err(Status::already_exists(format!("session {} already exists", session.id)));
            }
            if live.len() >= MAX_SESSIONS {
                return Err(Status::resource_exhausted("too many sessions"));
            }
            live.insert(session.id.clone(), Arc::clone(&session));
        }
        self.arrivals.send_modify(|count| *count += 1);
        tokio::spawn(watch_health(Arc::clone(&session)));
        Ok(End { sessions: Arc::clone(self), session })
    }

    /// The session of this id, as soon as it is there. Ids may have a prefix up to a colon.
    pub(crate) async fn find(&self, id: &str) -> Option<Arc<ClientSession>> {
        let id = id.rsplit_once(':').map_or(id, |(_, id)| id);
        if id.is_empty() {
            return None;
        }
        let deadline = Instant::now() + WAIT;
        let mut arrivals = self.arrivals.subscribe();
        loop {
            arrivals.mark_unchanged();
            if let Some(session) = self.live(id) {
                return Some(session);
            }
            timeout_at(deadline, arrivals.changed()).await.ok()?.ok()?;
        }
    }

    /// The session of this id if it is there now.
    pub(crate) fn live(&self, id: &str) -> Option<Arc<ClientSession>> {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.get(id).filter(|session| !session.gone.is_cancelled()).cloned()
    }
}

/// Ends a session when dropped.
#[derive(Debug)]
struct End {
    sessions: Arc<Sessions>,
    session: Arc<ClientSession>,
}

impl Drop for End {
    fn drop(&mut self) {
        self.session.gone.cancel();
        let mut live = self.sessions.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.remove(&self.session.id);
    }
}

struct EndWith<S> {
    outgoing: std::pin::Pin<Box<S>>,
    _end: End,
}

impl<S: Stream> Stream for EndWith<S> {
    type Item = S::Item;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<S::Item>> {
        self.outgoing.as_mut().poll_next(cx)
    }
}

/// Also sends the first bytes: the channel connects with its first call.
async fn watch_health(session: Arc<ClientSession>) {
    let mut health = HealthClient::new(session.channel.clone());
    let mut ticks = interval(HEALTH_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failures = 0;
    while failures < HEALTH_FAILURES {
        tokio::select! {
            () = session.gone.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let check = health.check(HealthCheckRequest::default());
        let answered = timeout(HEALTH_TIMEOUT, check).await.is_ok_and(|answer| answer.is_ok());
        failures = if answered { 0 } else { failures + 1 };
    }
    tracing::debug!(session = session.id, "the client does not answer health checks");
    session.gone.cancel();
}
