//! `image`: the images of the daemon's store, over containerd's services. One file a group of subcommands.

mod archive;
mod blobs;
mod convert;
mod list;
pub(crate) mod mount;
mod registry;
pub(crate) mod store;

use anyhow::{Context as _, Result, bail};
use buildd_api::containerd::containerd::services::images::v1::{
    CreateImageRequest, DeleteImageRequest, Image, UpdateImageRequest,
};
use clap::Subcommand;

use crate::{
    client::Client,
    global::Global,
    output::{self, Format, parse_format},
};

/// What to do with images.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// List images.
    #[command(visible_alias = "list")]
    Ls(list::ListArgs),
    /// Remove images.
    #[command(visible_alias = "remove")]
    Rm {
        /// Names of the images.
        #[arg(required = true, value_name = "IMAGE")]
        names: Vec<String>,
        /// Do not complain of an image that is not there.
        #[arg(long, short = 'f')]
        force: bool,
    },
    /// Give an image another name.
    Tag {
        /// The image.
        #[arg(value_name = "IMAGE")]
        source: String,
        /// The new name.
        #[arg(value_name = "NAME")]
        target: String,
    },
    /// Show an image's manifest and config as JSON.
    Inspect {
        /// The images.
        #[arg(required = true, value_name = "IMAGE")]
        names: Vec<String>,
        /// json (one array) or {{json .}} (one object a line).
        #[arg(long, default_value = "json", value_parser = parse_format)]
        format: Format,
    },
    /// Show how an image came about.
    History(list::HistoryArgs),
    /// Read images from an archive of docker's or OCI's form.
    Import(archive::ImportArgs),
    /// Write images to an archive that docker, skopeo and containerd read.
    Export(archive::ExportArgs),
    /// Make an image of other media types, or with other compression, under another name.
    Convert(convert::ConvertArgs),
    /// Bring an image from its registry.
    Pull(registry::PullArgs),
    /// Send an image to a registry.
    Push(registry::PushArgs),
    /// Copy an image from one registry to another.
    Cp(registry::CopyArgs),
    /// Mount an image's files, read-only unless asked otherwise; without arguments, list what is mounted.
    Mount(mount::MountArgs),
    /// Undo `mount`.
    #[command(visible_alias = "umount")]
    Unmount(mount::UnmountArgs),
}

/// Dispatches.
pub(crate) async fn run(global: &Global, command: ImageCommand) -> Result<()> {
    let client = Client::connect(global).await?;
    match command {
        ImageCommand::Ls(args) => list::list(&client, args).await,
        ImageCommand::Rm { names, force } => remove(&client, &names, force).await,
        ImageCommand::Tag { source, target } => tag(&client, &source, &target).await,
        ImageCommand::Inspect { names, format } => list::inspect(&client, &names, format).await,
        ImageCommand::History(args) => list::history(&client, args).await,
        ImageCommand::Import(args) => archive::import(&client, args).await,
        ImageCommand::Export(args) => archive::export(&client, args).await,
        ImageCommand::Convert(args) => convert::convert(&client, args).await,
        ImageCommand::Pull(args) => registry::pull(&client, args).await,
        ImageCommand::Push(args) => registry::push(&client, args).await,
        ImageCommand::Cp(args) => registry::copy(&client, args).await,
        ImageCommand::Mount(args) => mount::mount(&client, args).await,
        ImageCommand::Unmount(args) => mount::unmount(&client, args).await,
    }
}

/// Goes on after a name that is not there, so that the others are removed, and fails in the end.
async fn remove(client: &Client, names: &[String], force: bool) -> Result<()> {
    let mut missing = Vec::new();
    for name in names {
        let Some(image) = store::find_opt(client, name).await? else {
            missing.push(name.as_str());
            continue;
        };
        let request = DeleteImageRequest { name: image.name.clone(), sync: true, target: None };
        client.images().delete(request).await.with_context(|| format!("remove image {}", image.name))?;
        output::line(&image.name)?;
    }
    if missing.is_empty() || force {
        return Ok(());
    }
    bail!("no such image: {}", missing.join(", "))
}

async fn tag(client: &Client, source: &str, target: &str) -> Result<()> {
    let image = store::find(client, source).await?;
    let name = store::canonical(target)?;
    let image = Image { name: name.clone(), created_at: None, updated_at: None, ..image };
    let request = CreateImageRequest { image: Some(image.clone()), source_date_epoch: None };
    match client.images().create(request).await {
        Err(status) if status.code() == tonic::Code::AlreadyExists => {
            let request = UpdateImageRequest { image: Some(image), ..UpdateImageRequest::default() };
            client.images().update(request).await.with_context(|| format!("tag {name}"))?;
        }
        created => drop(created.with_context(|| format!("tag {name}"))?),
    }
    Ok(())
}
