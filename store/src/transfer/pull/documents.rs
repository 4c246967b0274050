//! Documents: indexes, manifests and configs, from the root down to the platforms that are wanted.

use buildd_oci::{
    blob::read_document,
    copy::MAX_DEPTH,
    descriptor::Descriptor,
    manifest::{Index, Manifest},
    media_type,
    platform::Platform,
    registry::Error as RegistryError,
};

use super::{Found, Pull, PullRequest};
use crate::{
    error::{Error, Result},
    label::Labels,
    transfer::progress::{self, Phase},
};

impl Pull {
    /// Brings the documents below `target`; what is wanted of them, in the index's order.
    pub(super) async fn documents(&self, target: &Descriptor, request: &PullRequest) -> Result<Vec<Found>> {
        let mut found = Vec::new();
        let mut todo = vec![(target.clone(), String::new(), 0)];
        while let Some((descriptor, parent, depth)) = todo.pop() {
            let bytes = self.document(&descriptor, &parent).await?;
            let name = progress::name(&descriptor);
            if !media_type::is_index(&descriptor.media_type) {
                found.push(self.manifest(descriptor, name, &bytes).await?);
                continue;
            }
            if depth >= MAX_DEPTH {
                let limit = format!("{MAX_DEPTH} indexes in each other");
                return Err(buildd_oci::Error::WalkLimit { digest: descriptor.digest, limit }.into());
            }
            let index = Index::parse(&bytes)?;
            let (wanted, others) = choose(&descriptor, index, &request.platforms)?;
            if request.all_metadata {
                for other in others {
                    self.metadata_of(&other, &name).await?;
                }
            }
            // The first one is taken first.
            todo.extend(wanted.into_iter().rev().map(|child| (child, name.clone(), depth + 1)));
        }
        Ok(found)
    }

    async fn manifest(&self, descriptor: Descriptor, name: String, bytes: &[u8]) -> Result<Found> {
        let manifest = Manifest::parse(bytes)?;
        let config = match media_type::is_config(&manifest.config.media_type) {
            true => Some(self.document(&manifest.config, &name).await?),
            false => {
                let part = self.watch.add(&manifest.config, &name);
                self.layer(&manifest.config, None, &part).await?;
                None
            }
        };
        Ok(Found { name, digest: descriptor.digest, manifest, config, platform: descriptor.platform })
    }

    /// The documents of a platform whose layers are not wanted. Mirrors often have one platform only: what is not there is passed over.
    async fn metadata_of(&self, descriptor: &Descriptor, parent: &str) -> Result<()> {
        if media_type::is_index(&descriptor.media_type) {
            return Ok(());
        }
        let work = async {
            let manifest = Manifest::parse(&self.document(descriptor, parent).await?)?;
            if media_type::is_config(&manifest.config.media_type) {
                self.document(&manifest.config, &progress::name(descriptor)).await?;
            }
            Ok(())
        };
        match work.await {
            Err(error @ Error::Registry(_)) if error.kind() == buildd_oci::ErrorKind::NotFound => {
                tracing::warn!(digest = %descriptor.digest, %error, "a platform's documents are not there");
                Ok(())
            }
            other => other,
        }
    }

    /// One document: from our store, or from the registry into it.
    async fn document(&self, descriptor: &Descriptor, parent: &str) -> Result<Vec<u8>> {
        let part = self.watch.add(descriptor, parent);
        let _turn = self.store.digest_locks.lock(&descriptor.digest).await;
        let wanted = descriptor.clone();
        let known = self.on(move |pull| {
            pull.lease.hold_blob(&wanted.digest)?;
            if !pull.store.content.adopt(&pull.ns, &wanted.digest, wanted.size, &Labels::new())? {
                return Ok(None);
            }
            pull.note(&wanted.digest, None)?;
            Ok(Some(read_document(&pull.store.content.in_namespace(&pull.ns), &wanted)?))
        });
        if let Some(bytes) = known.await? {
            part.enter(Phase::Exists);
            return Ok(bytes);
        }
        part.enter(Phase::Downloading);
        let bytes = match self.repository.document(descriptor).await {
            // Whoever sent something else is asked last now.
            Err(RegistryError::Content { source, .. })
                if matches!(*source, buildd_oci::Error::DigestMismatch { .. }) =>
            {
                self.repository.document(descriptor).await?.to_vec()
            }
            read => read?.to_vec(),
        };
        let (wanted, data) = (descriptor.clone(), bytes.clone());
        self.on(move |pull| {
            let mut intake = pull.ingest(&wanted)?;
            intake.seek(0)?;
            intake.write(&data)?;
            pull.commit(intake, &wanted, None)
        })
        .await?;
        part.enter(Phase::Complete);
        Ok(bytes)
    }
}

/// The manifests that are wanted, and the others.
fn choose(
    descriptor: &Descriptor,
    index: Index,
    platforms: &[Platform],
) -> Result<(Vec<Descriptor>, Vec<Descriptor>)> {
    if platforms.is_empty() {
        return Ok((index.manifests, Vec::new()));
    }
    let mut wanted = Vec::new();
    for platform in platforms {
        let first = index.find(platform).ok_or_else(|| buildd_oci::Error::NoPlatform {
            digest: descriptor.digest,
            wanted: platform.to_string(),
        })?;
        if !wanted.contains(first) {
            wanted.push(first.clone());
        }
    }
    let others = index.manifests.into_iter().filter(|d| !wanted.contains(d)).collect();
    Ok((wanted, others))
}
