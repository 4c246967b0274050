//! Store: finding an image by what a user typed, and reading its manifest and config through the Content service.

use anyhow::{Context as _, Result, bail, ensure};
use buildd_api::containerd::containerd::services::{
    content::v1::ReadContentRequest,
    images::v1::{GetImageRequest, Image, ListImagesRequest},
};
use buildd_oci::{
    config::ImageConfig,
    descriptor::Descriptor,
    digest::Digest,
    manifest::{Index, Manifest},
    media_type,
    platform::Platform,
    reference::Reference,
};

use crate::client::Client;

/// Largest manifest or config that is read into memory.
const DOCUMENT_BYTES: u64 = 8 << 20;
/// Digits of a digest that suffice to name an image.
const SHORT_DIGITS: usize = 6;

/// One platform of an image, read.
#[derive(Debug)]
pub(crate) struct Contents {
    /// The manifest's descriptor.
    pub(crate) descriptor: Descriptor,
    /// The manifest.
    pub(crate) manifest: Manifest,
    /// The config.
    pub(crate) config: ImageConfig,
    /// The config's bytes as they are stored.
    pub(crate) raw_config: Vec<u8>,
}

/// The full name of what a user typed: `alpine` is `docker.io/library/alpine:latest`.
pub(crate) fn canonical(name: &str) -> Result<String> {
    Ok(Reference::parse(name)?.with_default_tag().to_string())
}

/// The image of this name, or of this digest or its beginning; an error if there is none.
pub(crate) async fn find(client: &Client, name: &str) -> Result<Image> {
    match find_opt(client, name).await? {
        Some(image) => Ok(image),
        None => bail!("no such image: {name} (`buildctl image ls` lists what is here)"),
    }
}

/// The same; None if there is none.
pub(crate) async fn find_opt(client: &Client, name: &str) -> Result<Option<Image>> {
    let full = canonical(name).ok();
    for candidate in full.iter().map(String::as_str).chain([name]) {
        match client.images().get(GetImageRequest { name: candidate.to_owned() }).await {
            Ok(answer) => return Ok(answer.into_inner().image),
            Err(status) if status.code() == tonic::Code::NotFound => {}
            // A name that the daemon does not take as it was typed.
            Err(status) if status.code() == tonic::Code::InvalidArgument => {}
            Err(status) => return Err(status).with_context(|| format!("look up image {candidate}")),
        }
    }
    by_digest(client, name).await
}

async fn by_digest(client: &Client, name: &str) -> Result<Option<Image>> {
    let digits = name.strip_prefix("sha256:").unwrap_or(name);
    if digits.len() < SHORT_DIGITS || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(None);
    }
    let mut found: Option<Image> = None;
    for image in list(client).await? {
        let digest = image.target.as_ref().map_or("", |target| target.digest.as_str());
        if !digest.trim_start_matches("sha256:").starts_with(digits) {
            continue;
        }
        if let Some(first) = &found
            && first.target.as_ref().map(|t| &t.digest) != image.target.as_ref().map(|t| &t.digest)
        {
            bail!("{name} is the beginning of more than one image's digest");
        }
        found.get_or_insert(image);
    }
    Ok(found)
}

/// All images, by name.
pub(crate) async fn list(client: &Client) -> Result<Vec<Image>> {
    let request = ListImagesRequest { filters: Vec::new() };
    let mut images = client.images().list(request).await.context("list images")?.into_inner().images;
    images.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(images)
}

/// The target of an image as a descriptor of ours.
pub(crate) fn target(image: &Image) -> Result<Descriptor> {
    let target = image.target.as_ref().with_context(|| format!("image {} has no target", image.name))?;
    let digest: Digest = target.digest.parse()?;
    Ok(Descriptor::new(target.media_type.clone(), digest, target.size.unsigned_abs()))
}

/// Reads a small blob and checks it.
pub(crate) async fn read(client: &Client, descriptor: &Descriptor) -> Result<Vec<u8>> {
    ensure!(descriptor.size <= DOCUMENT_BYTES, "{} is too large for a document", descriptor.digest);
    let request =
        ReadContentRequest { digest: descriptor.digest.to_string(), ..ReadContentRequest::default() };
    let failed = || format!("read blob {}", descriptor.digest);
    let mut stream = client.content().read(request).await.with_context(failed)?.into_inner();
    let mut bytes = Vec::new();
    while let Some(piece) = stream.message().await.with_context(failed)? {
        bytes.extend_from_slice(&piece.data);
        ensure!(bytes.len() as u64 <= descriptor.size, "blob {} is longer than it says", descriptor.digest);
    }
    ensure!(Digest::of(&bytes) == descriptor.digest, "blob {} is corrupt", descriptor.digest);
    Ok(bytes)
}

/// The manifests of an image with their platforms: one, or those of its index that are images.
pub(crate) async fn manifests(client: &Client, image: &Image) -> Result<Vec<Descriptor>> {
    let target = target(image)?;
    if !media_type::is_index(&target.media_type) {
        return Ok(vec![target]);
    }
    let index = Index::parse(&read(client, &target).await?)?;
    let is_image = |descriptor: &Descriptor| {
        media_type::is_manifest(&descriptor.media_type)
            && descriptor.platform.as_ref().is_none_or(|platform| platform.os != "unknown")
    };
    Ok(index.manifests.into_iter().filter(is_image).collect())
}

/// Manifest and config of the image for this machine; of its only platform if it has but one.
pub(crate) async fn contents(client: &Client, image: &Image) -> Result<Contents> {
    let manifests = manifests(client, image).await?;
    let host = Platform::host();
    let fits = |descriptor: &&Descriptor| descriptor.platform.as_ref().is_some_and(|p| host.matches(p));
    let only = (manifests.len() == 1).then(|| manifests.first()).flatten();
    let Some(descriptor) = manifests.iter().find(fits).or(only).cloned() else {
        bail!("image {} has nothing for {host}", image.name);
    };
    read_contents(client, descriptor).await
}

/// Manifest and config behind a manifest's descriptor.
pub(crate) async fn read_contents(client: &Client, descriptor: Descriptor) -> Result<Contents> {
    let manifest = Manifest::parse(&read(client, &descriptor).await?)?;
    let raw_config = read(client, &manifest.config).await?;
    let config = ImageConfig::parse(&raw_config)?;
    Ok(Contents { descriptor, manifest, config, raw_config })
}

/// The names of all images in the repository of `name`.
pub(crate) async fn tags(client: &Client, name: &str) -> Result<Vec<String>> {
    let repository = Reference::parse(name)?.name();
    let images =
        client.images().list(ListImagesRequest::default()).await.context("list images")?.into_inner();
    let names = images.images.into_iter().map(|image| image.name);
    Ok(names
        .filter(|name| Reference::parse(name).is_ok_and(|r| r.name() == repository && r.tag().is_some()))
        .collect())
}
