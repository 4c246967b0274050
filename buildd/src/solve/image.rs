//! Images that a frontend names: found in the worker's store, by name and platform.

use buildd_oci::platform::Platform;
use tonic::Status;

use super::Build;

/// The digest that a name points to, and the bytes of the config for a platform.
pub(crate) async fn resolve(
    build: &Build,
    reference: &str,
    platform: &Platform,
) -> Result<(String, Vec<u8>), Status> {
    let _ = (build, platform);
    Err(Status::unimplemented(format!("{reference}: no worker yet")))
}
