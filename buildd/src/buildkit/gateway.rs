//! LLBBridge: what a frontend asks of its build: a client that is one itself, or the program of an image.
//!
//! Every call of a client names its build in the metadata; a program has a connection of its own, which belongs to one build. Results are kept as definitions and built when something needs their bytes.

use std::{collections::HashMap, sync::Arc};

use buildd_api::buildkit::{
    moby::buildkit::v1::{StatusResponse, VertexWarning, frontend as wire},
    pb,
};
use buildd_frontend::{FrontendResult, request::PLATFORMS_KEY};
use buildd_oci::platform::Platform;
use futures::stream::BoxStream;
use tonic::{Code, Request, Response, Status, Streaming};
use wire::{llb_bridge_server::LlbBridge, result::Result as Refs};

use super::caps;
use crate::solve::{
    Build, Builds, files::ReadTarget, gateway_frontend::GatewayFrontend, image, worker_record,
};

mod process;

/// `resolver_type` of a question about an OCI layout of a client.
const LAYOUT_RESOLVER: i32 = 1;

/// The service.
#[derive(Debug)]
pub(super) struct Gateway {
    builds: Arc<Builds>,
    /// Who calls; the metadata says it if this does not.
    caller: Option<Caller>,
}

/// A frontend and its build.
#[derive(Debug, Clone)]
struct Caller {
    build: Arc<Build>,
    frontend: Arc<GatewayFrontend>,
}

type Answer<T> = Result<Response<T>, Status>;

impl Gateway {
    /// Over all builds.
    pub(super) fn new(builds: Arc<Builds>) -> Self {
        Self { builds, caller: None }
    }

    /// For one frontend.
    pub(super) fn of(builds: Arc<Builds>, build: Arc<Build>, frontend: Arc<GatewayFrontend>) -> Self {
        Self { builds, caller: Some(Caller { build, frontend }) }
    }

    async fn caller<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        if let Some(caller) = &self.caller {
            caller.frontend.hear();
            return Ok(caller.clone());
        }
        let id = request.metadata().get("buildkit-controlapi-buildid").and_then(|id| id.to_str().ok());
        let id = id.ok_or_else(|| Status::invalid_argument("no buildid found in context"))?;
        let build = self.builds.running(id).await?;
        Ok(Caller { frontend: Arc::clone(&build.client), build })
    }

    async fn build<T>(&self, request: &Request<T>) -> Result<Arc<Build>, Status> {
        Ok(self.caller(request).await?.build)
    }

    /// A result of the build.
    async fn tree<T>(&self, request: &Request<T>, id: &str) -> Result<ReadTarget, Status> {
        let build = self.build(request).await?;
        Ok(ReadTarget::Tree(Arc::clone(&build.worker), build.tree(id).await?))
    }

    /// A mount of a container of the build.
    async fn mount<T>(&self, request: &Request<T>, id: &str, index: i32) -> Result<ReadTarget, Status> {
        let frontend = self.caller(request).await?.frontend;
        let index = usize::try_from(index).map_err(|_| Status::invalid_argument("a mount has a number"))?;
        Ok(ReadTarget::Mount(frontend.sandboxes.get(id)?, index))
    }
}

fn platform(wire: Option<pb::Platform>) -> Platform {
    let Some(wire) = wire.filter(|platform| !platform.os.is_empty()) else { return Platform::host() };
    Platform::new(&wire.os, &wire.architecture, &wire.variant)
}

/// Keeps every definition of a result and names them.
fn to_wire(build: &Build, result: FrontendResult) -> Result<wire::Result, Status> {
    let many = result.metadata.contains_key(PLATFORMS_KEY);
    let mut refs = HashMap::new();
    for (platform, definition) in result.refs {
        let id = match &definition {
            Some(definition) => build.keep(definition.clone())?,
            None => String::new(),
        };
        refs.insert(platform, wire::Ref { id, def: definition });
    }
    let kept = match many {
        true => Some(Refs::Refs(wire::RefMap { refs })),
        false => refs.into_values().next().map(Refs::Ref),
    };
    Ok(wire::Result {
        metadata: result.metadata.into_iter().collect(),
        result: kept,
        attestations: HashMap::new(),
    })
}

/// Finds the definitions behind the names of a result.
fn from_wire(build: &Build, result: wire::Result) -> Result<FrontendResult, Status> {
    if !result.attestations.is_empty() {
        return Err(Status::unimplemented("attestations are not supported yet"));
    }
    let named: Vec<(String, String)> = match result.result {
        None => Vec::new(),
        Some(Refs::Ref(one)) => vec![(String::new(), one.id)],
        Some(Refs::RefDeprecated(id)) => vec![(String::new(), id)],
        Some(Refs::Refs(many)) => many.refs.into_iter().map(|(platform, one)| (platform, one.id)).collect(),
        Some(Refs::RefsDeprecated(many)) => many.refs.into_iter().collect(),
    };
    let mut refs = Vec::new();
    for (platform, id) in named {
        refs.push((platform, build.kept(&id)?));
    }
    refs.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(FrontendResult { refs, metadata: result.metadata.into_iter().collect() })
}

#[tonic::async_trait]
impl LlbBridge for Gateway {
    type ExecProcessStream = BoxStream<'static, Result<wire::ExecMessage, Status>>;

    async fn ping(&self, request: Request<wire::PingRequest>) -> Answer<wire::PongResponse> {
        self.build(&request).await?;
        Ok(Response::new(wire::PongResponse {
            frontend_api_caps: caps::frontend(),
            llb_caps: caps::llb(),
            workers: vec![worker_record::of(&self.builds)],
        }))
    }

    async fn solve(&self, request: Request<wire::SolveRequest>) -> Answer<wire::SolveResponse> {
        let Caller { build, frontend } = self.caller(&request).await?;
        let request = request.into_inner();
        if let Some(import) = request.cache_imports.first() {
            return Err(Status::unimplemented(format!(
                "cache of type {:?} is not supported yet",
                import.r#type
            )));
        }
        let result = match (request.frontend.is_empty(), request.definition) {
            (true, Some(definition)) => {
                FrontendResult { refs: vec![(String::new(), Some(definition))], ..FrontendResult::default() }
            }
            (true, None) => FrontendResult { refs: vec![(String::new(), None)], ..FrontendResult::default() },
            (false, _) => {
                let inputs = request.frontend_inputs.into_iter().collect();
                let opts = request.frontend_opt.into_iter().collect();
                build.frontend(&request.frontend, opts, inputs, frontend.depth).await?
            }
        };
        if request.evaluate {
            for (_, definition) in &result.refs {
                if let Some(definition) = definition {
                    build.solve(definition).await?;
                }
            }
        }
        let result = to_wire(&build, result)?;
        Ok(Response::new(wire::SolveResponse { r#ref: String::new(), result: Some(result) }))
    }

    async fn r#return(&self, request: Request<wire::ReturnRequest>) -> Answer<wire::ReturnResponse> {
        let Caller { build, frontend } = self.caller(&request).await?;
        let request = request.into_inner();
        let returned = match request.error {
            Some(error) => {
                let details = prost::Message::encode_to_vec(&error);
                Err(Status::with_details(Code::from_i32(error.code), error.message, details.into()))
            }
            None => from_wire(&build, request.result.unwrap_or_default()),
        };
        frontend.finish(returned)?;
        Ok(Response::new(wire::ReturnResponse {}))
    }

    async fn inputs(&self, request: Request<wire::InputsRequest>) -> Answer<wire::InputsResponse> {
        let frontend = self.caller(&request).await?.frontend;
        Ok(Response::new(wire::InputsResponse { definitions: frontend.inputs.clone().into_iter().collect() }))
    }

    async fn evaluate(&self, request: Request<wire::EvaluateRequest>) -> Answer<wire::EvaluateResponse> {
        let id = request.get_ref().r#ref.clone();
        self.tree(&request, &id).await?;
        Ok(Response::new(wire::EvaluateResponse {}))
    }

    async fn read_file(&self, request: Request<wire::ReadFileRequest>) -> Answer<wire::ReadFileResponse> {
        let wanted = request.get_ref().clone();
        read_file(&self.tree(&request, &wanted.r#ref).await?, wanted).await
    }

    async fn read_dir(&self, request: Request<wire::ReadDirRequest>) -> Answer<wire::ReadDirResponse> {
        let wanted = request.get_ref().clone();
        read_dir(&self.tree(&request, &wanted.r#ref).await?, wanted).await
    }

    async fn stat_file(&self, request: Request<wire::StatFileRequest>) -> Answer<wire::StatFileResponse> {
        let wanted = request.get_ref().clone();
        let stat = self.tree(&request, &wanted.r#ref).await?.stat(&wanted.path).await?;
        Ok(Response::new(wire::StatFileResponse { stat: Some(stat) }))
    }

    async fn resolve_image_config(
        &self,
        request: Request<wire::ResolveImageConfigRequest>,
    ) -> Answer<wire::ResolveImageConfigResponse> {
        let build = self.build(&request).await?;
        let request = request.into_inner();
        let platform = platform(request.platform.clone());
        let resolve = async {
            match request.resolver_type {
                LAYOUT_RESOLVER => {
                    let wire::ResolveImageConfigRequest { store_id, session_id, .. } = &request;
                    image::resolve_layout(&build, &request.r#ref, &platform, store_id, session_id).await
                }
                _ => image::resolve(&build, &request.r#ref, &platform, &request.resolve_mode).await,
            }
        };
        let (digest, config) = match request.log_name.is_empty() {
            true => resolve.await?,
            false => build.stage(&request.log_name, resolve).await?,
        };
        Ok(Response::new(wire::ResolveImageConfigResponse { digest, config, r#ref: request.r#ref }))
    }

    async fn resolve_source_meta(
        &self,
        request: Request<wire::ResolveSourceMetaRequest>,
    ) -> Answer<wire::ResolveSourceMetaResponse> {
        let build = self.build(&request).await?;
        let request = request.into_inner();
        let source = request.source.ok_or_else(|| Status::invalid_argument("a source is required"))?;
        let platform = platform(request.platform);
        let attribute = |key: &str| source.attrs.get(key).map_or("", String::as_str);
        let resolved = if let Some(name) = source.identifier.strip_prefix("docker-image://") {
            image::resolve(&build, name, &platform, &request.resolve_mode).await?
        } else if let Some(name) = source.identifier.strip_prefix("oci-layout://") {
            let (store, session) = (attribute("oci.store"), attribute("oci.session"));
            image::resolve_layout(&build, name, &platform, store, session).await?
        } else {
            return Ok(Response::new(wire::ResolveSourceMetaResponse {
                source: Some(source),
                ..wire::ResolveSourceMetaResponse::default()
            }));
        };
        let (digest, config) = resolved;
        let without = request.image.is_some_and(|image| image.no_config);
        let image = wire::ResolveSourceImageResponse {
            digest,
            config: if without { Vec::new() } else { config },
            attestation_chain: None,
        };
        Ok(Response::new(wire::ResolveSourceMetaResponse {
            source: Some(source),
            image: Some(image),
            ..wire::ResolveSourceMetaResponse::default()
        }))
    }

    async fn warn(&self, request: Request<wire::WarnRequest>) -> Answer<wire::WarnResponse> {
        let build = self.build(&request).await?;
        let warning = request.into_inner();
        let warning = VertexWarning {
            vertex: warning.digest,
            level: warning.level,
            short: warning.short,
            detail: warning.detail,
            url: warning.url,
            info: warning.info,
            ranges: warning.ranges,
        };
        build.tell(StatusResponse { warnings: vec![warning], ..StatusResponse::default() });
        Ok(Response::new(wire::WarnResponse {}))
    }

    async fn new_container(
        &self,
        request: Request<wire::NewContainerRequest>,
    ) -> Answer<wire::NewContainerResponse> {
        let Caller { build, frontend } = self.caller(&request).await?;
        frontend.sandboxes.open(&build, request.into_inner()).await?;
        Ok(Response::new(wire::NewContainerResponse {}))
    }

    async fn release_container(
        &self,
        request: Request<wire::ReleaseContainerRequest>,
    ) -> Answer<wire::ReleaseContainerResponse> {
        let frontend = self.caller(&request).await?.frontend;
        frontend.sandboxes.release(&request.get_ref().container_id)?;
        Ok(Response::new(wire::ReleaseContainerResponse {}))
    }

    async fn exec_process(
        &self,
        request: Request<Streaming<wire::ExecMessage>>,
    ) -> Answer<Self::ExecProcessStream> {
        let caller = self.caller(&request).await?;
        Ok(Response::new(Box::pin(process::run(caller, request.into_inner()))))
    }

    async fn read_file_container(
        &self,
        request: Request<wire::ReadFileRequest>,
    ) -> Answer<wire::ReadFileResponse> {
        let wanted = request.get_ref().clone();
        read_file(&self.mount(&request, &wanted.r#ref, wanted.mount_index).await?, wanted).await
    }

    async fn read_dir_container(
        &self,
        request: Request<wire::ReadDirRequest>,
    ) -> Answer<wire::ReadDirResponse> {
        let wanted = request.get_ref().clone();
        read_dir(&self.mount(&request, &wanted.r#ref, wanted.mount_index).await?, wanted).await
    }

    async fn stat_file_container(
        &self,
        request: Request<wire::StatFileRequest>,
    ) -> Answer<wire::StatFileResponse> {
        let wanted = request.get_ref().clone();
        let place = self.mount(&request, &wanted.r#ref, wanted.mount_index).await?;
        Ok(Response::new(wire::StatFileResponse { stat: Some(place.stat(&wanted.path).await?) }))
    }
}

async fn read_file(place: &ReadTarget, wanted: wire::ReadFileRequest) -> Answer<wire::ReadFileResponse> {
    let range = wanted.range.map(|range| (range.offset, range.length));
    let data = place.read_range(&wanted.file_path, range).await?;
    Ok(Response::new(wire::ReadFileResponse { data }))
}

async fn read_dir(place: &ReadTarget, wanted: wire::ReadDirRequest) -> Answer<wire::ReadDirResponse> {
    let entries = place.list(&wanted.dir_path, &wanted.include_pattern).await?;
    Ok(Response::new(wire::ReadDirResponse { entries }))
}
