//! Images that a frontend names: found by name and platform, in the worker's store or a registry.

use buildd_oci::{platform::Platform, reference::Reference};
use buildd_runtime::base::ResolveMode;
use tonic::Status;

use super::Build;
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
