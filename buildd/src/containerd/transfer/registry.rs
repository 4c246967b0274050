//! Registry: pulls and pushes that a client asks the daemon for.
//!
//! The client names the reference and, if it must, a folder of hosts files, a scheme and a stream on which it answers for credentials.
//!
//! # Sources
//! containerd `core/transfer/registry`, `core/transfer/local`; spec containerd-api 1.3.

use std::{path::PathBuf, sync::Arc, time::Duration};

use buildd_api::containerd::containerd::types::transfer::{
    AuthRequest, AuthResponse, AuthType, ImageStore, OciRegistry, RegistryResolver, UnpackConfiguration,
};
use buildd_oci::{
    platform::Platform,
    reference::Reference,
    registry::{
        Error as RegistryError, Repository,
        auth::{Anonymous, Authorizer, Credential, Credentials, Redacted},
        hosts::HostOptions,
    },
};
use buildd_store::{
    snapshot::named::SNAPSHOTTERS,
    transfer::{
        copy::{self, Side},
        progress::Watch,
        pull::{self, PullRequest},
        push::{self, PushRequest},
    },
};
use tonic::Status;

use super::{
    super::{Services, convert, streaming::Stream},
    Report, platform,
};
use crate::status::Answer;

/// How long a client may take to answer for a credential: others may wait for the blobs that this transfer fetches.
const ANSWER: Duration = Duration::from_secs(60);

impl Services {
    /// Pulls what `from` names and saves it as `to` says.
    pub(super) async fn pull(
        &self,
        ns: String,
        from: OciRegistry,
        to: ImageStore,
        report: &Report,
    ) -> Result<(), Status> {
        let shown = shown(&from.reference);
        let (reference, repository) = self.repository(&ns, from).await?;
        let name = if to.name.is_empty() { reference.to_string() } else { to.name };
        let request = PullRequest {
            ns,
            name: name.clone(),
            platforms: to.platforms.iter().map(platform).collect(),
            all_metadata: to.all_metadata,
            unpacks: to.unpacks.into_iter().map(unpacking).collect(),
            labels: convert::labels(to.labels)?,
        };
        report.event(&format!("Resolving from {shown}"), "");
        let watch = Watch::default();
        let work = pull::pull(&self.store, &reference, &repository, request, &watch);
        report.follow(&watch, &name, work).await.or_status()?;
        report.event("saved", &name);
        report.event(&format!("Completed pull from {shown}"), "");
        Ok(())
    }

    /// Pushes the image that `from` names to `to`.
    pub(super) async fn push(
        &self,
        ns: String,
        from: ImageStore,
        to: OciRegistry,
        report: &Report,
    ) -> Result<(), Status> {
        let shown = shown(&to.reference);
        let (reference, repository) = self.repository(&ns, to).await?;
        let (owner, name) = (ns.clone(), from.name);
        let image = self.with_store(move |store| store.images.get(&owner, &name)).await?;
        let platforms = from.platforms.iter().map(platform).collect();
        let request = PushRequest { ns, target: image.target, platforms };
        report.event(&format!("Pushing to {shown}"), "");
        let watch = Watch::default();
        let work = push::push(&self.store, &reference, &repository, request, &watch);
        report.follow(&watch, &shown, work).await.or_status()?;
        report.event(&format!("Completed push to {shown}"), "");
        Ok(())
    }

    /// Copies between registries; containerd has no such transfer, ours is for `buildctl image cp`.
    pub(super) async fn copy(
        &self,
        ns: String,
        from: OciRegistry,
        to: OciRegistry,
        report: &Report,
    ) -> Result<(), Status> {
        let shown = format!("from {} to {}", shown(&from.reference), shown(&to.reference));
        let (reference, repository) = self.repository(&ns, from).await?;
        let from = Side { reference, repository };
        let (reference, repository) = self.repository(&ns, to).await?;
        let to = Side { reference, repository };
        let watch = Watch::default();
        report.follow(&watch, &shown, copy::copy(&from, &to, &watch)).await.or_status()?;
        report.event(&format!("Completed copy {shown}"), "");
        Ok(())
    }

    async fn repository(&self, ns: &str, named: OciRegistry) -> Result<(Reference, Repository), Status> {
        let resolver = named.resolver.unwrap_or_default();
        let reference = Reference::parse(&named.reference).or_status()?.with_default_tag();
        let credentials: Arc<dyn Credentials> = match resolver.auth_stream.is_empty() {
            true => Arc::new(Anonymous),
            false => Arc::new(Asked {
                stream: tokio::sync::Mutex::new(self.streams.take(ns, &resolver.auth_stream).await?),
                reference: reference.clone(),
                patience: ANSWER,
            }),
        };
        let authorizer = Authorizer::new(credentials);
        let repository =
            self.registries.repository(&reference, &options(resolver), authorizer).await.or_status()?;
        Ok((reference, repository))
    }
}

fn options(resolver: RegistryResolver) -> HostOptions {
    let some = |text: String| Some(text).filter(|text| !text.is_empty());
    HostOptions {
        default_scheme: some(resolver.default_scheme),
        host_dir: some(resolver.host_dir).map(PathBuf::from),
        headers: resolver.headers.into_iter().collect(),
        ..HostOptions::default()
    }
}

fn shown(reference: &str) -> String {
    format!("OCI Registry ({reference})")
}

fn unpacking(wanted: UnpackConfiguration) -> (Platform, String) {
    let platform = wanted.platform.as_ref().map_or_else(Platform::host, platform);
    let snapshotter =
        if wanted.snapshotter.is_empty() { SNAPSHOTTERS[0].to_owned() } else { wanted.snapshotter };
    (platform, snapshotter)
}

/// A client that is asked for credentials when a host wants some.
#[derive(Debug)]
struct Asked {
    stream: tokio::sync::Mutex<Stream>,
    reference: Reference,
    /// How long it may take to answer.
    patience: Duration,
}

#[async_trait::async_trait]
impl Credentials for Asked {
    async fn credential(&self, host: &str) -> Result<Credential, RegistryError> {
        // Clients answer with what belongs to the image's own registry, whoever is asked about: no mirror is.
        if !belongs(host, self.reference.domain()) {
            return Ok(Credential::Anonymous);
        }
        let fail = |reason: String| RegistryError::Credentials { host: host.to_owned(), reason };
        let request = AuthRequest {
            host: host.to_owned(),
            reference: self.reference.to_string(),
            wwwauthenticate: Vec::new(),
        };
        let asked = async {
            let mut stream = self.stream.lock().await;
            stream.send(&request).await;
            stream.receive().await
        };
        let answer = tokio::time::timeout(self.patience, asked).await;
        let answer =
            answer.map_err(|_| fail(format!("the client has not answered for {:?}", self.patience)))?;
        let answer: AuthResponse = answer
            .map_err(|status| fail(status.message().to_owned()))?
            .ok_or_else(|| fail("the client does not answer".to_owned()))?;
        let secret = Redacted(answer.secret);
        Ok(match AuthType::try_from(answer.auth_type).map_err(|error| fail(error.to_string()))? {
            AuthType::None => Credential::Anonymous,
            AuthType::Credentials => Credential::Basic { username: answer.username, password: secret },
            AuthType::Refresh => Credential::Refresh(secret),
            AuthType::Header => match secret.0.strip_prefix("Bearer ") {
                Some(token) => Credential::Bearer(Redacted(token.to_owned())),
                None => return Err(fail("the client gives a header that is no bearer token".to_owned())),
            },
        })
    }
}

/// Whether a host is the registry of a name, not a mirror of it.
fn belongs(host: &str, domain: &str) -> bool {
    let hub = ["docker.io", "index.docker.io", "registry-1.docker.io"];
    host == domain || (hub.contains(&host) && hub.contains(&domain))
}
