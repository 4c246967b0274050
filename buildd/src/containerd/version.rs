//! Version: clients use what it says to decide which calls to make.

use buildd_api::containerd::containerd::services::version::v1::{VersionResponse, version_server::Version};
use tonic::{Request, Response, Status};

use super::Services;

/// Compat: from 2.0 on, nerdctl pulls, pushes and loads by `Transfer`.
const REPORTED: &str = concat!("2.1.0+buildd.", env!("CARGO_PKG_VERSION"));

#[tonic::async_trait]
impl Version for Services {
    async fn version(&self, _: Request<()>) -> Result<Response<VersionResponse>, Status> {
        Ok(Response::new(VersionResponse { version: REPORTED.to_owned(), revision: String::new() }))
    }
}
