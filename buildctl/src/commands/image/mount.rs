//! `image mount` and `unmount`: an image's files in a folder of this machine.
//!
//! The daemon makes a view and says how to mount it; we mount. A lease of the folder's name keeps the view, and its label tells that the mount
//! is ours.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use buildd_api::containerd::containerd::{
    services::{
        leases::v1::{CreateRequest, DeleteRequest, Lease, ListRequest},
        snapshots::v1::{
            PrepareSnapshotRequest, RemoveSnapshotRequest, StatSnapshotRequest, ViewSnapshotRequest,
        },
    },
    types::Mount,
};
use buildd_oci::config::{ImageConfig, chain_ids};
use serde_json::json;

use super::store;
use crate::{
    client::Client,
    mounts,
    output::{self, Format, Row, parse_format},
};

/// Marks the lease of a mount; its value is the image's name.
const MOUNTED: &str = "buildd.io/mounted";
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

/// Flags of `image mount`.
#[derive(Debug, clap::Args)]
pub(crate) struct MountArgs {
    /// The image.
    #[arg(value_name = "IMAGE", requires = "dir")]
    name: Option<String>,
    /// An existing folder.
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Let files be changed; the changes go with `unmount`, the image stays as it is.
    #[arg(long)]
    rw: bool,
    /// How to list what is mounted: table, json or {{json .}}.
    #[arg(long, default_value = "table", value_parser = parse_format)]
    format: Format,
}

/// Flags of `image unmount`.
#[derive(Debug, clap::Args)]
pub(crate) struct UnmountArgs {
    /// The folders.
    #[arg(value_name = "DIR", required_unless_present = "all")]
    dirs: Vec<PathBuf>,
    /// Everything that `image mount` mounted.
    #[arg(long, conflicts_with = "dirs")]
    all: bool,
}

/// Mounts, or lists what is mounted.
pub(super) async fn mount(client: &Client, args: MountArgs) -> Result<()> {
    let (Some(name), Some(dir)) = (&args.name, &args.dir) else { return list(client, args.format).await };
    let dir = dir.canonicalize().with_context(|| format!("find folder {}", dir.display()))?;
    let key = dir.to_str().with_context(|| format!("{} is not UTF-8", dir.display()))?.to_owned();
    let image = store::find(client, name).await?;
    let contents = store::contents(client, &image).await?;
    let parent = image_snapshot(client, &image.name, &contents.config).await?;
    // A mount lasts until it is undone, so the lease has no end.
    let labels = HashMap::from([(MOUNTED.to_owned(), image.name.clone())]);
    match client.leases().create(CreateRequest { id: key.clone(), labels }).await {
        Err(status) if status.code() == tonic::Code::AlreadyExists => {}
        created => drop(created.context("create a lease")?),
    }
    let leased = client.with_lease(&key)?;
    let mounts = match prepared(&leased, &key, parent, args.rw).await {
        Err(status) if status.code() == tonic::Code::AlreadyExists => {
            bail!("{} has an image mounted already: `buildctl image unmount` it first", dir.display())
        }
        mounts => mounts.with_context(|| format!("make a view of image {}", image.name))?,
    };
    let mounted = mounts::mount_all(&mounts, &dir);
    if mounted.is_err() {
        forget(client, &key).await?;
    }
    mounted.with_context(|| format!("mount image {} at {}", image.name, dir.display()))
}

/// How to mount a fresh snapshot on an image's layers.
async fn prepared(client: &Client, key: &str, parent: String, rw: bool) -> Result<Vec<Mount>, tonic::Status> {
    let (snapshotter, key, labels) = (SNAPSHOTTER.to_owned(), key.to_owned(), HashMap::new());
    if rw {
        let request = PrepareSnapshotRequest { snapshotter, key, parent, labels };
        return Ok(client.snapshots().prepare(request).await?.into_inner().mounts);
    }
    let request = ViewSnapshotRequest { snapshotter, key, parent, labels };
    Ok(client.snapshots().view(request).await?.into_inner().mounts)
}

/// The mounts that were made, by their leases.
async fn leases(client: &Client) -> Result<Vec<Lease>> {
    let filters = vec![format!("labels.\"{MOUNTED}\"")];
    let mut leases = client.leases().list(ListRequest { filters }).await?.into_inner().leases;
    leases.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(leases)
}

async fn list(client: &Client, format: Format) -> Result<()> {
    let mut rows = Vec::new();
    for lease in leases(client).await? {
        let image = lease.labels.get(MOUNTED).cloned().unwrap_or_default();
        let mounted = mounts::is_mount(Path::new(&lease.id));
        let state = if mounted { "mounted" } else { "gone (unmount forgets it)" };
        rows.push(Row {
            cells: vec![lease.id.clone(), image.clone(), state.to_owned()],
            json: json!({"dir": lease.id, "image": image, "mounted": mounted}),
        });
    }
    output::show(format, &["DIR", "IMAGE", "STATE"], &rows)
}

/// Unmounts; goes on after a folder that fails, and fails in the end.
pub(super) async fn unmount(client: &Client, args: UnmountArgs) -> Result<()> {
    let dirs = match args.all {
        true => leases(client).await?.into_iter().map(|lease| PathBuf::from(lease.id)).collect(),
        false => args.dirs,
    };
    let mut failed = None;
    for dir in dirs {
        if let Err(error) = unmount_one(client, &dir, args.all).await {
            failed.get_or_insert(error);
        }
    }
    failed.map_or(Ok(()), Err)
}

async fn unmount_one(client: &Client, dir: &Path, all: bool) -> Result<()> {
    // A folder that is gone had its mount taken with it.
    let dir = match dir.canonicalize() {
        Err(_) if all => dir.to_owned(),
        found => found.with_context(|| format!("find folder {}", dir.display()))?,
    };
    let key = dir.to_str().with_context(|| format!("{} is not UTF-8", dir.display()))?;
    let unmounted = match all && !mounts::is_mount(&dir) {
        true => Ok(()),
        false => mounts::unmount(&dir).with_context(|| format!("unmount {}", dir.display())),
    };
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
