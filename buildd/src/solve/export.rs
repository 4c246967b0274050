//! Exports: what becomes of the trees that a build made.

use std::collections::HashMap;

use buildd_api::buildkit::moby::buildkit::v1::{Exporter, SolveRequest};
use buildd_frontend::FrontendResult;
use tonic::Status;

use super::{Build, Built};

/// Runs every exporter that the client asked for, in order; the answers together.
pub(super) async fn export(
    build: &Build,
    request: &SolveRequest,
    result: &FrontendResult,
    built: Vec<Built>,
) -> Result<HashMap<String, String>, Status> {
    let mut exporters = request.exporters.clone();
    if exporters.is_empty() && !request.exporter_deprecated.is_empty() {
        exporters.push(Exporter {
            r#type: request.exporter_deprecated.clone(),
            attrs: request.exporter_attrs_deprecated.clone(),
        });
    }
    let mut answer = HashMap::new();
    for exporter in exporters {
        let _ = (build, result, &built, &mut answer);
        return Err(Status::unimplemented(format!("exporter {:?}: no worker yet", exporter.r#type)));
    }
    Ok(answer)
}
