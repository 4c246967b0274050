//! Exports: what becomes of the trees that a build made.

use std::collections::{BTreeMap, HashMap};

use buildd_api::buildkit::moby::buildkit::v1::{Exporter, SolveRequest};
use buildd_frontend::{
    FrontendResult,
    request::{BUILD_ARGUMENT, EPOCH_ARGUMENT, EPOCH_KEY, IMAGE_CONFIG_KEY},
};
use buildd_store::transfer::progress::Watch;
use buildd_worker::export::{self, ExportRequest, ExportTree};
use tonic::Status;

use super::{Build, Built, failure};

/// The exporters that the client asks for, in order.
pub(super) fn wanted(request: &SolveRequest) -> Vec<Exporter> {
    if request.exporters.is_empty() && !request.exporter_deprecated.is_empty() {
        return vec![Exporter {
            r#type: request.exporter_deprecated.clone(),
            attrs: request.exporter_attrs_deprecated.clone(),
        }];
    }
    request.exporters.clone()
}

/// Runs every exporter that the client asked for, in order; the answers together.
pub(super) async fn export(
    build: &Build,
    request: &SolveRequest,
    result: &FrontendResult,
    built: Vec<Built>,
) -> Result<HashMap<String, String>, Status> {
    // The frontend knows the argument and what the text says of it; a build without one has only the argument.
    let told = result.metadata.get(EPOCH_KEY).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let argument = request.frontend_attrs.get(&format!("{BUILD_ARGUMENT}{EPOCH_ARGUMENT}"));
    // What is no number is a name, which the frontend knew the time of, or there is none.
    let epoch = told.as_ref().or(argument).and_then(|text| text.parse().ok());
    let mut answer = HashMap::new();
    for (number, exporter) in wanted(request).into_iter().enumerate() {
        let wanted = ExportRequest {
            kind: exporter.r#type.clone(),
            attributes: exporter.attrs.into_iter().collect::<BTreeMap<_, _>>(),
            trees: built.iter().map(|built| tree(built, result)).collect(),
            exporter: number,
            epoch,
            watch: Watch::default(),
        };
        let session = build.worker.sessions.any(std::slice::from_ref(&build.session)).await.ok();
        let work = async {
            export::export(&build.worker, session, wanted).await.map_err(|error| failure::of_op(&error))
        };
        let name = match exporter.r#type.as_str() {
            "image" => "exporting to image".to_owned(),
            "local" | "tar" => format!("exporting to client {}", exporter.r#type),
            kind => format!("exporting to {kind} image format"),
        };
        answer.extend(build.stage(&name, work).await?);
    }
    Ok(answer)
}

fn tree((platform, result): &Built, frontend: &FrontendResult) -> ExportTree {
    let own = format!("{IMAGE_CONFIG_KEY}/{platform}");
    let config = frontend.metadata.get(&own).or_else(|| frontend.metadata.get(IMAGE_CONFIG_KEY));
    let several = frontend.refs.len() > 1;
    ExportTree {
        platform: if several { platform.clone() } else { String::new() },
        result: result.clone(),
        config: config.cloned(),
    }
}
