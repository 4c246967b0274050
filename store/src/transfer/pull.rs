//! Pull: an image from a registry into the store, as one pipeline.
//!
//! Transfers and builds come here with a repository that knows its hosts. Documents come first, then all layers at once: each is
//! hashed, decompressed, hashed again as diff_id and unpacked while its bytes come, and stacked when those below it are there. The name is last.
//!
//! # Invariants
//! Nothing is named before it is whole, verified and durable. What was written is leased until a name keeps it.
//!
//! # Concurrency
//! One pull at a time works on a blob (`DigestLocks`); the others find it done. A pull that is dropped leaves partial ingests, which the next one
//! goes on with.
//!
//! # Sources
//! containerd `core/transfer/local/pull.go`; spec registries.md 53-65.

mod documents;
mod layer;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use buildd_oci::{
    config::ImageConfig, descriptor::Descriptor, digest::Digest, manifest::Manifest, media_type,
    platform::Platform, reference::Reference, registry::Repository,
};
use futures::{StreamExt as _, TryStreamExt as _};

use crate::{
    error::{Error, Result},
    label::Labels,
    meta::{image::Image, lease::WorkLease},
    root::Store,
    snapshot::{SnapshotPin, named::Scope},
    transfer::{
        progress::Watch,
        unpack::{self, FoundImage},
    },
};

/// Layers that come at once.
const PARALLEL_LAYERS: usize = 4;
/// How long what a pull wrote is kept if nobody ends it: the daemon was killed.
const LEASE: Duration = Duration::from_secs(24 * 3600);
/// Tells from which repositories of a host a blob came: `<this><host> = repository,...`; a push mounts from there.
pub(crate) const SOURCE_LABEL: &str = "containerd.io/distribution.source.";

/// What is to be pulled.
#[derive(Clone, Debug)]
pub struct PullRequest {
    /// Whose image it becomes.
    pub ns: String,
    /// Its name there.
    pub name: String,
    /// Platforms whose layers are wanted; all if there is none.
    pub platforms: Vec<Platform>,
    /// Whether the documents of the other platforms are wanted too.
    pub all_metadata: bool,
    /// For which platforms and snapshotters it is unpacked.
    pub unpacks: Vec<(Platform, String)>,
    /// Notes on the image.
    pub labels: Labels,
}

/// A pulled image.
#[derive(Debug)]
pub struct Pulled {
    /// Its name.
    pub image: Image,
    /// What each of its manifests that was wanted unpacked is unpacked to, by the manifest's digest.
    pub unpacked: BTreeMap<Digest, SnapshotPin>,
}

/// Pulls an image, unpacks it and names it.
pub async fn pull(
    store: &Arc<Store>,
    reference: &Reference,
    repository: &Repository,
    request: PullRequest,
    watch: &Watch,
) -> Result<Pulled> {
    let pull = Pull::begin(store, reference, repository, &request.ns, watch).await?;
    let target = repository.resolve().await?;
    let found = pull.documents(&target, &request).await?;
    let mut unpacked = BTreeMap::new();
    for manifest in &found {
        let unpacks = |(platform, _): &(Platform, String)| {
            manifest.platform.as_ref().is_none_or(|p| platform.matches(p))
        };
        let scopes: Vec<Scope> = request
            .unpacks
            .iter()
            .filter(|wanted| unpacks(wanted))
            .map(|(_, snapshotter)| Scope::new(&request.ns, snapshotter))
            .collect::<Result<_>>()?;
        let top = pull.layers(manifest, scopes).await?;
        unpacked.extend(top.map(|top| (manifest.digest, top)));
    }
    let PullRequest { ns, name, labels, .. } = request;
    pull.on(move |pull| {
        unpack::label(&pull.store, &ns, &target)?;
        let image = pull.store.images.put(&ns, &name, &target, &labels)?;
        Ok(Pulled { image, unpacked })
    })
    .await
}

/// Brings the documents of an image for one platform and nothing else: what FROM needs before it needs a layer. They have no name yet.
pub async fn metadata(
    store: &Arc<Store>,
    reference: &Reference,
    repository: &Repository,
    ns: &str,
    platform: &Platform,
    watch: &Watch,
) -> Result<FoundImage> {
    let pull = Pull::begin(store, reference, repository, ns, watch).await?;
    let target = repository.resolve().await?;
    let request = PullRequest {
        ns: ns.to_owned(),
        name: reference.to_string(),
        platforms: vec![platform.clone()],
        all_metadata: false,
        unpacks: Vec::new(),
        labels: Labels::new(),
    };
    let found = pull.documents(&target, &request).await?.into_iter().next();
    let found = found.ok_or_else(|| Error::NotFound { what: "image", name: reference.to_string() })?;
    let config = found.config.ok_or_else(|| Error::Invalid {
        what: "image",
        name: reference.to_string(),
        reason: "it is an artifact, not an image: it has no image config".to_owned(),
    })?;
    Ok(FoundImage {
        name: reference.to_string(),
        target: target.digest,
        manifest: found.manifest,
        manifest_digest: found.digest,
        config,
    })
}

/// A manifest whose layers are wanted.
#[derive(Debug)]
struct Found {
    /// Its name in the progress.
    name: String,
    digest: Digest,
    manifest: Manifest,
    /// The bytes of its image config; None: it is something else than an image.
    config: Option<Vec<u8>>,
    platform: Option<Platform>,
}

/// One pull at work.
#[derive(Clone, Debug)]
struct Pull {
    store: Arc<Store>,
    repository: Repository,
    ns: String,
    lease: Arc<WorkLease>,
    /// The note on each blob: where it came from.
    source: (String, String),
    watch: Watch,
}

impl Pull {
    async fn begin(
        store: &Arc<Store>,
        reference: &Reference,
        repository: &Repository,
        ns: &str,
        watch: &Watch,
    ) -> Result<Self> {
        let (leases, owner) = (store.leases.clone(), ns.to_owned());
        let lease = buildd_fs::blocking::run(move || leases.work(&owner, "buildd-pull", LEASE)).await?;
        Ok(Self {
            store: Arc::clone(store),
            repository: repository.clone(),
            ns: ns.to_owned(),
            lease: Arc::new(lease),
            source: (format!("{SOURCE_LABEL}{}", reference.domain()), reference.path().to_owned()),
            watch: watch.clone(),
        })
    }

    /// Works where it may block.
    async fn on<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let pull = self.clone();
        buildd_fs::blocking::run(move || work(&pull)).await
    }

    /// Brings the layers of a manifest and unpacks them for `scopes`; what they are unpacked to.
    async fn layers(&self, found: &Found, scopes: Vec<Scope>) -> Result<Option<SnapshotPin>> {
        let config = found.config.as_deref().map(ImageConfig::parse).transpose()?;
        let diff_ids = match (&config, scopes.is_empty()) {
            (Some(config), false) => config.rootfs.diff_ids.clone(),
            _ => Vec::new(),
        };
        let layers = &found.manifest.layers;
        if !diff_ids.is_empty() && diff_ids.len() != layers.len() {
            let reason = format!("{} layers but {} diff_ids", layers.len(), diff_ids.len());
            return Err(Error::Invalid { what: "image", name: found.digest.to_string(), reason });
        }
        let fetch = |(number, layer): (usize, &Descriptor)| {
            let diff_id = diff_ids.get(number).filter(|_| media_type::is_layer(&layer.media_type)).copied();
            let (pull, layer) = (self.clone(), layer.clone());
            let part = self.watch.add(&layer, &found.name);
            async move { pull.layer(&layer, diff_id, &part).await.map(|held| (number, held)) }
        };
        // Whichever is done first makes room for the next one.
        let mut fetched: Vec<(usize, Option<SnapshotPin>)> =
            futures::stream::iter(layers.iter().enumerate().map(fetch))
                .buffer_unordered(PARALLEL_LAYERS)
                .try_collect()
                .await?;
        if scopes.is_empty() {
            return Ok(None);
        }
        fetched.sort_by_key(|(number, _)| *number);
        let fetched: Vec<_> = fetched.into_iter().map(|(_, layer)| layer).collect();
        let found = FoundImage {
            name: found.digest.to_string(),
            target: found.digest,
            manifest: found.manifest.clone(),
            manifest_digest: found.digest,
            config: found.config.clone().unwrap_or_default(),
        };
        self.on(move |pull| {
            let Some(top) = pull.stack(&found, &diff_ids, &fetched)? else { return Ok(None) };
            pull.store.snapshots.make_durable(top.id())?;
            scopes.iter().try_for_each(|scope| unpack::name(&pull.store, scope, &found, &top))?;
            Ok(Some(top))
        })
        .await
    }

    /// Puts layers upon each other that came each as a stack of its own.
    fn stack(
        &self,
        found: &FoundImage,
        diff_ids: &[Digest],
        layers: &[Option<SnapshotPin>],
    ) -> Result<Option<SnapshotPin>> {
        unpack::stack(&self.store, &found.manifest.layers, diff_ids, |number, below| {
            let Some(layer) = &layers[number] else {
                let reason = "a layer of another kind than a file system's".to_owned();
                return Err(Error::Invalid { what: "image", name: found.name.clone(), reason });
            };
            let layer = self.store.snapshots.layers(layer.id())?.pop().expect("a stack has a layer");
            self.store.snapshots.stack(below, layer.id)
        })
    }
}
