//! Auth: credentials for registries out of docker's configuration file, handed to the daemon host by host.

use std::{collections::BTreeMap, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use buildd_api::buildkit::moby::filesync::v1::{
    CredentialsRequest, CredentialsResponse, FetchTokenRequest, FetchTokenResponse, GetTokenAuthorityRequest,
    GetTokenAuthorityResponse, VerifyTokenAuthorityRequest, VerifyTokenAuthorityResponse, auth_server::Auth,
};
use serde::Deserialize;
use tonic::{Request, Response, Status};

/// The key under which docker's configuration keeps the default registry, and the host that asks for it.
const DEFAULT_KEY: &str = "https://index.docker.io/v1/";
const DEFAULT_HOST: &str = "registry-1.docker.io";

#[derive(Debug, Default, Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, AuthEntry>,
}

#[derive(Debug, Default, Deserialize)]
struct AuthEntry {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    identitytoken: String,
}

impl AuthEntry {
    fn credentials(&self) -> Option<CredentialsResponse> {
        if !self.identitytoken.is_empty() {
            return Some(CredentialsResponse { username: String::new(), secret: self.identitytoken.clone() });
        }
        if !self.username.is_empty() {
            return Some(CredentialsResponse {
                username: self.username.clone(),
                secret: self.password.clone(),
            });
        }
        let pair = String::from_utf8(STANDARD.decode(self.auth.trim()).ok()?).ok()?;
        let (username, secret) = pair.split_once(':')?;
        Some(CredentialsResponse {
            username: username.to_owned(),
            secret: secret.trim_end_matches('\0').to_owned(),
        })
    }
}

/// Answers the daemon.
#[derive(Debug)]
pub(super) struct AuthService {
    config: DockerConfig,
}

impl AuthService {
    /// Reads `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`; without one there are no credentials.
    pub(super) fn from_docker_config() -> Self {
        let dir = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker"));
        let text = dir.or_else(home).and_then(|dir| std::fs::read(dir.join("config.json")).ok());
        let config = text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        Self { config }
    }

    fn find(&self, host: &str) -> Option<CredentialsResponse> {
        let key = if host == DEFAULT_HOST { DEFAULT_KEY } else { host };
        let spellings = [key.to_owned(), format!("https://{key}"), format!("https://{key}/v1/")];
        spellings.iter().find_map(|key| self.config.auths.get(key)).and_then(AuthEntry::credentials)
    }
}

#[tonic::async_trait]
impl Auth for AuthService {
    async fn credentials(
        &self,
        request: Request<CredentialsRequest>,
    ) -> Result<Response<CredentialsResponse>, Status> {
        // Compat: no credentials is an empty answer, not an error (moby/buildkit session/auth/authprovider).
        Ok(Response::new(self.find(&request.into_inner().host).unwrap_or_default()))
    }

    async fn fetch_token(
        &self,
        _: Request<FetchTokenRequest>,
    ) -> Result<Response<FetchTokenResponse>, Status> {
        Err(Status::unimplemented("buildctl hands out credentials, not tokens"))
    }

    async fn get_token_authority(
        &self,
        _: Request<GetTokenAuthorityRequest>,
    ) -> Result<Response<GetTokenAuthorityResponse>, Status> {
        Err(Status::unavailable("buildctl hands out credentials, not tokens"))
    }

    async fn verify_token_authority(
        &self,
        _: Request<VerifyTokenAuthorityRequest>,
    ) -> Result<Response<VerifyTokenAuthorityResponse>, Status> {
        Err(Status::unavailable("buildctl hands out credentials, not tokens"))
    }
}
