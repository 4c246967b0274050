//! Layout source: `oci-layout://`, an image of an OCI layout that lies with the client and is read through its session.
//!
//! A frontend asks for the config of one ([`Worker::resolve_layout`]); the source asks for its layers, and only for those that are not known by
//! their chain id. Its key is that of the same image from elsewhere.
//!
//! # Invariants
//! Every document has the digest by which it was asked for, every layer the diff_id that the config gives it: a client harms its own build alone.
//!
//! # Sources
//! BuildKit `source/containerimage`, `oci-layout`; spec buildkit-api 3.5.

use std::{collections::HashMap, io::Read, sync::Arc};

use async_trait::async_trait;
use buildd_fs::pipeline::Limit;
use buildd_oci::{
    blob::{MAX_DOCUMENT, Provider},
    descriptor::Descriptor,
    digest::Digest,
    media_type,
    platform::Platform,
    reference::Reference,
};
use buildd_solver::{
    op::{CacheMap, Op, OpContext, OpError},
    result::OpResult,
};
use buildd_store::transfer::unpack::{self, FoundImage};
use serde::{Deserialize, de::IgnoredAny};
use tokio::sync::OnceCell;

use super::{SourceRequest, image};
use crate::{
    error::{Error, Result, op_error},
    session::SessionError,
    snapshot_ref::SnapshotRef,
    worker::Worker,
};

/// Images that are read from clients at once: stops clients that send slowly from taking all threads the daemon may have.
static LAYOUTS: Limit = Limit::new("layout", 128);

/// An image in a layout of a client.
#[derive(Clone, Debug)]
pub struct LayoutImage {
    /// What it is called in messages.
    pub name: String,
    /// The client's name for the layout.
    pub store: String,
    /// Its manifest or index.
    pub digest: Digest,
}

impl LayoutImage {
    /// Reads what stands behind `oci-layout://`, and the attributes of the source.
    pub fn parse(name: &str, store: &str) -> Result<Self> {
        let invalid = |reason: &str| Error::Invalid {
            what: "oci-layout source",
            name: name.to_owned(),
            reason: reason.to_owned(),
        };
        let reference = Reference::parse(name)?;
        let digest = *reference.digest().ok_or_else(|| invalid("it has no digest"))?;
        if store.is_empty() {
            return Err(invalid("the attribute oci.store is missing: it names a layout of the client"));
        }
        Ok(Self { name: name.to_owned(), store: store.to_owned(), digest })
    }
}

impl Worker {
    /// The documents of an image that the first of these clients has in a layout.
    pub async fn resolve_layout(
        &self,
        image: &LayoutImage,
        platform: &Platform,
        sessions: &[String],
    ) -> std::result::Result<FoundImage, OpError> {
        let content = self.layout(image, sessions).await?;
        let (image, platform) = (image.clone(), platform.clone());
        let find = move || -> Result<_> {
            let target = target(&*content, &image)?;
            Ok(unpack::find_in(&*content, &image.name, &target, &platform)?)
        };
        LAYOUTS.run(find).await.map_err(op_error)
    }

    async fn layout(
        &self,
        image: &LayoutImage,
        sessions: &[String],
    ) -> std::result::Result<Box<dyn Provider>, OpError> {
        let fail = |error: SessionError| OpError::new(error.kind, error);
        let client = self.sessions.any(sessions).await.map_err(fail)?;
        client.layout(&image.store).map_err(fail)
    }
}

/// What a digest stands for: it has neither type nor size, so both are taken from the bytes.
fn target(content: &dyn Provider, image: &LayoutImage) -> Result<Descriptor> {
    #[derive(Deserialize)]
    struct Document {
        manifests: Option<IgnoredAny>,
    }
    let digest = image.digest;
    let invalid =
        |reason: String| Error::Invalid { what: "image of a layout", name: image.name.clone(), reason };
    let mut bytes = Vec::new();
    let data = content.open(&Descriptor::new("", digest, 0))?;
    let failed = |source| Error::Image(buildd_oci::Error::Blob { operation: "read", digest, source });
    data.take(MAX_DOCUMENT + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_DOCUMENT {
        return Err(invalid(format!("its manifest has more than {MAX_DOCUMENT} bytes")));
    }
    let mut digester = digest.algorithm().digester();
    digester.update(&bytes);
    let actual = digester.finish();
    if actual != digest {
        let size = bytes.len() as u64;
        return Err(Error::Image(buildd_oci::Error::DigestMismatch {
            expected: digest,
            actual: Box::new(actual),
            size,
        }));
    }
    let document: Document = serde_json::from_slice(&bytes).map_err(|error| invalid(error.to_string()))?;
    let kind = if document.manifests.is_some() { media_type::OCI_INDEX } else { media_type::OCI_MANIFEST };
    Ok(Descriptor::new(kind, digest, bytes.len() as u64))
}

/// An image of a client's layout as a source.
#[derive(Debug)]
pub(super) struct LayoutSource {
    worker: Arc<Worker>,
    image: LayoutImage,
    platform: Platform,
    session: Option<String>,
    pin: OnceCell<FoundImage>,
}

/// An image in a layout, for the list of sources.
pub(super) fn make(request: &SourceRequest<'_>) -> std::result::Result<Arc<dyn Op>, OpError> {
    let worker = Arc::clone(request.worker);
    let source = LayoutSource::new(worker, request.name, request.platform.clone(), &request.attrs);
    Ok(Arc::new(source.map_err(op_error)?))
}

impl LayoutSource {
    pub(super) fn new(
        worker: Arc<Worker>,
        name: &str,
        platform: Platform,
        attrs: &HashMap<String, String>,
    ) -> Result<Self> {
        let image = LayoutImage::parse(name, attrs.get("oci.store").map_or("", String::as_str))?;
        let session = attrs.get("oci.session").cloned();
        Ok(Self { worker, image, platform, session, pin: OnceCell::new() })
    }

    /// The clients that may have it: the one that the source names first.
    fn sessions(&self, cx: &OpContext) -> Vec<String> {
        self.session.iter().cloned().chain(cx.sessions.ids()).collect()
    }

    async fn find(&self, cx: &OpContext) -> std::result::Result<&FoundImage, OpError> {
        let sessions = self.sessions(cx);
        let resolve = || self.worker.resolve_layout(&self.image, &self.platform, &sessions);
        self.pin.get_or_try_init(resolve).await
    }
}

#[async_trait]
impl Op for LayoutSource {
    async fn cache_map(&self, cx: &OpContext) -> std::result::Result<CacheMap, OpError> {
        image::cache_map(self.find(cx).await?, &self.platform).map_err(op_error)
    }

    async fn exec(&self, cx: &OpContext, _: &[OpResult]) -> std::result::Result<Vec<OpResult>, OpError> {
        let found = self.find(cx).await?.clone();
        let content = self.worker.layout(&self.image, &self.sessions(cx)).await?;
        let worker = Arc::clone(&self.worker);
        let unpack = move || unpack::unpack_from(&worker.store, &*content, &found);
        let held = LAYOUTS.run(unpack).await.map_err(op_error)?;
        Ok(vec![SnapshotRef::result(held)])
    }

    fn is_heavy(&self) -> bool {
        false
    }
}
