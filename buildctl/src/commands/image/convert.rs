//! `image convert`: an image under another name, with other media types or another compression of its layers.
//!
//! Works over the Content and Images services, as ctr does: blobs are read, written anew where they must change, and named last. The config
//! stays as it is: what a layer is when it is not compressed does not change.
//!
//! # Invariants
//! A layer is verified against its diff_id before its new form is stored. A failure leaves no name, and blobs only until their lease ends.

use anyhow::{Context as _, Result, bail, ensure};
use buildd_api::containerd::containerd::services::images::v1::{
    CreateImageRequest, Image, UpdateImageRequest,
};
use buildd_oci::{
    compress::Compression,
    config::ImageConfig,
    descriptor::Descriptor,
    digest::Digest,
    manifest::{Index, Manifest},
    media_type::{self, Family},
    platform::Platform,
};

use super::{
    blobs::{self, Labels},
    store,
};
use crate::{
    client::Client,
    output,
    transfer::{lease, release},
};

/// Label of a document with what it points at.
const CONTENT_LABEL: &str = "containerd.io/gc.ref.content.";
/// Label of a compressed layer with what it is when it is not.
const UNCOMPRESSED: &str = "containerd.io/uncompressed";

/// Flags of `image convert`.
#[derive(Debug, clap::Args)]
pub(crate) struct ConvertArgs {
    /// The image.
    #[arg(value_name = "IMAGE")]
    source: String,
    /// The name of what it becomes.
    #[arg(value_name = "NAME")]
    target: String,
    /// Write OCI's media types instead of docker's.
    #[arg(long)]
    oci: bool,
    /// Write layers without compression.
    #[arg(long, conflicts_with = "compression")]
    uncompress: bool,
    /// Compress layers: gzip or zstd.
    #[arg(long, value_name = "FORM")]
    compression: Option<String>,
    /// Platform, os/arch[/variant] (repeatable); all that are wholly here if not given.
    #[arg(long, value_name = "PLATFORM")]
    platform: Vec<String>,
    /// All platforms; fails if one is not wholly here.
    #[arg(long, conflicts_with = "platform")]
    all_platforms: bool,
}

/// What is to become of each platform.
#[derive(Clone, Copy, Debug)]
struct ConvertOptions {
    oci: bool,
    compression: Option<Compression>,
}

/// Converts; prints the digest of what it became.
pub(super) async fn convert(client: &Client, args: ConvertArgs) -> Result<()> {
    let compression = match (&args.compression, args.uncompress) {
        (_, true) => Some(Compression::Uncompressed),
        (None, false) => None,
        (Some(text), false) => match text.as_str() {
            "gzip" => Some(Compression::Gzip),
            "zstd" => Some(Compression::Zstd),
            _ => bail!("--compression {text:?} is neither gzip nor zstd"),
        },
    };
    let wanted = ConvertOptions { oci: args.oci, compression };
    let image = store::find(client, &args.source).await?;
    let name = store::canonical(&args.target)?;
    let platforms = args.platform.iter().map(|text| text.parse()).collect::<Result<Vec<Platform>, _>>()?;
    let lease = lease(client).await?;
    let done = async {
        let leased = client.with_lease(&lease)?;
        let target = wanted.image(&leased, &image, &platforms, args.all_platforms).await?;
        publish(&leased, &image, &name, &target).await?;
        Ok::<_, anyhow::Error>(target)
    }
    .await;
    release(client, &lease).await;
    let target = done.with_context(|| format!("convert {}", image.name))?;
    output::line(&target.digest.to_string())
}

impl ConvertOptions {
    async fn image(
        self,
        client: &Client,
        image: &Image,
        platforms: &[Platform],
        all: bool,
    ) -> Result<Descriptor> {
        let target = store::target(image)?;
        if !media_type::is_index(&target.media_type) {
            return self.manifest(client, &target).await;
        }
        let mut index = Index::parse(&store::read(client, &target).await?)?;
        let mut children = Vec::new();
        let (mut matched, strict) = (false, all || !platforms.is_empty());
        for child in store::manifests(client, image).await? {
            let fits = |wanted: &Platform| child.platform.as_ref().is_none_or(|p| wanted.matches(p));
            if !platforms.is_empty() && !platforms.iter().any(fits) {
                continue;
            }
            matched = true;
            let shown = child.platform.as_ref().map_or(child.digest.to_string(), Platform::to_string);
            if let Some(missing) = blobs::missing(client, &child).await? {
                ensure!(!strict, "blob {missing} of {shown} is not here (pull it with --platform {shown})");
                blobs::tell(&format!("left out: {shown}: blob {missing} is not here"));
                continue;
            }
            children.push(self.manifest(client, &child).await.with_context(|| format!("platform {shown}"))?);
        }
        ensure!(matched, "it has none of the platforms that were asked for");
        ensure!(!children.is_empty(), "no platform of it is wholly here");
        if self.oci {
            media_type::OCI_INDEX.clone_into(&mut index.media_type);
        }
        index.manifests = children;
        let refs = index.manifests.iter().enumerate().map(|(n, child)| (format!("m.{n}"), child.digest));
        let kind = if self.oci { media_type::OCI_INDEX } else { &target.media_type };
        blobs::put_document(client, kind, &index.to_bytes(), labels(refs)).await
    }

    /// One platform's image; its descriptor keeps platform and annotations.
    async fn manifest(self, client: &Client, from: &Descriptor) -> Result<Descriptor> {
        let bytes = store::read(client, from).await?;
        let mut manifest = Manifest::parse(&bytes)?;
        let diff_ids = match media_type::is_config(&manifest.config.media_type) {
            true => ImageConfig::parse(&store::read(client, &manifest.config).await?)?.rootfs.diff_ids,
            false => bail!("{} is no image: it has no image config", from.digest),
        };
        ensure!(
            diff_ids.len() == manifest.layers.len(),
            "{} layers but {} diff_ids",
            manifest.layers.len(),
            diff_ids.len()
        );
        let before = manifest.clone();
        for (layer, diff_id) in manifest.layers.iter_mut().zip(diff_ids) {
            self.layer(client, layer, diff_id).await.with_context(|| format!("layer {}", layer.digest))?;
        }
        let mut kind = from.media_type.as_str();
        if self.oci {
            kind = media_type::OCI_MANIFEST;
            media_type::OCI_MANIFEST.clone_into(&mut manifest.media_type);
            media_type::OCI_CONFIG.clone_into(&mut manifest.config.media_type);
        }
        if manifest == before {
            // Written anew it would be another image, if somebody else wrote it.
            return Ok(from.clone());
        }
        let layers = manifest.layers.iter().enumerate().map(|(n, layer)| (format!("l.{n}"), layer.digest));
        let refs = layers.chain([("config".to_owned(), manifest.config.digest)]);
        let made = blobs::put_document(client, kind, &manifest.to_bytes(), labels(refs)).await?;
        Ok(Descriptor { platform: from.platform.clone(), annotations: from.annotations.clone(), ..made })
    }

    /// Gives a layer its new form; one that has it already, or that registries need not have, keeps its bytes.
    async fn layer(self, client: &Client, layer: &mut Descriptor, diff_id: Digest) -> Result<()> {
        if media_type::is_foreign(&layer.media_type) || !media_type::is_layer(&layer.media_type) {
            return Ok(());
        }
        let docker = !self.oci && layer.media_type.starts_with("application/vnd.docker.");
        let family = if docker { Family::Docker } else { Family::Oci };
        let is = media_type::compression_of(&layer.media_type);
        let becomes = self.compression.unwrap_or(is);
        if becomes != is {
            let from = blobs::fetch(client, layer).await?;
            let made = buildd_fs::blocking::run(move || blobs::recode(from, becomes)).await?;
            ensure!(
                made.diff_id == diff_id,
                "it is {} when it is not compressed, its config says {diff_id}",
                made.diff_id
            );
            let labels = Labels::from([(UNCOMPRESSED.to_owned(), diff_id.to_string())]);
            (layer.digest, layer.size) = (made.digest, made.size);
            blobs::put(client, layer, made.file, &labels).await?;
        }
        media_type::layer(becomes, family).clone_into(&mut layer.media_type);
        Ok(())
    }
}

fn labels(refs: impl Iterator<Item = (String, Digest)>) -> Labels {
    refs.map(|(name, digest)| (format!("{CONTENT_LABEL}{name}"), digest.to_string())).collect()
}

/// Lets a name point at what was made.
async fn publish(client: &Client, source: &Image, name: &str, target: &Descriptor) -> Result<()> {
    let image = Image {
        name: name.to_owned(),
        labels: source.labels.clone(),
        target: Some(blobs::wire(target)),
        ..Image::default()
    };
    let request = CreateImageRequest { image: Some(image.clone()), source_date_epoch: None };
    match client.images().create(request).await {
        Err(status) if status.code() == tonic::Code::AlreadyExists => {
            let request = UpdateImageRequest { image: Some(image), ..UpdateImageRequest::default() };
            client.images().update(request).await.with_context(|| format!("name {name}")).map(drop)
        }
        created => created.with_context(|| format!("name {name}")).map(drop),
    }
}
