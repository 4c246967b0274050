//! Usage: what the build cache holds, and how it is made smaller.

use buildd_api::buildkit::moby::buildkit::v1::{PruneRequest, UsageRecord};
use tonic::Status;

use crate::worker::Worker;

/// What the cache holds.
pub(crate) async fn list(_: &Worker, _: &[String]) -> Result<Vec<UsageRecord>, Status> {
    Ok(Vec::new())
}

/// Removes what a policy allows; what was removed.
pub(crate) async fn prune(_: &Worker, _: &PruneRequest) -> Result<Vec<UsageRecord>, Status> {
    Err(Status::unimplemented("no worker yet"))
}
