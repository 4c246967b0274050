//! Auth: what this user's logins are worth, handed to the daemon host by host.
//!
//! A daemon that knows token authorities gets tokens, and never sees a password; another one gets name and password. The logins are read
//! anew for each question, so that a login during a build counts.
//!
//! # Sources
//! moby/buildkit `session/auth/authprovider`; spec buildkit-api.md, "Auth".

use std::{
    path::PathBuf,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use buildd_api::buildkit::moby::filesync::v1::{
    CredentialsRequest, CredentialsResponse, FetchTokenRequest, FetchTokenResponse, GetTokenAuthorityRequest,
    GetTokenAuthorityResponse, VerifyTokenAuthorityRequest, VerifyTokenAuthorityResponse, auth_server::Auth,
};
use buildd_oci::{
    ErrorKind,
    registry::{
        Error, Registry,
        auth::{Credential, Redacted, Token, TokenRequest},
        docker_config::DockerConfig,
        hosts::HostOptions,
    },
};
use tonic::{Request, Response, Status};

use super::authority::Authority;
use crate::credentials;

/// What a token holds whose server does not say it, in seconds (distribution's token specification).
const USUAL_LIFE: u64 = 60;

/// Answers the daemon.
#[derive(Debug)]
pub(super) struct AuthService {
    /// docker's folder; without one nobody is logged in.
    folder: Option<PathBuf>,
    authority: Authority,
    registry: Registry,
}

impl AuthService {
    /// The logins of whoever runs us.
    pub(super) fn of_this_user() -> Self {
        Self::of(credentials::folder().ok())
    }

    /// The logins kept in a folder.
    pub(super) fn of(folder: Option<PathBuf>) -> Self {
        let authority = Authority::new(folder.clone());
        Self { folder, authority, registry: Registry::with_timeouts(Default::default()) }
    }

    async fn find(&self, host: &str) -> Result<Credential, Status> {
        let Some(folder) = &self.folder else { return Ok(Credential::Anonymous) };
        let config = DockerConfig::read(&folder.join("config.json")).map_err(told)?;
        config.find(host).await.map_err(told)
    }

    async fn token(&self, request: FetchTokenRequest) -> Result<Token, Status> {
        let credential = self.find(&request.host).await?;
        if let Credential::Bearer(token) = credential {
            return Ok(Token { token, expires: None, identity: None });
        }
        let options = HostOptions::default();
        let host = credentials::host(&request.host, &options)
            .map_err(|error| Status::unavailable(format!("{error:#}")))?;
        let FetchTokenRequest { host: name, realm, service, scopes, .. } = request;
        let request = TokenRequest { host: name, realm, service, scopes };
        self.registry.token(&host, &credential, request).await.map_err(told)
    }
}

#[tonic::async_trait]
impl Auth for AuthService {
    async fn credentials(
        &self,
        request: Request<CredentialsRequest>,
    ) -> Result<Response<CredentialsResponse>, Status> {
        // Compat: no credentials is an empty answer, not an error; an identity token has no name.
        let (username, secret) = match self.find(&request.into_inner().host).await? {
            Credential::Basic { username, password } => (username, password.0),
            Credential::Refresh(Redacted(token)) => (String::new(), token),
            Credential::Anonymous | Credential::Bearer(_) => Default::default(),
        };
        Ok(Response::new(CredentialsResponse { username, secret }))
    }

    async fn fetch_token(
        &self,
        request: Request<FetchTokenRequest>,
    ) -> Result<Response<FetchTokenResponse>, Status> {
        let token = self.token(request.into_inner()).await?;
        let life = token.expires.map_or(USUAL_LIFE, |expires| (expires - Instant::now()).as_secs());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        Ok(Response::new(FetchTokenResponse {
            token: token.token.0,
            expires_in: life.cast_signed(),
            issued_at: now.cast_signed(),
        }))
    }

    async fn get_token_authority(
        &self,
        request: Request<GetTokenAuthorityRequest>,
    ) -> Result<Response<GetTokenAuthorityResponse>, Status> {
        let GetTokenAuthorityRequest { host, salt } = request.into_inner();
        let key = self.authority.key(&host, &salt, &self.find(&host).await?)?;
        Ok(Response::new(GetTokenAuthorityResponse { public_key: key.public() }))
    }

    async fn verify_token_authority(
        &self,
        request: Request<VerifyTokenAuthorityRequest>,
    ) -> Result<Response<VerifyTokenAuthorityResponse>, Status> {
        let VerifyTokenAuthorityRequest { host, payload, salt } = request.into_inner();
        let key = self.authority.key(&host, &salt, &self.find(&host).await?)?;
        Ok(Response::new(VerifyTokenAuthorityResponse { signed: key.sign(&payload) }))
    }
}

/// An error in the daemon's terms. Where we cannot ask the token server, the daemon may be able to.
fn told(error: Error) -> Status {
    let text = format!("{:#}", anyhow::Error::new(error.clone()));
    match error.kind() {
        _ if matches!(error, Error::Address { .. }) => Status::unavailable(text),
        ErrorKind::InvalidArgument => Status::failed_precondition(text),
        ErrorKind::Unauthenticated => Status::unauthenticated(text),
        _ => Status::unavailable(text),
    }
}

#[cfg(test)]
mod tests;
