//! Transport: one request to one host, with everything that HTTP and the network put between.
//!
//! `resolve`, `fetch`, `push` and `referrers` say what to send; here it is signed, sent, redirected, challenged, sent again
//! when the failure may pass, and given up when it does not.
//!
//! # Invariants
//! Credentials, extra headers and client certificates go to the host's own origin and never along a redirect.
//! Each wait has an end: connecting, the answer's header, silence while reading or sending, all attempts together.
//!
//! # Errors
//! `Request`: no usable answer came. Any answer, whatever its status, is an `Answer`; its caller knows which ones are good.

mod address;
mod body;
mod clients;
mod failure;
mod location;
mod payload;
mod retry;
mod tls;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use reqwest::{
    Method, Url,
    header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue},
};

use tokio::sync::Semaphore;

pub(crate) use address::{Reach, is_loopback};
pub(crate) use body::Answer;
pub(crate) use failure::hint;
pub(crate) use location::{endpoint, follow, next_page, shown, stranger};
pub(crate) use payload::{Failed, Payload};
pub(crate) use retry::{Backoff, Patience, is_transient, retry_after};

use self::{
    clients::{Clients, Target},
    location::Hop,
};
use super::{
    auth::{Anonymous, Authorizer, Redacted, Scope},
    error::Error,
    host::{Host, Scheme, Tls},
};

/// Rule 67.
const MAX_REDIRECTS: usize = 10;
/// Challenges of one attempt that are answered: a token may be refused once, and its successor need more scopes.
const MAX_CHALLENGES: usize = 4;

/// How long what may take.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// From the request to its answer's header.
    pub answer: Duration,
    /// From the last byte of an upload to the answer: the registry may have to move it.
    pub upload_answer: Duration,
    /// Without a byte, while reading or sending.
    pub silence: Duration,
    /// Time of waiting after which a body's pace is looked at.
    pub drip_window: Duration,
    /// What must have come in it: a host that sends a byte a second keeps nobody (F-32).
    pub drip_bytes: u64,
    /// For the first 8 MiB of a large blob: if they take longer, the rest comes over several connections.
    pub slow_part: Duration,
    /// The wait after a first failure; each further one is twice as long.
    pub backoff: Duration,
    /// All attempts of one request together: an outage of this length fails no push.
    pub patience: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(30),
            upload_answer: Duration::from_secs(300),
            silence: Duration::from_secs(30),
            drip_window: Duration::from_secs(30),
            drip_bytes: 30 << 10,
            // 80 MB a second: a gigabit line is full with one connection.
            slow_part: Duration::from_millis(100),
            backoff: Duration::from_millis(250),
            patience: Duration::from_secs(300),
        }
    }
}

/// What all repositories of a daemon share.
#[derive(Debug)]
pub(crate) struct Transport {
    clients: Clients,
    pub(crate) timeouts: Timeouts,
    /// Blobs that come in parts at once.
    pub(crate) parallel: Arc<Semaphore>,
}

impl Transport {
    pub(crate) fn new(timeouts: Timeouts) -> Self {
        Self { clients: Clients::default(), timeouts, parallel: Arc::new(Semaphore::new(1)) }
    }
}

/// One request, which may be sent several times.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: Vec<(HeaderName, String)>,
    pub(crate) payload: Payload<'a>,
    pub(crate) scopes: Vec<Scope>,
    pub(crate) patience: Patience,
}

/// One host, as one repository speaks to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer<'a> {
    pub(crate) transport: &'a Transport,
    pub(crate) host: &'a Host,
    pub(crate) authorizer: &'a Authorizer,
    /// How far away it must be at least.
    pub(crate) floor: Reach,
}

impl Peer<'_> {
    /// Sends `call` until an answer comes that is no passing failure, or patience ends; then the last answer counts.
    pub(crate) async fn send(&self, call: &Call<'_>) -> Result<Answer, Error> {
        let mut backoff = Backoff::new(call.patience, self.transport.timeouts.backoff);
        loop {
            let outcome = self.follow(call).await;
            let wait = match &outcome {
                Ok(answer) if retry::is_transient(answer.status()) => {
                    backoff.after(retry::retry_after(answer.headers(), SystemTime::now()))
                }
                Err(error) => match failure::class(error) {
                    failure::Class::Passing => backoff.after(None),
                    failure::Class::Unreachable
                        if self.transport.clients.has_answered(&self.host.authority) =>
                    {
                        backoff.after(None)
                    }
                    failure::Class::Unreachable => backoff.after_refused(),
                    failure::Class::Lasting | failure::Class::NoTls => None,
                },
                Ok(_) => None,
            };
            let Some(wait) = wait else { return outcome };
            tracing::debug!(host = self.host.authority, ?wait, "a request is sent again");
            tokio::time::sleep(wait).await;
        }
    }

    /// The host's own address, as it is spoken to now.
    pub(crate) fn home(&self) -> Result<Url, Error> {
        let plain = match self.host.scheme {
            Scheme::Http => true,
            Scheme::Https => false,
            Scheme::HttpsOrHttp => self.transport.clients.is_plain(&self.host.authority),
        };
        let text = format!("{}://{}/", if plain { "http" } else { "https" }, self.host.authority);
        Url::parse(&text).map_err(|error| Error::Protocol {
            method: "prepare".to_owned(),
            url: text,
            reason: format!("it is no URL: {error}"),
        })
    }

    /// The connections to the host, which its token server is asked over too (rule 32).
    pub(crate) async fn client(&self) -> Result<reqwest::Client, Error> {
        let home = self.home()?;
        self.transport.clients.of(&self.target(&home, true, &home)).await
    }

    /// One attempt, along redirects and with the answer to one challenge.
    async fn follow(&self, call: &Call<'_>) -> Result<Answer, Error> {
        let mut home = self.home()?;
        let mut hop = Hop { url: call.url.clone(), same: false };
        let moved = self.host.scheme == Scheme::HttpsOrHttp && home.scheme() == "http";
        if moved && hop.url.host() == home.host() && hop.url.port() == home.port() {
            let _ = hop.url.set_scheme("http");
        }
        hop.same = hop.url.origin() == home.origin();
        let mut authorization = self.authorization(call, &hop).await?;
        let (mut hops, mut challenges) = (0, 0);
        loop {
            let answer = match self.attempt(call, &home, &hop, authorization.as_ref()).await {
                Err(error) if hop.same && self.speaks_plain(&home, &error) => {
                    self.transport.clients.set_plain(&self.host.authority);
                    home = self.home()?;
                    let _ = hop.url.set_scheme("http");
                    continue;
                }
                answer => answer?,
            };
            if answer.status() == 401 && challenges < MAX_CHALLENGES && !self.authorizer.is_silent() {
                challenges += 1;
                let proof = self.answer_challenge(call, &answer, hop.same, authorization.as_ref()).await;
                authorization = match proof {
                    Ok(proof) => Some(proof),
                    // Who was sent nothing can echo no secret: his words may be told.
                    Err(error) if authorization.is_none() => {
                        return Err(self.explain(call, &home, &hop, answer, error).await);
                    }
                    Err(error) => return Err(error),
                };
                continue;
            }
            let Some(location) = redirect(&call.method, &answer)? else { return Ok(answer) };
            hops += 1;
            if hops > MAX_REDIRECTS {
                return Err(answer.protocol(format!("more than {MAX_REDIRECTS} redirects")));
            }
            hop = location::follow(&home, &hop.url, &location).map_err(|reason| answer.protocol(reason))?;
            authorization = self.authorization(call, &hop).await?;
        }
    }

    /// What is known to be wanted, by the host itself.
    async fn authorization(&self, call: &Call<'_>, hop: &Hop) -> Result<Option<Redacted>, Error> {
        if hop.same { self.authorizer.header(self.host, &call.scopes).await } else { Ok(None) }
    }

    /// The answer to a 401. Where a redirect led we are nobody, and get what a token server gives to nobody (rule 67).
    async fn answer_challenge(
        &self,
        call: &Call<'_>,
        answer: &Answer,
        same: bool,
        sent: Option<&Redacted>,
    ) -> Result<Redacted, Error> {
        let client = self.transport.clients.of(&self.target(answer.url(), same, &self.home()?)).await?;
        let challenges = answer.lines("www-authenticate");
        if same {
            return self.authorizer.challenged(&client, self.host, &challenges, &call.scopes, sent).await;
        }
        let nobody = Authorizer::new(Arc::new(Anonymous));
        nobody.challenged(&client, &location::stranger(answer.url()), &challenges, &[], sent).await
    }

    /// Credentials that a host wanted and we have not, in its own words too; a HEAD's answer has none, so it is asked for them.
    async fn explain(&self, call: &Call<'_>, home: &Url, hop: &Hop, answer: Answer, error: Error) -> Error {
        if call.method != Method::HEAD {
            return answer.explain(error).await;
        }
        let asks = Call {
            method: Method::GET,
            url: hop.url.clone(),
            headers: call.headers.clone(),
            payload: Payload::None,
            scopes: Vec::new(),
            patience: call.patience,
        };
        match self.attempt(&asks, home, hop, None).await {
            Ok(answer) => answer.explain(error).await,
            Err(_) => error,
        }
    }

    /// Whether a host that may speak TLS just showed that it does not (rule 46).
    fn speaks_plain(&self, home: &Url, error: &Error) -> bool {
        self.host.scheme == Scheme::HttpsOrHttp
            && home.scheme() == "https"
            && match failure::class(error) {
                failure::Class::NoTls => true,
                failure::Class::Unreachable => home.port().is_none(),
                failure::Class::Passing | failure::Class::Lasting => false,
            }
    }

    fn target(&self, url: &Url, same: bool, home: &Url) -> Target {
        let tls = match same {
            true => self.host.tls.clone(),
            // Rule 67 and NET-09: a redirect's end may be known to the same authority, but is not excused from being known.
            false => Tls { ca: self.host.tls.ca.clone(), ..Tls::default() },
        };
        Target::of(url, tls, self.host.dial_timeout, self.floor.max(location::reach(home, url)))
    }

    async fn attempt(
        &self,
        call: &Call<'_>,
        home: &Url,
        hop: &Hop,
        authorization: Option<&Redacted>,
    ) -> Result<Answer, Error> {
        let timeouts = self.transport.timeouts;
        let target = self.target(&hop.url, hop.same, home);
        if !target.reach.allows_host(&target.host) {
            return Err(Error::Protocol {
                method: call.method.to_string(),
                url: location::shown(&hop.url),
                reason: format!("{} is an address that no registry may have", target.host),
            });
        }
        let client = self.transport.clients.of(&target).await?;
        let mut request = reqwest::Request::new(call.method.clone(), hop.url.clone());
        *request.headers_mut() = self.headers(call, hop.same, authorization)?;
        let sending = call.payload.attach(&mut request).await?;
        let failed = |source| Error::Request {
            method: call.method.to_string(),
            url: location::shown(&hop.url),
            source,
        };
        let outcome = sending.run(client.execute(request), &timeouts).await;
        let response = match outcome {
            Ok(response) => response,
            Err(Failed::Source(error)) => return Err(error),
            Err(Failed::Network(source)) => return Err(failed(source)),
        };
        self.transport.clients.set_answered(&self.host.authority);
        let answer = Answer::new(response, call.method.as_str(), hop.url.clone(), timeouts);
        for warning in answer.lines("warning").iter().filter(|line| line.starts_with("299 ")).take(3) {
            tracing::warn!(
                host = self.host.authority,
                warning = warning.chars().take(300).collect::<String>()
            );
        }
        Ok(answer)
    }

    fn headers(
        &self,
        call: &Call<'_>,
        same: bool,
        authorization: Option<&Redacted>,
    ) -> Result<HeaderMap, Error> {
        let bad = |name: &str| Error::Protocol {
            method: call.method.to_string(),
            url: location::shown(&call.url),
            reason: format!("the header {name} cannot be sent"),
        };
        let mut headers = HeaderMap::new();
        if same {
            for (name, value) in &self.host.headers {
                let value = HeaderValue::from_str(value).map_err(|_| bad(name))?;
                headers.append(name.parse::<HeaderName>().map_err(|_| bad(name))?, value);
            }
        }
        for (name, value) in &call.headers {
            headers.insert(name, HeaderValue::from_str(value).map_err(|_| bad(name.as_str()))?);
        }
        if let Some(Redacted(text)) = authorization {
            let mut value = HeaderValue::from_str(text).map_err(|_| bad("Authorization"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        Ok(headers)
    }
}

/// Whether a failure without an answer may be gone the next time.
pub(crate) fn is_passing(error: &Error) -> bool {
    matches!(failure::class(error), failure::Class::Passing | failure::Class::Unreachable)
}

/// Where an answer redirects a request of this method, if it does.
fn redirect(method: &Method, answer: &Answer) -> Result<Option<String>, Error> {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    match answer.status() {
        301..=303 if !reads => {
            Err(answer.protocol(format!("redirects a {method} in a way that loses its body")))
        }
        301..=303 | 307 | 308 => match answer.header("location") {
            Some(location) => Ok(Some(location.to_owned())),
            None => Err(answer.protocol("redirects to nowhere")),
        },
        _ => Ok(None),
    }
}
