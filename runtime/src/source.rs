//! Sources: what a build begins with: images of our own store or of registries, and files of the client.
//!
//! A source pins itself when its key is asked for and is made from the pin: what a name points at may change meanwhile.

use std::{collections::HashMap, sync::Arc};

use buildd_api::buildkit::pb;
use buildd_oci::{ErrorKind, platform::Platform, reference::Reference};
use buildd_solver::op::{Op, OpError};

use crate::worker::{Unsupported, Worker, op_error};

mod image;
mod local;
mod upload;

pub(crate) use local::Contexts;

/// The source behind an identifier.
pub(crate) fn resolve(
    worker: Arc<Worker>,
    op: &pb::SourceOp,
    platform: Option<&pb::Platform>,
) -> Result<Arc<dyn Op>, OpError> {
    let attrs: HashMap<String, String> = op.attrs.clone().into_iter().collect();
    if let Some(name) = op.identifier.strip_prefix("docker-image://") {
        let reference = Reference::parse(name).map_err(|error| op_error(error.into()))?.with_default_tag();
        let platform =
            platform.map_or_else(Platform::host, |p| Platform::new(&p.os, &p.architecture, &p.variant));
        return Ok(Arc::new(image::ImageSource::new(worker, reference, platform, &attrs)?));
    }
    if let Some(name) = op.identifier.strip_prefix("local://") {
        return Ok(Arc::new(local::LocalSource::new(worker, name, &attrs)?));
    }
    if let Some(path) = op.identifier.strip_prefix(upload::HOST) {
        return Ok(Arc::new(upload::UploadSource::new(worker, path, &attrs).map_err(op_error)?));
    }
    Err(OpError::new(ErrorKind::Unimplemented, Unsupported { what: format!("source {:?}", op.identifier) }))
}
