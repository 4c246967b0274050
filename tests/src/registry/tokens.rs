//! Tokens: who may do what: Basic authentication, and a token server with scopes.

use std::collections::HashMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use hyper::Response;
use serde_json::json;

use super::{Body, Seen, State, failure, query, reply};

/// A registry that wants tokens.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    /// The token server; empty: the registry's own `/token`.
    pub realm: String,
    /// Who gets tokens for uploads; nobody gets them if this is empty, and everybody may read.
    pub users: Vec<(String, String)>,
    /// The token server knows no POST.
    pub get_only: bool,
    /// Whoever logs in gets this identity token, if asked for, and may show it instead of a password.
    pub identity: Option<String>,
    /// `expires_in` of its tokens.
    pub expires_in: Option<i64>,
}

impl Tokens {
    fn realm(&self, state: &State) -> String {
        match self.realm.is_empty() {
            true => format!("{}/token", state.address),
            false => self.realm.clone(),
        }
    }
}

/// Tokens that were given out, and their scopes.
#[derive(Debug, Default)]
pub(super) struct Issued {
    scopes: HashMap<String, Vec<String>>,
    count: usize,
}

impl Issued {
    pub(super) fn expire(&mut self) {
        self.scopes.clear();
    }
}

/// The answer to a request that may not be made; `None`: it may.
pub(super) fn refusal(seen: &Seen, rest: &str, state: &State) -> Option<Response<Body>> {
    let sent = seen.header("authorization").unwrap_or_default();
    if let Some((user, password)) = &state.options.basic {
        let wanted = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        return (sent != wanted).then(|| challenge("Basic realm=\"test\"".to_owned()));
    }
    let tokens = state.options.tokens.as_ref()?;
    if rest.is_empty() {
        let known = sent.strip_prefix("Bearer ").is_some_and(|token| state.issued.scopes.contains_key(token));
        let asks = format!("Bearer realm=\"{}\",service=\"test-service\"", tokens.realm(state));
        return (!known).then(|| challenge(asks));
    }
    let repository = ["/manifests/", "/blobs/", "/referrers/", "/tags/"]
        .iter()
        .find_map(|part| rest.split_once(part))
        .map(|(repository, _)| repository)?;
    let writes = !matches!(seen.method.as_str(), "GET" | "HEAD") || rest.contains("/blobs/uploads/");
    let mut wanted = vec![format!("repository:{repository}:{}", if writes { "pull,push" } else { "pull" })];
    if let Some(from) = query(&seen.query, "from") {
        wanted.push(format!("repository:{from}:pull"));
    }
    let granted = sent.strip_prefix("Bearer ").and_then(|token| state.issued.scopes.get(token));
    let may = |scope: &String| {
        let base = scope.trim_end_matches(",push");
        granted.is_some_and(|granted| {
            granted.contains(scope) || (base == scope && granted.contains(&format!("{scope},push")))
        })
    };
    if wanted.iter().all(may) {
        return None;
    }
    let realm = tokens.realm(state);
    let error = if granted.is_some() { ",error=\"insufficient_scope\"" } else { "" };
    let scope = wanted.join(" ");
    Some(challenge(format!("Bearer realm=\"{realm}\",service=\"test-service\",scope=\"{scope}\"{error}")))
}

fn challenge(text: String) -> Response<Body> {
    let body = json!({ "errors": [{ "code": "UNAUTHORIZED", "message": "authentication required" }] });
    reply(401, &[("www-authenticate", text)], body.to_string())
}

/// Answers a question for a token.
pub(super) fn issue(seen: &Seen, body: &Bytes, state: &mut State) -> Response<Body> {
    let tokens = state.options.tokens.clone().unwrap_or_default();
    let form = String::from_utf8_lossy(body).into_owned();
    let posted = seen.method == "POST";
    if posted && tokens.get_only {
        return failure(405, "UNSUPPORTED");
    }
    let asked = if posted { &form } else { &seen.query };
    let user = match posted {
        true => query(asked, "username").zip(query(asked, "password")),
        false => basic(seen),
    };
    let shown = query(asked, "refresh_token").filter(|_| posted);
    let known = user.as_ref().is_some_and(|user| tokens.users.contains(user))
        || (shown.is_some() && shown == tokens.identity);
    if (user.is_some() || shown.is_some()) && !known {
        return failure(401, "UNAUTHORIZED");
    }
    let values = asked.split('&').filter_map(|pair| pair.strip_prefix("scope="));
    let scopes = values.flat_map(|value| {
        let value = super::decode(value);
        value.split(' ').map(str::to_owned).collect::<Vec<_>>()
    });
    let scopes: Vec<String> = scopes.filter(|scope| known || !scope.contains("push")).collect();
    state.issued.count += 1;
    let token = format!("token-{}", state.issued.count);
    state.issued.scopes.insert(token.clone(), scopes);
    let mut answer = json!({ "token": token });
    let wanted = query(asked, "access_type").or(query(asked, "offline_token")).is_some();
    if let (Some(identity), true, true) = (tokens.identity, wanted, known) {
        answer["refresh_token"] = json!(identity);
    }
    if let Some(expires) = tokens.expires_in {
        answer["expires_in"] = json!(expires);
    }
    reply(200, &[("content-type", "application/json".to_owned())], answer.to_string())
}

fn basic(seen: &Seen) -> Option<(String, String)> {
    let text = seen.header("authorization")?.strip_prefix("Basic ")?;
    let text = String::from_utf8(STANDARD.decode(text).ok()?).ok()?;
    text.split_once(':').map(|(user, password)| (user.to_owned(), password.to_owned()))
}
