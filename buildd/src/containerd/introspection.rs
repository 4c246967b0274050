//! Introspection: who we are, and which snapshotters clients may name.

use std::collections::{BTreeMap, HashMap};

use buildd_api::containerd::containerd::{
    services::introspection::v1::{
        Plugin, PluginInfoRequest, PluginInfoResponse, PluginsRequest, PluginsResponse, ServerResponse,
        introspection_server::Introspection,
    },
    types::Platform,
};
use buildd_oci::platform;
use buildd_store::snapshot::named::SNAPSHOTTERS;
use tonic::{Request, Response, Status};

use super::Services;
use crate::filter::{Fields, Filters};

/// The plugin that moves images.
const TRANSFER: &str = "io.containerd.transfer.v1";

struct Named<'a>(&'a Plugin, BTreeMap<String, String>);

impl Fields for Named<'_> {
    fn field(&self, name: &str) -> Option<String> {
        match name {
            "type" => Some(self.0.r#type.clone()),
            "id" => Some(self.0.id.clone()),
            _ => None,
        }
    }
    fn labels(&self) -> &BTreeMap<String, String> {
        &self.1
    }
}

/// What we offer, in containerd's words; the transfers' plugin tells where their settings lie.
fn plugins(transfer: &HashMap<String, String>) -> impl Iterator<Item = Plugin> {
    let host = platform::Platform::host();
    let host = Platform {
        os: host.os,
        architecture: host.architecture,
        variant: host.variant,
        ..Platform::default()
    };
    let snapshotters = SNAPSHOTTERS.iter().map(|id| ("io.containerd.snapshotter.v1", *id));
    let others = [
        ("io.containerd.content.v1", "content"),
        ("io.containerd.metadata.v1", "bolt"),
        ("io.containerd.runtime.v2", "task"),
        (TRANSFER, "local"),
    ];
    snapshotters.chain(others).map(move |(kind, id)| Plugin {
        r#type: kind.to_owned(),
        id: id.to_owned(),
        platforms: vec![host.clone()],
        exports: if kind == TRANSFER { transfer.clone() } else { HashMap::new() },
        ..Plugin::default()
    })
}

#[tonic::async_trait]
impl Introspection for Services {
    async fn plugins(&self, request: Request<PluginsRequest>) -> Result<Response<PluginsResponse>, Status> {
        let filters = Filters::parse(&request.into_inner().filters)?;
        let plugins = plugins(&self.hosts_settings)
            .filter(|plugin| filters.matches(&Named(plugin, BTreeMap::new())))
            .collect::<Vec<_>>();
        Ok(Response::new(PluginsResponse { plugins }))
    }

    async fn server(&self, _: Request<()>) -> Result<Response<ServerResponse>, Status> {
        Ok(Response::new(ServerResponse {
            uuid: self.uuid.clone(),
            pid: u64::from(std::process::id()),
            ..ServerResponse::default()
        }))
    }

    async fn plugin_info(
        &self,
        request: Request<PluginInfoRequest>,
    ) -> Result<Response<PluginInfoResponse>, Status> {
        let request = request.into_inner();
        let plugin = plugins(&self.hosts_settings)
            .find(|plugin| plugin.r#type == request.r#type && plugin.id == request.id);
        let plugin = plugin.ok_or_else(|| Status::not_found(format!("plugin {:?} not found", request.id)))?;
        Ok(Response::new(PluginInfoResponse { plugin: Some(plugin), extra: None }))
    }
}
