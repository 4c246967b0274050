//! Images that a frontend names: found in the worker's store, by name and platform.

use buildd_oci::{platform::Platform, reference::Reference};
use buildd_runtime::Error;
use tonic::Status;

use super::Build;
use crate::status;

/// The digest that a name points to, and the bytes of the config for a platform.
pub(crate) async fn resolve(
    build: &Build,
    reference: &str,
    platform: &Platform,
) -> Result<(String, Vec<u8>), Status> {
    let name =
        Reference::parse(reference).map_err(|error| status::of(&error))?.with_default_tag().to_string();
    let (worker, platform, wanted) = (build.worker.clone(), platform.clone(), name.clone());
    let found = buildd_fs::blocking::run(move || worker.find_image(&wanted, &platform)).await;
    match found {
        Ok(found) => Ok((found.target.to_string(), found.config)),
        Err(error @ Error::NotFound { what: "image", .. }) => Err(Status::not_found(format!(
            "{error}\nhint: no registry is asked yet: import it with `buildctl image import`, or build it with `-t {name}`"
        ))),
        Err(error) => Err(status::of(&error)),
    }
}
