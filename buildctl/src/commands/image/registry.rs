//! `image pull`, `push` and `cp`: images between the daemon's store and registries, over the Transfer service.
//!
//! The daemon speaks with the registry; we answer on a stream when it wants credentials, with what the user has for that host.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result, bail};
use buildd_api::containerd::containerd::types::{
    self,
    transfer::{ImageStore, OciRegistry, RegistryResolver, UnpackConfiguration},
};
use buildd_oci::{
    platform::Platform,
    registry::auth::{Credential, Credentials, Redacted},
};
use prost_types::Any;

use super::{archive::SNAPSHOTTER, store};
use crate::{
    client::Client,
    credentials, output,
    progress::Parts,
    transfer::{Stream, any, lease, release, transfer},
};

/// How to reach a registry.
#[derive(Debug, clap::Args)]
pub(crate) struct RegistryArgs {
    /// Speak plain HTTP with the registry.
    #[arg(long)]
    plain_http: bool,
    /// Folder with a folder of hosts.toml for each registry, as the daemon sees it; instead of the daemon's own.
    #[arg(long, value_name = "DIR")]
    hosts_dir: Option<PathBuf>,
    /// User and password; without one docker's configuration is asked.
    #[arg(long, short = 'u', value_name = "USER[:PASSWORD]")]
    user: Option<String>,
    /// Show no progress.
    #[arg(long, short = 'q')]
    quiet: bool,
}

/// Flags of `image pull`.
#[derive(Debug, clap::Args)]
pub(crate) struct PullArgs {
    /// The image.
    #[arg(value_name = "IMAGE")]
    name: String,
    /// Platform, os/arch[/variant] (repeatable); this machine's if not given.
    #[arg(long, value_name = "PLATFORM")]
    platform: Vec<String>,
    /// All platforms.
    #[arg(long, conflicts_with = "platform")]
    all_platforms: bool,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Flags of `image push`.
#[derive(Debug, clap::Args)]
pub(crate) struct PushArgs {
    /// The image.
    #[arg(value_name = "IMAGE")]
    name: String,
    /// Its name in the registry, if it is another.
    #[arg(value_name = "REMOTE", conflicts_with = "all_tags")]
    remote: Option<String>,
    /// Push one platform of an index.
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    /// Push all tags of the repository.
    #[arg(long, short = 'a')]
    all_tags: bool,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Flags of `image cp`.
#[derive(Debug, clap::Args)]
pub(crate) struct CopyArgs {
    /// The image in a registry.
    #[arg(value_name = "FROM")]
    from: String,
    /// Its name in another one.
    #[arg(value_name = "TO")]
    to: String,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Brings an image; prints its name.
pub(super) async fn pull(client: &Client, args: PullArgs) -> Result<()> {
    let name = store::canonical(&args.name)?;
    let host = wire(Platform::host());
    let platforms = match (args.all_platforms, args.platform.is_empty()) {
        (true, _) => Vec::new(),
        (false, true) => vec![host.clone()],
        (false, false) => args.platform.iter().map(|text| platform(text)).collect::<Result<_>>()?,
    };
    let unpack = platforms.first().cloned().unwrap_or(host);
    let destination = ImageStore {
        name: name.clone(),
        platforms,
        all_metadata: args.all_platforms,
        unpacks: vec![UnpackConfiguration { platform: Some(unpack), snapshotter: SNAPSHOTTER.to_owned() }],
        ..ImageStore::default()
    };
    let lease = lease(client).await?;
    let done = async {
        let leased = client.with_lease(&lease)?;
        let source = registry(&leased, &name, &args.registry).await?;
        moved(&leased, source, any(&destination), args.registry.quiet).await
    }
    .await;
    release(client, &lease).await;
    done.with_context(|| format!("pull {name}"))?;
    output::line(&name)
}

/// Sends an image, or all that have its repository.
pub(super) async fn push(client: &Client, args: PushArgs) -> Result<()> {
    let names = match args.all_tags {
        true => store::tags(client, &args.name).await?,
        false => vec![store::find(client, &args.name).await?.name],
    };
    if names.is_empty() {
        bail!("no such image: {} (`buildctl image ls` lists what is here)", args.name);
    }
    let platforms = args.platform.iter().map(|text| platform(text)).collect::<Result<Vec<_>>>()?;
    for name in names {
        let remote =
            args.remote.as_deref().map(store::canonical).transpose()?.unwrap_or_else(|| name.clone());
        let source = ImageStore { name: name.clone(), platforms: platforms.clone(), ..ImageStore::default() };
        let destination = registry(client, &remote, &args.registry).await?;
        moved(client, any(&source), destination, args.registry.quiet)
            .await
            .with_context(|| format!("push {remote}"))?;
        output::line(&remote)?;
    }
    Ok(())
}

/// Sends an image from one registry to another, without storing it.
pub(super) async fn copy(client: &Client, args: CopyArgs) -> Result<()> {
    let (from, to) = (store::canonical(&args.from)?, store::canonical(&args.to)?);
    let source = registry(client, &from, &args.registry).await?;
    let destination = registry(client, &to, &args.registry).await?;
    moved(client, source, destination, args.registry.quiet)
        .await
        .with_context(|| format!("copy {from} to {to}"))?;
    output::line(&to)
}

/// A registry's end of a transfer; its questions for credentials are answered as long as the transfer lasts.
async fn registry(client: &Client, name: &str, args: &RegistryArgs) -> Result<Any> {
    let credentials: Arc<dyn Credentials> = match &args.user {
        Some(text) => Arc::new(Given::parse(text)),
        None => Arc::new(credentials::logins()?),
    };
    let stream = Stream::open(client, "auth").await?;
    let resolver = RegistryResolver {
        auth_stream: stream.id().to_owned(),
        host_dir: args.hosts_dir.as_ref().map(absolute).transpose()?.unwrap_or_default(),
        default_scheme: if args.plain_http { "http".to_owned() } else { String::new() },
        ..RegistryResolver::default()
    };
    tokio::spawn(async move {
        if let Err(error) = stream.answer(&*credentials).await {
            tracing::debug!(%error, "answer for credentials");
        }
    });
    Ok(any(&OciRegistry { reference: name.to_owned(), resolver: Some(resolver) }))
}

/// The daemon has another working folder.
fn absolute(path: &PathBuf) -> Result<String> {
    let path = std::path::absolute(path).with_context(|| format!("find {}", path.display()))?;
    Ok(path.to_string_lossy().into_owned())
}

async fn moved(client: &Client, source: Any, destination: Any, quiet: bool) -> Result<()> {
    let progress = Stream::open(client, "progress").await?;
    let id = progress.id().to_owned();
    let shown = tokio::spawn(async move {
        let mut parts = Parts::new(quiet);
        progress.progress(|message| parts.show(&message)).await
    });
    transfer(client, source, destination, &id).await?;
    shown.await.context("read the progress")?
}

pub(super) fn platform(text: &str) -> Result<types::Platform> {
    Ok(wire(text.parse::<Platform>()?))
}

fn wire(platform: Platform) -> types::Platform {
    types::Platform {
        os: platform.os,
        architecture: platform.architecture,
        variant: platform.variant,
        ..types::Platform::default()
    }
}

/// A pair from the command line.
#[derive(Debug)]
struct Given(Credential);

impl Given {
    fn parse(text: &str) -> Self {
        let (username, password) = text.split_once(':').unwrap_or((text, ""));
        Self(Credential::Basic { username: username.to_owned(), password: Redacted(password.to_owned()) })
    }
}

#[async_trait::async_trait]
impl Credentials for Given {
    async fn credential(&self, _: &str) -> Result<Credential, buildd_oci::registry::Error> {
        Ok(self.0.clone())
    }
}
