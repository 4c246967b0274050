//! Base: the images that builds stand on, from our own store first, else from a registry.
//!
//! A frontend asks for the config of one; later the image source asks for its layers. What a build brought gets the image's name, as a pull
//! by hand would give it, so that the next build asks nobody.
//!
//! # Errors
//! `NotFound` if neither the store nor a registry has it; a registry that cannot be reached says so.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use buildd_oci::{
    platform::Platform,
    reference::Reference,
    registry::{
        auth::{Anonymous, Authorizer},
        hosts::HostOptions,
    },
};
use buildd_solver::progress::VertexProgress;
use buildd_store::{
    Error as StoreError,
    label::Labels,
    snapshot::{SnapshotPin, named::SNAPSHOTTERS},
    transfer::{
        progress::Watch,
        pull::{self, PullRequest},
        unpack::{self, FoundImage},
    },
};

use crate::{
    error::{Error, Result},
    worker::Worker,
};

/// Between two looks at how far a pull is.
const LOOK: Duration = Duration::from_millis(100);

/// Where an image may come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResolveMode {
    /// Our store, else a registry.
    #[default]
    Default,
    /// A registry, whatever the store has.
    Pull,
    /// Our store alone.
    Local,
}

impl ResolveMode {
    /// Reads `default`, `pull`, `local` or nothing.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "default" => Some(Self::Default),
            "pull" => Some(Self::Pull),
            "local" => Some(Self::Local),
            _ => None,
        }
    }
}

impl Worker {
    /// The documents of a base; its layers need not be here yet.
    pub async fn resolve_base(
        self: &Arc<Self>,
        reference: &Reference,
        platform: &Platform,
        mode: ResolveMode,
        sessions: &[String],
    ) -> Result<FoundImage> {
        if mode != ResolveMode::Pull {
            let (worker, name, wanted) = (Arc::clone(self), reference.to_string(), platform.clone());
            let found = buildd_fs::blocking::run(move || worker.find_image(&name, &wanted)).await;
            match found {
                Err(Error::Store(StoreError::NotFound { .. } | StoreError::Image(_)))
                    if mode == ResolveMode::Default => {}
                found => return found,
            }
        }
        self.fetch_base(reference, platform, sessions)
            .await
            .map_err(|error| Error::NoBase { name: reference.to_string(), source: Box::new(error) })
    }

    async fn fetch_base(
        &self,
        reference: &Reference,
        platform: &Platform,
        sessions: &[String],
    ) -> Result<FoundImage> {
        let authorizer = self.authorizer(sessions).await;
        let repository = self.registries.repository(reference, &HostOptions::default(), authorizer).await?;
        let watch = Watch::default();
        Ok(pull::metadata(&self.store, reference, &repository, &self.namespace, platform, &watch).await?)
    }

    /// The layers of a base that `resolve_base` found, stacked.
    pub(crate) async fn obtain_base(
        self: &Arc<Self>,
        reference: &Reference,
        platform: &Platform,
        found: FoundImage,
        sessions: &[String],
        progress: &VertexProgress,
    ) -> Result<Option<SnapshotPin>> {
        let (worker, local) = (Arc::clone(self), found.clone());
        let unpack = move || unpack::unpack(&worker.store, &worker.namespace, &local);
        match buildd_fs::blocking::run(unpack).await {
            Err(StoreError::Image(buildd_oci::Error::BlobNotFound { .. })) => {}
            done => return Ok(done?),
        }
        let pinned = reference.clone().with_digest(found.target);
        let authorizer = self.authorizer(sessions).await;
        let repository = self.registries.repository(&pinned, &HostOptions::default(), authorizer).await?;
        let request = PullRequest {
            ns: self.namespace.clone(),
            name: pinned.store_name(),
            platforms: vec![platform.clone()],
            all_metadata: false,
            unpacks: vec![(platform.clone(), SNAPSHOTTERS[0].to_owned())],
            labels: Labels::new(),
        };
        let watch = Watch::default();
        let pulled = pull::pull(&self.store, &pinned, &repository, request, &watch);
        // An image without layers is unpacked to none.
        Ok(show(&watch, progress, pulled).await?.unpacked.remove(&found.manifest_digest))
    }

    async fn authorizer(&self, sessions: &[String]) -> Authorizer {
        let nobody = || Authorizer::new(Arc::new(Anonymous));
        if sessions.is_empty() {
            return nobody();
        }
        // A build whose client is gone ends by itself.
        self.sessions.any(sessions).await.map_or_else(|_| nobody(), |session| session.authorizer())
    }
}

/// Shows how far the parts of a pull are as counters of a vertex.
async fn show<T, E>(
    watch: &Watch,
    progress: &VertexProgress,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let started = SystemTime::now();
    let tell = || {
        for part in watch.parts() {
            let phase = part.phase();
            let completed = phase.is_end().then(SystemTime::now);
            let id = format!("{} {}", phase.word(), part.descriptor.digest);
            progress.status(&id, part.done(), part.descriptor.size, started, completed);
        }
    };
    let mut look = tokio::time::interval(LOOK);
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => {
                tell();
                return done;
            }
            _ = look.tick() => tell(),
        }
    }
}
