//! Images that a frontend names: found by name and platform, in the worker's store or a registry.

use buildd_oci::{platform::Platform, reference::Reference};
use buildd_worker::{LayoutImage, base::ResolveMode};
use tonic::Status;

use super::{Build, failure};
use crate::status;

/// The digest that a name points to, and the bytes of the config for a platform.
pub(crate) async fn resolve(
    build: &Build,
    name: &str,
    platform: &Platform,
    mode: &str,
) -> Result<(String, Vec<u8>), Status> {
    let reference = Reference::parse(name).map_err(|error| status::of(&error))?.with_default_tag();
    let mode = ResolveMode::parse(mode).ok_or_else(|| {
        Status::invalid_argument(format!("resolve mode {mode:?} is none of default, pull, local"))
    })?;
    let sessions = [build.session.clone()];
    let found = build.worker.resolve_base(&reference, platform, mode, &sessions).await;
    let found = found.map_err(|error| status::of(&error))?;
    Ok((found.target.to_string(), found.config))
}

/// The same for an image in an OCI layout `store` of a client: of the session that is named, else of the build's own.
pub(crate) async fn resolve_layout(
    build: &Build,
    name: &str,
    platform: &Platform,
    store: &str,
    session: &str,
) -> Result<(String, Vec<u8>), Status> {
    let image = LayoutImage::parse(name, store).map_err(|error| status::of(&error))?;
    let session = if session.is_empty() { &build.session } else { session };
    let found = build.worker.resolve_layout(&image, platform, &[session.to_owned()]).await;
    let found = found.map_err(|error| failure::of_op(&error))?;
    Ok((found.target.to_string(), found.config))
}
