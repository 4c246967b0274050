//! `run`: a container from an image, over containerd's Snapshots, Containers and Tasks services.
//!
//! The road: find the image, prepare a snapshot on it, write the runtime spec ([`spec`]), create container and task, copy its streams ([`io`]), end
//! with its exit code. A failure of ours is 125, a command that cannot be executed 126, one that is not there 127, as docker has them.

mod io;
mod spec;
mod task;
mod user;

use std::{collections::HashMap, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use buildd_api::containerd::containerd::{
    services::{
        containers::v1::{Container, CreateContainerRequest, DeleteContainerRequest, container::Runtime},
        snapshots::v1::{PrepareSnapshotRequest, RemoveSnapshotRequest},
    },
    types::Mount,
};
use prost_types::Any;

use crate::{
    client::Client,
    commands::image::{
        mount::{SNAPSHOTTER, image_snapshot},
        store,
    },
    error::Coded,
    global::Global,
    id::new_id,
    transfer,
};

/// Exit codes of failures before the container's own.
const OUR_FAILURE: u8 = 125;
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;
/// Compat: the type URL of a spec in JSON (containerd `pkg/oci`, registered with typeurl).
const SPEC_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";
/// The runtime's public name; the daemon has its own behind it.
const RUNTIME: &str = "io.containerd.runc.v2";

/// Flags of `run`.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// Remove the container when it ends.
    #[arg(long)]
    rm: bool,
    /// Connect our standard input.
    #[arg(long, short = 'i')]
    interactive: bool,
    /// Give it a terminal.
    #[arg(long, short = 't')]
    tty: bool,
    /// A variable: KEY=VALUE, or KEY from our environment. May be repeated.
    #[arg(long, short = 'e', value_name = "KEY[=VALUE]")]
    pub(super) env: Vec<String>,
    /// The working folder.
    #[arg(long, short = 'w', value_name = "DIR")]
    pub(super) workdir: Option<String>,
    /// User and group, by name or number.
    #[arg(long, short = 'u', value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Another command before the arguments; empty for none.
    #[arg(long, value_name = "COMMAND")]
    pub(super) entrypoint: Option<String>,
    /// Network: host, or none.
    #[arg(long, visible_alias = "network", value_name = "MODE", default_value = "host", value_parser = ["host", "none"])]
    pub(super) net: String,
    /// A folder or file of this machine in the container: SOURCE:TARGET[:ro]. May be repeated.
    #[arg(long, short = 'v', value_name = "SOURCE:TARGET")]
    pub(super) volume: Vec<String>,
    /// Name of the container; random by default.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The image.
    #[arg(value_name = "IMAGE")]
    image: String,
    /// Command and arguments instead of the image's.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub(super) command: Vec<String>,
}

/// Runs; the child's exit code.
pub(crate) async fn run(global: &Global, args: RunArgs) -> Result<ExitCode> {
    match run_image(global, &args).await {
        Ok(code) => Ok(ExitCode::from(code)),
        Err(error) if error.is::<Coded>() => Err(error),
        Err(error) => Err(Coded { code: OUR_FAILURE, error }.into()),
    }
}

async fn run_image(global: &Global, args: &RunArgs) -> Result<u8> {
    let id = args.name.clone().unwrap_or_else(new_id);
    let client = Client::connect(global).await?;
    let image = store::find(&client, &args.image).await?;
    let contents = store::contents(&client, &image).await?;
    let parent = image_snapshot(&client, &image.name, &contents.config).await?;
    let lease = transfer::lease(&client).await?;
    let prepared =
        create(&client.with_lease(&lease)?, args, &id, &image.name, parent, &contents.config).await;
    // From here on the container's record holds the snapshot.
    transfer::release(&client, &lease).await;
    let rootfs = prepared?;
    let ended =
        task::run(&client, &id, rootfs, task::Streams { stdin: args.interactive, terminal: args.tty }).await;
    // A container that never ran is of no use to anyone.
    if args.rm || ended.is_err() {
        remove(&client, &id).await;
    }
    ended.map_err(|error| Coded { code: code_of(&error), error }.into())
}

/// Prepares snapshot and container; the mounts of the root.
async fn create(
    client: &Client,
    args: &RunArgs,
    id: &str,
    image: &str,
    parent: String,
    config: &buildd_oci::config::ImageConfig,
) -> Result<Vec<Mount>> {
    let request = PrepareSnapshotRequest {
        snapshotter: SNAPSHOTTER.to_owned(),
        key: id.to_owned(),
        parent,
        labels: HashMap::new(),
    };
    let rootfs = match client.snapshots().prepare(request).await {
        Err(status) if status.code() == tonic::Code::AlreadyExists => {
            bail!("a container {id} exists already")
        }
        prepared => prepared.context("prepare the container's files")?.into_inner().mounts,
    };
    let created = create_container(client, args, id, image, config, &rootfs).await;
    if created.is_err() {
        remove(client, id).await;
    }
    created.map(|()| rootfs)
}

async fn create_container(
    client: &Client,
    args: &RunArgs,
    id: &str,
    image: &str,
    config: &buildd_oci::config::ImageConfig,
    rootfs: &[Mount],
) -> Result<()> {
    let wanted = args.user.as_deref().unwrap_or(&config.config.user);
    let user = user::resolve(wanted, rootfs).with_context(|| format!("find user {wanted:?} in the image"))?;
    let spec =
        spec::spec(&spec::Request { args, id, config: &config.config, user: &user, terminal: args.tty })?;
    let container = Container {
        id: id.to_owned(),
        labels: HashMap::from([("io.buildd.run".to_owned(), "buildctl".to_owned())]),
        image: image.to_owned(),
        runtime: Some(Runtime { name: RUNTIME.to_owned(), options: None }),
        spec: Some(Any { type_url: SPEC_TYPE.to_owned(), value: serde_json::to_vec(&spec)? }),
        snapshotter: SNAPSHOTTER.to_owned(),
        snapshot_key: id.to_owned(),
        ..Container::default()
    };
    let request = CreateContainerRequest { container: Some(container) };
    client.containers().create(request).await.context("create the container")?;
    Ok(())
}

/// Removes what is there of the container; what is left is said, for nobody else would.
async fn remove(client: &Client, id: &str) {
    let container = client.containers().delete(DeleteContainerRequest { id: id.to_owned() }).await.map(drop);
    let request = RemoveSnapshotRequest { snapshotter: SNAPSHOTTER.to_owned(), key: id.to_owned() };
    let snapshot = client.snapshots().remove(request).await.map(drop);
    for (what, done) in [("container", container), ("snapshot", snapshot)] {
        match done {
            Err(status) if status.code() != tonic::Code::NotFound => {
                crate::output::note(&format!("warning: remove {what} {id}: {}", status.message()));
            }
            _ => {}
        }
    }
}

/// Which of docker's codes a failed start has. The daemon passes on what execve said.
fn code_of(error: &anyhow::Error) -> u8 {
    let text = crate::error::chain(error).to_lowercase();
    let has = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
    if has(&["permission denied", "eacces", "exec format", "is a directory", "not executable"]) {
        NOT_EXECUTABLE
    } else if has(&[
        "no such file",
        "executable file not found",
        "enoent",
        "executable not found",
        "not found in $path",
    ]) {
        NOT_FOUND
    } else {
        OUR_FAILURE
    }
}
