//! `image mount` and `unmount`: an image's files in a folder of this machine, read-only.
//!
//! The daemon makes a view and says how to mount it; we mount. A lease of the folder's name keeps the view.

use std::{collections::HashMap, path::Path};

use anyhow::{Context as _, Result, bail};
use buildd_api::containerd::containerd::services::{
    leases::v1::{CreateRequest, DeleteRequest},
    snapshots::v1::{RemoveSnapshotRequest, StatSnapshotRequest, ViewSnapshotRequest},
};
use buildd_oci::config::{ImageConfig, chain_ids};

use super::store;
use crate::{client::Client, mounts};

/// The snapshotter that images are unpacked into.
pub(crate) const SNAPSHOTTER: &str = "overlayfs";

/// The name of the snapshot that has all of an image's layers; empty for an image without layers.
pub(crate) async fn image_snapshot(client: &Client, image: &str, config: &ImageConfig) -> Result<String> {
    let Some(chain_id) = chain_ids(&config.rootfs.diff_ids).pop() else { return Ok(String::new()) };
    let request = StatSnapshotRequest { snapshotter: SNAPSHOTTER.to_owned(), key: chain_id.to_string() };
    match client.snapshots().stat(request).await {
        Ok(_) => Ok(chain_id.to_string()),
        Err(status) if status.code() == tonic::Code::NotFound => {
            bail!("image {image} is not unpacked on this machine: import it again for this platform")
        }
        Err(status) => Err(status).with_context(|| format!("look up the snapshot of image {image}")),
    }
}

/// Mounts.
pub(super) async fn mount(client: &Client, name: &str, dir: &Path) -> Result<()> {
    let dir = dir.canonicalize().with_context(|| format!("find folder {}", dir.display()))?;
    let key = dir.to_str().with_context(|| format!("{} is not UTF-8", dir.display()))?.to_owned();
    let image = store::find(client, name).await?;
    let contents = store::contents(client, &image).await?;
    let parent = image_snapshot(client, &image.name, &contents.config).await?;
    // A mount lasts until it is undone, so the lease has no end.
    let request = CreateRequest { id: key.clone(), labels: HashMap::new() };
    match client.leases().create(request).await {
        Err(status) if status.code() == tonic::Code::AlreadyExists => {}
        created => drop(created.context("create a lease")?),
    }
    let leased = client.with_lease(&key)?;
    let request = ViewSnapshotRequest {
        snapshotter: SNAPSHOTTER.to_owned(),
        key: key.clone(),
        parent,
        labels: HashMap::new(),
    };
    let view = match leased.snapshots().view(request).await {
        Err(status) if status.code() == tonic::Code::AlreadyExists => {
            bail!("{} has an image mounted already: `buildctl image unmount` it first", dir.display())
        }
        view => view.with_context(|| format!("make a view of image {}", image.name))?,
    };
    let mounted = mounts::mount_all(&view.into_inner().mounts, &dir);
    if mounted.is_err() {
        forget(client, &key).await?;
    }
    mounted.with_context(|| format!("mount image {} at {}", image.name, dir.display()))
}

/// Unmounts.
pub(super) async fn unmount(client: &Client, dir: &Path) -> Result<()> {
    let dir = dir.canonicalize().with_context(|| format!("find folder {}", dir.display()))?;
    let key = dir.to_str().with_context(|| format!("{} is not UTF-8", dir.display()))?;
    let unmounted = mounts::unmount(&dir).with_context(|| format!("unmount {}", dir.display()));
    // A mount that went with a reboot still has its view.
    forget(client, key).await?;
    unmounted
}

async fn forget(client: &Client, key: &str) -> Result<()> {
    let request = RemoveSnapshotRequest { snapshotter: SNAPSHOTTER.to_owned(), key: key.to_owned() };
    ignore_missing(client.snapshots().remove(request).await).context("remove the view")?;
    let request = DeleteRequest { id: key.to_owned(), sync: false };
    ignore_missing(client.leases().delete(request).await).context("delete the lease")
}

fn ignore_missing<T>(answer: Result<T, tonic::Status>) -> Result<(), tonic::Status> {
    match answer {
        Err(status) if status.code() != tonic::Code::NotFound => Err(status),
        _ => Ok(()),
    }
}
