//! Leases: what a client holds against collection.

use std::collections::BTreeMap;

use buildd_api::containerd::containerd::services::leases::v1::{
    AddResourceRequest, CreateRequest, CreateResponse, DeleteRequest, DeleteResourceRequest,
    Lease as WireLease, ListRequest, ListResourcesRequest, ListResourcesResponse, ListResponse,
    Resource as WireResource, leases_server::Leases,
};
use buildd_store::meta::lease::{Lease, Resource};
use tonic::{Request, Response, Status};

use super::{Services, convert, namespace};
use crate::{
    filter::{Fields, Filters},
    status::Answer,
};

impl Fields for Lease {
    fn field(&self, name: &str) -> Option<String> {
        (name == "id").then(|| self.id.clone())
    }
    fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }
}

fn wire(lease: Lease) -> WireLease {
    WireLease {
        id: lease.id,
        labels: lease.labels.into_iter().collect(),
        created_at: convert::timestamp(lease.created),
    }
}

fn resource(wire: Option<WireResource>) -> Result<Resource, Status> {
    let wire = wire.ok_or_else(|| Status::invalid_argument("a resource is required"))?;
    let known = matches!(wire.r#type.as_str(), "content" | "ingests" | "images")
        || wire.r#type.starts_with("snapshots/");
    if !known {
        return Err(Status::unimplemented(format!("leases on resources of type {:?}", wire.r#type)));
    }
    Ok(Resource { kind: wire.r#type, id: wire.id })
}

#[tonic::async_trait]
impl Leases for Services {
    async fn create(&self, request: Request<CreateRequest>) -> Result<Response<CreateResponse>, Status> {
        let ns = namespace(&request)?;
        let request = request.into_inner();
        let labels = convert::labels(request.labels)?;
        let id = match request.id.is_empty() {
            true => format!("lease-{:032x}", rand::random::<u128>()),
            false => request.id,
        };
        let lease = self.with_store(move |store| store.leases.create(&ns, &id, &labels)).await?;
        Ok(Response::new(CreateResponse { lease: Some(wire(lease)) }))
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Result<Response<()>, Status> {
        let ns = namespace(&request)?;
        let request = request.into_inner();
        self.with_store(move |store| store.leases.delete(&ns, &request.id)).await?;
        self.collector.after_deletion(request.sync).await.or_status()?;
        Ok(Response::new(()))
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        let ns = namespace(&request)?;
        let filters = Filters::parse(&request.into_inner().filters)?;
        let leases = self.with_store(move |store| store.leases.list(&ns)).await?;
        let leases = leases.into_iter().filter(|lease| filters.matches(lease)).map(wire).collect();
        Ok(Response::new(ListResponse { leases }))
    }

    async fn add_resource(&self, request: Request<AddResourceRequest>) -> Result<Response<()>, Status> {
        let ns = namespace(&request)?;
        let request = request.into_inner();
        let resource = resource(request.resource)?;
        self.with_store(move |store| store.leases.add(&ns, &request.id, &resource)).await?;
        Ok(Response::new(()))
    }

    async fn delete_resource(&self, request: Request<DeleteResourceRequest>) -> Result<Response<()>, Status> {
        let ns = namespace(&request)?;
        let request = request.into_inner();
        let resource = resource(request.resource)?;
        self.with_store(move |store| store.leases.remove(&ns, &request.id, &resource)).await?;
        Ok(Response::new(()))
    }

    async fn list_resources(
        &self,
        request: Request<ListResourcesRequest>,
    ) -> Result<Response<ListResourcesResponse>, Status> {
        let ns = namespace(&request)?;
        let id = request.into_inner().id;
        let resources = self.with_store(move |store| store.leases.resources(&ns, &id)).await?;
        let resources =
            resources.into_iter().map(|held| WireResource { id: held.id, r#type: held.kind }).collect();
        Ok(Response::new(ListResourcesResponse { resources }))
    }
}
