//! Auth: credentials that a client has for registries, asked for over its session when a host wants some.
//!
//! A client that fetches tokens itself is asked for a token, so that its passwords stay with it; else for the credentials.
//!
//! # Sources
//! buildkit `session/auth`; spec buildkit-api.md.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use buildd_api::buildkit::moby::filesync::v1::{
    CredentialsRequest, FetchTokenRequest, auth_client::AuthClient,
};
use buildd_oci::registry::{
    Error,
    auth::{Credential, Credentials, Redacted, Token, TokenRequest},
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, transport::Channel};

use super::supports;

/// What we call ourselves to token servers.
const CLIENT: &str = "buildkit-client";
/// How long a token holds if the client does not say; the least that the token specification allows.
const TOKEN_LIFE: u64 = 60;

/// The credentials of a session's client.
#[derive(Debug)]
pub(super) struct ClientCredentials {
    pub(super) methods: Arc<BTreeSet<String>>,
    pub(super) channel: Channel,
    pub(super) gone: CancellationToken,
}

impl ClientCredentials {
    async fn ask<T>(
        &self,
        host: &str,
        call: impl Future<Output = Result<T, tonic::Status>>,
    ) -> Result<Option<T>, Error> {
        let fail = |reason: String| Error::Credentials { host: host.to_owned(), reason };
        tokio::select! {
            answer = call => match answer {
                Ok(answer) => Ok(Some(answer)),
                Err(status) if matches!(status.code(), Code::Unimplemented | Code::Unavailable) => Ok(None),
                Err(status) => Err(fail(format!("the client refuses: {}", status.message()))),
            },
            () = self.gone.cancelled() => Err(fail("the client's session has ended".to_owned())),
        }
    }
}

#[async_trait]
impl Credentials for ClientCredentials {
    async fn credential(&self, host: &str) -> Result<Credential, Error> {
        if !supports(&self.methods, "/moby.filesync.v1.Auth/Credentials") {
            return Ok(Credential::Anonymous);
        }
        let mut client = AuthClient::new(self.channel.clone());
        let request = CredentialsRequest { host: host.to_owned() };
        let answer = self.ask(host, async { Ok(client.credentials(request).await?.into_inner()) }).await?;
        let Some(answer) = answer else { return Ok(Credential::Anonymous) };
        let secret = Redacted(answer.secret);
        Ok(match (answer.username.is_empty(), secret.0.is_empty()) {
            (true, true) => Credential::Anonymous,
            (true, false) => Credential::Refresh(secret),
            (false, _) => Credential::Basic { username: answer.username, password: secret },
        })
    }

    async fn token(&self, request: &TokenRequest) -> Result<Option<Token>, Error> {
        if !supports(&self.methods, "/moby.filesync.v1.Auth/FetchToken") {
            return Ok(None);
        }
        let mut client = AuthClient::new(self.channel.clone());
        let wanted = FetchTokenRequest {
            client_id: CLIENT.to_owned(),
            host: request.host.clone(),
            realm: request.realm.clone(),
            service: request.service.clone(),
            scopes: request.scopes.clone(),
        };
        let answer = async { Ok(client.fetch_token(wanted).await?.into_inner()) };
        let Some(answer) = self.ask(&request.host, answer).await? else { return Ok(None) };
        if answer.token.is_empty() {
            return Ok(None);
        }
        let life = u64::try_from(answer.expires_in).ok().filter(|seconds| *seconds > 0).unwrap_or(TOKEN_LIFE);
        let expires = Instant::now().checked_add(Duration::from_secs(life));
        Ok(Some(Token { token: Redacted(answer.token), expires, identity: None }))
    }
}
