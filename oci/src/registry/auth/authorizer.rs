//! Authorizer: the Authorization header for each request, and the answer to each 401.
//!
//! One for each identity: two clients with their own credentials have one each, since what is cached here is proof of who asks.
//!
//! ```text
//! request -> header() -> None until the host has asked once
//!     401 -> challenged() -> Basic | token: cached, or asked once for all who wait -> the same request again
//! ```
//!
//! # Invariants
//! A token is kept under host, realm, service and scopes, and sent for nothing else (NET-05).
//!
//! # Concurrency
//! Cheap to clone; the maps are behind one lock that is never held across an await. Whoever waits for a token drives its request, so
//! that one who goes away leaves nothing behind.
//!
//! # Sources
//! containerd `core/remotes/docker/authorizer.go`; spec registries.md rules 68 to 76.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use reqwest::Url;

use super::{
    super::{
        Error,
        host::{Host, Scheme, Tls},
    },
    Credential, Credentials, Redacted, Scope, Token, TokenRequest,
    challenge::{self, Challenge},
    realm,
    token::{Ask, basic},
};

/// A token is asked anew this long before it expires, or a quarter of its life if that is less: a request takes time too.
const MARGIN: Duration = Duration::from_secs(30);
/// Tokens kept; when full, the expired ones go, and then all.
const TOKENS: usize = 4096;
/// Scopes of one token; a registry that names more is an attack on its URL.
const SCOPES: usize = 64;
/// A new token for each refusal, but not without end: the second in a row is an answer.
const REFUSALS: u32 = 2;
/// The words of RFC 6750 that a message may repeat; any other may be our own secret, echoed.
const ERRORS: [&str; 3] = ["insufficient_scope", "invalid_token", "invalid_request"];

/// Proves who we are.
#[derive(Clone)]
pub struct Authorizer {
    credentials: Arc<dyn Credentials>,
    state: Arc<Mutex<State>>,
    /// Whether identity tokens are wanted as well.
    identity: bool,
    /// Whether no challenge is answered.
    silent: bool,
}

#[derive(Default)]
struct State {
    /// What each host has asked for.
    hosts: HashMap<HostKey, RequiredAuth>,
    tokens: HashMap<TokenKey, Cached>,
    flights: HashMap<TokenKey, Flight>,
    identity: Option<Redacted>,
}

type Flight = Shared<BoxFuture<'static, Result<Token, Error>>>;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct HostKey {
    scheme: Scheme,
    authority: String,
    /// A token that came over an unchecked connection is not sent over a checked one.
    tls: Tls,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct TokenKey {
    host: HostKey,
    realm: Url,
    service: String,
    /// Ours; a challenge's own come on top.
    scopes: Vec<String>,
}

#[derive(Clone)]
enum RequiredAuth {
    Basic(Redacted),
    Bearer { realm: Url, service: String, http: reqwest::Client },
}

struct Cached {
    /// The header's value.
    value: Redacted,
    /// When to ask for the next one, and when this one is worth nothing.
    refresh: Option<Instant>,
    expires: Option<Instant>,
    /// All scopes that it was asked for.
    scopes: Vec<String>,
    /// Whether it was refused: the next one is under way.
    refused: bool,
    /// How many tokens under this key were refused since a request began with one.
    refusals: u32,
}

impl fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorizer").field("credentials", &self.credentials).finish_non_exhaustive()
    }
}

impl Authorizer {
    /// One that knows what `credentials` knows.
    pub fn new(credentials: Arc<dyn Credentials>) -> Self {
        Self { credentials, state: Arc::default(), identity: false, silent: false }
    }

    /// One for a login: token servers are asked for an identity token too.
    pub fn for_login(credentials: Arc<dyn Credentials>) -> Self {
        Self { identity: true, ..Self::new(credentials) }
    }

    /// The identity token that a token server gave.
    pub fn identity_token(&self) -> Option<Redacted> {
        self.with(|state| state.identity.clone())
    }

    /// One that answers no challenge: for servers that are no registries.
    pub(in crate::registry) fn silent() -> Self {
        Self { silent: true, ..Self::new(Arc::new(super::Anonymous)) }
    }

    /// Whether challenges stay without an answer.
    pub(in crate::registry) fn is_silent(&self) -> bool {
        self.silent
    }

    /// The value to send with a request that begins now; `None` if the host has not asked, or no token can be had without its 401.
    pub async fn header(&self, host: &Host, scopes: &[Scope]) -> Result<Option<Redacted>, Error> {
        let host_key = host_key(host);
        let asked = self.with(|state| state.hosts.get(&host_key).cloned());
        let (realm, service, http) = match asked {
            None => return Ok(None),
            Some(RequiredAuth::Basic(value)) => return Ok(Some(value)),
            Some(RequiredAuth::Bearer { realm, service, http }) => (realm, service, http),
        };
        let key = TokenKey { host: host_key, realm, service, scopes: words(scopes) };
        let now = Instant::now();
        let (usable, wanted) = self.with(|state| match state.tokens.get_mut(&key) {
            Some(token) if token.is_fresh(now) => {
                token.refusals = 0;
                (Some(token.value.clone()), None)
            }
            Some(token) => {
                let alive = !token.refused && token.expires.is_none_or(|expires| now < expires);
                (alive.then(|| token.value.clone()), Some(token.scopes.clone()))
            }
            None => (None, Some(key.scopes.clone())),
        });
        let Some(wanted) = wanted else { return Ok(usable) };
        // If this fails the request goes out all the same: its 401 says what is wrong.
        Ok(self.token(&http, host, key, wanted).await.ok().or(usable))
    }

    /// The value to send again after a 401: `headers` are its WWW-Authenticate lines, `sent` the value that was refused.
    ///
    /// # Errors
    /// `Credentials` if there are none, or they are refused; the token server's own failures.
    pub async fn challenged(
        &self,
        http: &reqwest::Client,
        host: &Host,
        headers: &[String],
        scopes: &[Scope],
        sent: Option<&Redacted>,
    ) -> Result<Redacted, Error> {
        let refused = |reason: String| Error::Credentials { host: host.authority.clone(), reason };
        let challenges = challenge::parse(headers).map_err(|reason| refused(reason.to_owned()))?;
        let find = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme == scheme);
        if let Some(challenge) = find("bearer") {
            return self.bearer(http, host, challenge, scopes, sent).await;
        }
        if find("basic").is_some() {
            return self.basic(host, sent).await;
        }
        Err(refused(match challenges.first() {
            Some(other) => format!("it asks for {:?}, which is not offered", cut(&other.scheme)),
            None => "it refuses the request without saying what it asks for".to_owned(),
        }))
    }

    async fn basic(&self, host: &Host, sent: Option<&Redacted>) -> Result<Redacted, Error> {
        let refused =
            |reason: &str| Error::Credentials { host: host.authority.clone(), reason: reason.to_owned() };
        let value = match self.credentials.credential(&host.authority).await? {
            Credential::Basic { username, password } if !username.is_empty() && !password.0.is_empty() => {
                basic(&username, &password.0)
            }
            Credential::Bearer(token) => Redacted(format!("Bearer {}", token.0)),
            _ => return Err(refused("it asks for a name and a password, and there are none")),
        };
        if sent == Some(&value) {
            self.with(|state| state.hosts.remove(&host_key(host)));
            return Err(refused("it refuses the name and password"));
        }
        self.with(|state| state.hosts.insert(host_key(host), RequiredAuth::Basic(value.clone())));
        Ok(value)
    }

    async fn bearer(
        &self,
        http: &reqwest::Client,
        host: &Host,
        challenge: &Challenge,
        scopes: &[Scope],
        sent: Option<&Redacted>,
    ) -> Result<Redacted, Error> {
        let refused = |reason: String| Error::Credentials { host: host.authority.clone(), reason };
        let realm =
            challenge.parameter("realm").ok_or_else(|| refused("it names no token server".to_owned()))?;
        let realm = realm::check(host, realm).map_err(refused)?;
        let service = challenge.parameter("service").unwrap_or_default().to_owned();
        let scopes = words(scopes);
        let mut wanted = scopes.clone();
        wanted.extend(challenge.parameter("scope").unwrap_or_default().split_whitespace().map(str::to_owned));
        wanted.sort();
        wanted.dedup();
        if wanted.len() > SCOPES {
            return Err(refused("it names too many scopes".to_owned()));
        }
        let key = TokenKey { host: host_key(host), realm: realm.clone(), service: service.clone(), scopes };
        let said = challenge.parameter("error").filter(|said| ERRORS.contains(said));
        let said = said.map(|said| format!(": {said}")).unwrap_or_default();
        let ready = self.with(|state| {
            state.hosts.insert(key.host.clone(), RequiredAuth::Bearer { realm, service, http: http.clone() });
            let Some(token) = state.tokens.get_mut(&key) else { return Ok(None) };
            if sent == Some(&token.value) && !token.refused {
                token.refused = true;
                token.refusals += 1;
                if token.refusals >= REFUSALS {
                    state.tokens.remove(&key);
                    return Err(());
                }
                return Ok(None);
            }
            // Somebody else may have got one meanwhile.
            let enough = wanted.iter().all(|scope| token.scopes.contains(scope));
            Ok((token.is_fresh(Instant::now()) && enough).then(|| token.value.clone()))
        });
        let refuses_token = || refused(format!("it refuses the token of its token server{said}"));
        if let Some(value) = ready.map_err(|()| refuses_token())? {
            return Ok(value);
        }
        let value = self.token(http, host, key.clone(), wanted).await?;
        // A token that cannot change (a registry token of docker's configuration) was refused for good.
        if sent == Some(&value) { Err(refuses_token()) } else { Ok(value) }
    }

    /// Asks for a token, together with all who want the same one.
    async fn token(
        &self,
        http: &reqwest::Client,
        host: &Host,
        key: TokenKey,
        wanted: Vec<String>,
    ) -> Result<Redacted, Error> {
        let request = TokenRequest {
            host: host.authority.clone(),
            realm: key.realm.to_string(),
            service: key.service.clone(),
            scopes: wanted.clone(),
        };
        let ask = Ask { identity: self.identity, ..ask(http.clone(), host, key.realm.clone(), request) };
        // The flight's key has all scopes: who wants more does not wait for less.
        let flight_key = TokenKey { scopes: wanted.clone(), ..key.clone() };
        let credentials = Arc::clone(&self.credentials);
        let flight = self.with(|state| {
            let flight = || ask_for(credentials, ask).boxed().shared();
            state.flights.entry(flight_key.clone()).or_insert_with(flight).clone()
        });
        let answer = flight.clone().await;
        let value = answer.as_ref().map(|token| Redacted(format!("Bearer {}", token.token.0)));
        self.with(|state| {
            if state.flights.get(&flight_key).is_some_and(|other| other.ptr_eq(&flight)) {
                state.flights.remove(&flight_key);
            }
            if let (Ok(token), Ok(value)) = (&answer, &value) {
                state.keep(key, value.clone(), token.expires, wanted);
                state.identity = token.identity.clone().or(state.identity.take());
            }
        });
        value.map_err(Clone::clone)
    }

    /// Lets tokens age by `time`.
    #[cfg(test)]
    pub(super) fn age(&self, time: Duration) {
        self.with(|state| {
            for token in state.tokens.values_mut() {
                token.refresh = token.refresh.map(|at| at - time);
                token.expires = token.expires.map(|at| at - time);
            }
        });
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut State) -> T) -> T {
        // No code under the lock panics; what a panic would leave is whole maps.
        use_it(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Cached {
    fn is_fresh(&self, now: Instant) -> bool {
        !self.refused && self.refresh.is_none_or(|refresh| now < refresh)
    }
}

impl State {
    fn keep(&mut self, key: TokenKey, value: Redacted, expires: Option<Instant>, scopes: Vec<String>) {
        let now = Instant::now();
        if self.tokens.len() >= TOKENS && !self.tokens.contains_key(&key) {
            self.tokens.retain(|_, token| token.expires.is_some_and(|expires| now < expires));
            if self.tokens.len() >= TOKENS {
                self.tokens.clear();
            }
        }
        let refresh = expires.map(|expires| {
            let life = expires.saturating_duration_since(now);
            now + life.saturating_sub(MARGIN.min(life / 4))
        });
        let refusals = self.tokens.get(&key).map_or(0, |token| token.refusals);
        self.tokens.insert(key, Cached { value, refresh, expires, scopes, refused: false, refusals });
    }
}

fn ask(http: reqwest::Client, host: &Host, realm: Url, request: TokenRequest) -> Ask {
    let headers = host.headers.iter().map(|(name, value)| (name.clone(), Redacted(value.clone()))).collect();
    Ask { http, realm, request, headers, identity: false }
}

async fn ask_for(credentials: Arc<dyn Credentials>, ask: Ask) -> Result<Token, Error> {
    if let Some(token) = credentials.token(&ask.request).await? {
        return Ok(token);
    }
    let credential = credentials.credential(&ask.request.host).await?;
    send(ask, &credential).await
}

async fn send(ask: Ask, credential: &Credential) -> Result<Token, Error> {
    let answer = ask.send(credential).await;
    let Err(Error::Status { status: 401 | 403, .. }) = answer else { return answer };
    let server = realm::shown(&ask.realm);
    let reason = match credential {
        Credential::Anonymous => format!("its token server {server} wants to know who asks"),
        _ => format!("its token server {server} refuses them"),
    };
    Err(Error::Credentials { host: ask.request.host, reason })
}

/// Asks the token server of a request that somebody else was refused.
///
/// # Errors
/// `Address` if it may not be asked from here: whoever was refused may know the host better.
pub(in crate::registry) async fn ask_token(
    http: reqwest::Client,
    host: &Host,
    credential: &Credential,
    request: TokenRequest,
) -> Result<Token, Error> {
    let refused = |reason| Error::Address { text: host.authority.clone(), reason };
    if request.scopes.len() > SCOPES {
        return Err(refused("it names too many scopes".to_owned()));
    }
    let realm = realm::check(host, &request.realm).map_err(refused)?;
    send(ask(http, host, realm, request), credential).await
}

fn host_key(host: &Host) -> HostKey {
    HostKey { scheme: host.scheme, authority: host.authority.clone(), tls: host.tls.clone() }
}

fn words(scopes: &[Scope]) -> Vec<String> {
    let mut words: Vec<String> = scopes.iter().map(Scope::to_string).collect();
    words.sort();
    words.dedup();
    words
}

/// A server's word, as far as it is one.
fn cut(text: &str) -> String {
    const CHARACTERS: usize = 64;
    text.chars().filter(|c| c.is_ascii_alphanumeric() || "_- .".contains(*c)).take(CHARACTERS).collect()
}
