//! Sources: what a build begins with: images, files of the client, files of servers and repositories.
//!
//! A source pins itself when its key is asked for and is made from the pin: what a name points at may change meanwhile.

use std::{collections::HashMap, sync::Arc};

use buildd_api::buildkit::pb;
use buildd_oci::{ErrorKind, platform::Platform, reference::Reference};
use buildd_solver::op::{Op, OpContext, OpError};

use crate::{
    ops,
    worker::{Unsupported, Worker, op_error},
};

mod git;
mod http;
mod image;
mod layout;
mod local;
mod upload;

pub use layout::LayoutImage;
pub(crate) use local::Contexts;

/// Longest value of a header that a secret may be.
const MAX_HEADER: usize = 16 << 10;

/// The source behind an identifier.
pub(crate) fn resolve(
    worker: Arc<Worker>,
    op: &pb::SourceOp,
    platform: Option<&pb::Platform>,
) -> Result<Arc<dyn Op>, OpError> {
    let attrs: HashMap<String, String> = op.attrs.clone().into_iter().collect();
    if let Some(name) = op.identifier.strip_prefix("docker-image://") {
        let reference = Reference::parse(name).map_err(op_error)?.with_default_tag();
        let platform = platform_of(platform);
        return Ok(Arc::new(image::ImageSource::new(worker, reference, platform, &attrs)?));
    }
    if let Some(name) = op.identifier.strip_prefix("oci-layout://") {
        let source = layout::LayoutSource::new(worker, name, platform_of(platform), &attrs);
        return Ok(Arc::new(source.map_err(op_error)?));
    }
    if let Some(name) = op.identifier.strip_prefix("local://") {
        return Ok(Arc::new(local::LocalSource::new(worker, name, &attrs)?));
    }
    if let Some(path) = op.identifier.strip_prefix(upload::HOST) {
        return Ok(Arc::new(upload::UploadSource::new(worker, path, &attrs).map_err(op_error)?));
    }
    if op.identifier.starts_with("git://") {
        return Ok(Arc::new(git::GitSource::new(worker, &op.identifier, &attrs).map_err(op_error)?));
    }
    if ["http://", "https://"].iter().any(|scheme| op.identifier.starts_with(scheme)) {
        return Ok(Arc::new(http::HttpSource::new(worker, &op.identifier, &attrs).map_err(op_error)?));
    }
    Err(OpError::new(ErrorKind::Unimplemented, Unsupported { what: format!("source {:?}", op.identifier) }))
}

fn platform_of(wire: Option<&pb::Platform>) -> Platform {
    wire.map_or_else(Platform::host, |wire| Platform::new(&wire.os, &wire.architecture, &wire.variant))
}

/// A secret of the client as one line of text, for a header; None if the client has none of that id.
async fn secret_text(worker: &Worker, cx: &OpContext, id: &str) -> Result<Option<String>, OpError> {
    let Some(bytes) = ops::secret(worker, cx, id).await? else { return Ok(None) };
    let text = String::from_utf8(bytes).ok().map(|text| text.trim().to_owned());
    let fits =
        |text: &String| !text.is_empty() && text.len() <= MAX_HEADER && !text.contains(char::is_control);
    match text.filter(fits) {
        Some(text) => Ok(Some(text)),
        None => Err(op_error(crate::Error::Invalid {
            what: "secret",
            name: id.to_owned(),
            reason: "it is not one line of text, as a header must be".to_owned(),
        })),
    }
}
