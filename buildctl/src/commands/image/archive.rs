//! `image import` and `image export`: archives, streamed to and from the daemon's Transfer service.

use std::{
    io::{IsTerminal as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use buildd_api::containerd::containerd::types::{
    self,
    transfer::{
        ImageExportStream, ImageImportStream, ImageReference, ImageStore, Progress, UnpackConfiguration,
    },
};
use buildd_oci::platform::Platform;

use super::{registry::platform, store};
use crate::{
    client::Client,
    output,
    transfer::{Stream, any, lease, release, transfer},
};

/// The snapshotter that images are unpacked into.
pub(super) const SNAPSHOTTER: &str = "overlayfs";

/// Flags of `image import`.
#[derive(Debug, clap::Args)]
pub(crate) struct ImportArgs {
    /// The archive; - for standard input.
    #[arg(value_name = "FILE|-")]
    file: String,
    /// Name for an image that has none in the archive.
    #[arg(long, short = 't', value_name = "NAME")]
    name: Option<String>,
    /// Take all platforms, not only this machine's.
    #[arg(long)]
    all_platforms: bool,
    /// Print nothing.
    #[arg(long, short = 'q')]
    quiet: bool,
}

/// Flags of `image export`.
#[derive(Debug, clap::Args)]
pub(crate) struct ExportArgs {
    /// The archive; - for standard output.
    #[arg(long, short = 'o', value_name = "FILE|-")]
    output: String,
    /// Platform, os/arch[/variant] (repeatable); all that are wholly here if not given.
    #[arg(long, value_name = "PLATFORM")]
    platform: Vec<String>,
    /// All platforms; fails if one is not wholly here.
    #[arg(long, conflicts_with = "platform")]
    all_platforms: bool,
    /// The images.
    #[arg(required = true, value_name = "IMAGE")]
    names: Vec<String>,
}

fn host_platform() -> types::Platform {
    let host = Platform::host();
    types::Platform {
        os: host.os,
        architecture: host.architecture,
        variant: host.variant,
        ..types::Platform::default()
    }
}

/// Reads an archive into the store; prints the names of the images.
pub(super) async fn import(client: &Client, args: ImportArgs) -> Result<()> {
    let reader: Box<dyn tokio::io::AsyncRead + Send + Unpin> = if args.file == "-" {
        if std::io::stdin().is_terminal() {
            bail!("an archive is expected on standard input, which is a terminal");
        }
        Box::new(tokio::io::stdin())
    } else {
        Box::new(tokio::fs::File::open(&args.file).await.with_context(|| format!("open {}", args.file))?)
    };
    let reference = match &args.name {
        // A name of the user's is for the image that brings none of its own.
        Some(name) => {
            ImageReference { name: store::canonical(name)?, allow_overwrite: true, ..Default::default() }
        }
        None => ImageReference {
            name: "import".to_owned(),
            is_prefix: true,
            allow_overwrite: true,
            add_digest: true,
            skip_named_digest: true,
        },
    };
    let platforms = if args.all_platforms { Vec::new() } else { vec![host_platform()] };
    let destination = ImageStore {
        platforms,
        all_metadata: args.all_platforms,
        extra_references: vec![reference],
        unpacks: vec![UnpackConfiguration {
            platform: Some(host_platform()),
            snapshotter: SNAPSHOTTER.to_owned(),
        }],
        ..ImageStore::default()
    };
    let lease = lease(client).await?;
    let leased = client.with_lease(&lease)?;
    let imported = import_leased(&leased, reader, destination).await;
    release(client, &lease).await;
    let names = imported.with_context(|| format!("import {}", args.file))?;
    if !args.quiet {
        let text: String = names.iter().map(|name| format!("{name}\n")).collect();
        output::write(text.as_bytes())?;
    }
    Ok(())
}

async fn import_leased(
    client: &Client,
    reader: Box<dyn tokio::io::AsyncRead + Send + Unpin>,
    destination: ImageStore,
) -> Result<Vec<String>> {
    let data = Stream::open(client, "import").await?;
    let progress = Stream::open(client, "progress").await?;
    let source = ImageImportStream { stream: data.id().to_owned(), ..ImageImportStream::default() };
    let progress_id = progress.id().to_owned();
    let sender = tokio::spawn(data.send_all(reader));
    let saved = tokio::spawn(async move {
        let mut names = Vec::new();
        let shown = progress.progress(|message| names.extend(saved_name(message))).await;
        shown.map(|()| names)
    });
    let done = transfer(client, any(&source), any(&destination), &progress_id).await;
    // The daemon's word counts most: what it refused was not read to the end either.
    done?;
    sender.await.context("send the archive")??;
    saved.await.context("read the progress")?
}

fn saved_name(message: Progress) -> Option<String> {
    if message.event == "replaced" {
        let _ = writeln!(std::io::stderr(), "replaced: {}", message.name);
    }
    (message.event == "saved").then_some(message.name)
}

/// Writes images to an archive; a file appears only when it is complete.
pub(super) async fn export(client: &Client, args: ExportArgs) -> Result<()> {
    let mut references = Vec::new();
    for name in &args.names {
        let image = store::find(client, name).await?;
        references.push(ImageReference { name: image.name, ..ImageReference::default() });
    }
    let source = ImageStore { extra_references: references, ..ImageStore::default() };
    let platforms = args.platform.iter().map(|text| platform(text)).collect::<Result<_>>()?;
    let destination =
        ImageExportStream { platforms, all_platforms: args.all_platforms, ..ImageExportStream::default() };
    if args.output == "-" {
        if std::io::stdout().is_terminal() {
            bail!("an archive on a terminal helps nobody; name a file or redirect");
        }
        return receive(client, source, destination, tokio::io::stdout()).await;
    }
    let path = PathBuf::from(&args.output);
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary = {
        use std::os::unix::fs::PermissionsExt as _;
        tempfile::Builder::new()
            .prefix(".buildctl-")
            .permissions(std::fs::Permissions::from_mode(0o644))
            .tempfile_in(dir)
            .with_context(|| format!("write {}", path.display()))?
    };
    let file = temporary.reopen().with_context(|| format!("write {}", path.display()))?;
    receive(client, source, destination, tokio::fs::File::from_std(file)).await?;
    temporary.persist(&path).with_context(|| format!("write {}", path.display()))?;
    Ok(())
}

async fn receive<W: tokio::io::AsyncWrite + Send + Unpin + 'static>(
    client: &Client,
    source: ImageStore,
    mut destination: ImageExportStream,
    writer: W,
) -> Result<()> {
    let data = Stream::open(client, "export").await?;
    let progress = Stream::open(client, "progress").await?;
    let progress_id = progress.id().to_owned();
    let told = tokio::spawn(progress.progress(|message| {
        if message.event == "left out" {
            let _ = writeln!(std::io::stderr(), "left out: {}", message.name);
        }
    }));
    data.id().clone_into(&mut destination.stream);
    let (finished, transferred) = tokio::sync::oneshot::channel();
    let receiver = tokio::spawn(data.receive_all(writer, transferred));
    transfer(client, any(&source), any(&destination), &progress_id).await.context("export")?;
    told.await.context("read the progress")??;
    // A receiver that is gone has its end already.
    let _ = finished.send(());
    receiver.await.context("receive the archive")?
}
