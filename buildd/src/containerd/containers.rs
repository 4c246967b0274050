//! Containers: records that clients keep here; nothing runs until a task is made of one.
//!
//! The record is stored as the message itself, so that extensions and options we do not know come back untouched.

use std::collections::{BTreeMap, HashMap};

use buildd_api::containerd::containerd::{
    events::{ContainerCreate, ContainerDelete, ContainerUpdate, container_create::Runtime},
    services::containers::v1::{
        Container as Wire, CreateContainerRequest, CreateContainerResponse, DeleteContainerRequest,
        GetContainerRequest, GetContainerResponse, ListContainerMessage, ListContainersRequest,
        ListContainersResponse, UpdateContainerRequest, UpdateContainerResponse,
        containers_server::Containers,
    },
};
use buildd_store::meta::container::Container;
use futures::{StreamExt, stream::BoxStream};
use prost::Message;
use prost_types::FieldMask;
use tonic::{Request, Response, Status};

use super::{Services, convert, namespace};
use crate::filter::{Fields, Filters};

/// Bytes of an id.
const MAX_ID: usize = 76;

struct Listed {
    wire: Wire,
    labels: BTreeMap<String, String>,
}

impl Fields for Listed {
    fn field(&self, name: &str) -> Option<String> {
        match name {
            "id" => Some(self.wire.id.clone()),
            "image" => Some(self.wire.image.clone()),
            "runtime.name" => self.wire.runtime.as_ref().map(|runtime| runtime.name.clone()),
            _ => None,
        }
    }
    fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }
}

/// The message of a record.
pub(super) fn wire(container: &Container) -> Result<Wire, Status> {
    let mut wire = Wire::decode(container.record.as_slice())
        .map_err(|error| Status::data_loss(format!("record of container {:?}: {error}", container.id)))?;
    wire.created_at = convert::timestamp(container.created);
    wire.updated_at = convert::timestamp(container.updated);
    Ok(wire)
}

fn required(container: Option<Wire>) -> Result<Wire, Status> {
    let container = container.ok_or_else(|| Status::invalid_argument("a container is required"))?;
    let id = &container.id;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if id.is_empty() || id.len() > MAX_ID || !id.chars().all(plain) || id.starts_with(['.', '-', '_']) {
        return Err(Status::invalid_argument(format!(
            "container id {id:?} is not a name of at most 76 letters"
        )));
    }
    Ok(container)
}

impl Services {
    async fn listed(&self, ns: String, filters: &[String]) -> Result<Vec<Wire>, Status> {
        let filters = Filters::parse(filters)?;
        let containers = self.with_store(move |store| store.containers.list(&ns)).await?;
        let mut found = Vec::new();
        for container in &containers {
            let wire = wire(container)?;
            let labels = wire.labels.clone().into_iter().collect();
            let listed = Listed { wire, labels };
            if filters.matches(&listed) {
                found.push(listed.wire);
            }
        }
        Ok(found)
    }
}

#[tonic::async_trait]
impl Containers for Services {
    type ListStreamStream = BoxStream<'static, Result<ListContainerMessage, Status>>;

    async fn get(
        &self,
        request: Request<GetContainerRequest>,
    ) -> Result<Response<GetContainerResponse>, Status> {
        let ns = namespace(&request)?;
        let id = request.into_inner().id;
        let container = self.with_store(move |store| store.containers.get(&ns, &id)).await?;
        Ok(Response::new(GetContainerResponse { container: Some(wire(&container)?) }))
    }

    async fn list(
        &self,
        request: Request<ListContainersRequest>,
    ) -> Result<Response<ListContainersResponse>, Status> {
        let ns = namespace(&request)?;
        let containers = self.listed(ns, &request.into_inner().filters).await?;
        Ok(Response::new(ListContainersResponse { containers }))
    }

    async fn list_stream(
        &self,
        request: Request<ListContainersRequest>,
    ) -> Result<Response<Self::ListStreamStream>, Status> {
        let ns = namespace(&request)?;
        let containers = self.listed(ns, &request.into_inner().filters).await?;
        let messages = containers.into_iter().map(|wire| Ok(ListContainerMessage { container: Some(wire) }));
        Ok(Response::new(futures::stream::iter(messages).boxed()))
    }

    async fn create(
        &self,
        request: Request<CreateContainerRequest>,
    ) -> Result<Response<CreateContainerResponse>, Status> {
        let ns = namespace(&request)?;
        let container = required(request.into_inner().container)?;
        if container.spec.is_none() {
            return Err(Status::invalid_argument("a container needs a spec"));
        }
        let record = container.encode_to_vec();
        let made = ContainerCreate {
            id: container.id.clone(),
            image: container.image.clone(),
            runtime: container.runtime.clone().map(|r| Runtime { name: r.name, options: r.options }),
        };
        let scope = ns.clone();
        let container =
            self.with_store(move |store| store.containers.create(&ns, &container.id, &record)).await?;
        self.store.events().publish(&scope, "/containers/create", &made);
        Ok(Response::new(CreateContainerResponse { container: Some(wire(&container)?) }))
    }

    async fn update(
        &self,
        request: Request<UpdateContainerRequest>,
    ) -> Result<Response<UpdateContainerResponse>, Status> {
        let ns = namespace(&request)?;
        let request = request.into_inner();
        let new = required(request.container)?;
        let (scope, id, mask) = (ns.clone(), new.id.clone(), request.update_mask);
        let change = move |container: &mut Container| -> Result<(), Status> {
            let mut kept = wire(container)?;
            change(&mut kept, new, mask)?;
            container.record = kept.encode_to_vec();
            Ok(())
        };
        let container = self.with_store(move |store| store.containers.update(&ns, &id, change)).await??;
        let updated = wire(&container)?;
        let changed = ContainerUpdate {
            id: updated.id.clone(),
            image: updated.image.clone(),
            labels: updated.labels.clone(),
            snapshot_key: updated.snapshot_key.clone(),
        };
        self.store.events().publish(&scope, "/containers/update", &changed);
        Ok(Response::new(UpdateContainerResponse { container: Some(updated) }))
    }

    async fn delete(&self, request: Request<DeleteContainerRequest>) -> Result<Response<()>, Status> {
        let ns = namespace(&request)?;
        let id = request.into_inner().id;
        let (scope, gone) = (ns.clone(), ContainerDelete { id: id.clone() });
        self.with_store(move |store| store.containers.delete(&ns, &id)).await?;
        self.store.events().publish(&scope, "/containers/delete", &gone);
        self.collector.soon();
        Ok(Response::new(()))
    }
}

/// Changes what a mask names.
fn change(kept: &mut Wire, new: Wire, mask: Option<FieldMask>) -> Result<(), Status> {
    let known = ["spec", "image", "extensions", "snapshot_key"];
    let old: BTreeMap<_, _> = kept.labels.clone().into_iter().collect();
    let paths = mask.clone().map(|mask| mask.paths).unwrap_or_default();
    let (extensions, others): (Vec<_>, Vec<_>) =
        paths.into_iter().partition(|path| path.starts_with("extensions."));
    let only_extensions = !extensions.is_empty() && others.is_empty();
    for key in extensions.iter().filter_map(|path| path.strip_prefix("extensions.")) {
        match new.extensions.get(key) {
            Some(value) => kept.extensions.insert(key.to_owned(), value.clone()),
            None => kept.extensions.remove(key),
        };
    }
    if !only_extensions {
        let mask = mask.map(|_| FieldMask { paths: others });
        let change = convert::masked(mask, &known, &old, new.labels.clone())?;
        if let Some(labels) = change.labels {
            kept.labels = labels.into_iter().collect::<HashMap<_, _>>();
        }
        replace(kept, new, &change.fields);
    }
    Ok(())
}

fn replace(kept: &mut Wire, new: Wire, fields: &[String]) {
    let names = |field: &str| fields.iter().any(|name| name == field);
    if names("spec") && new.spec.is_some() {
        kept.spec = new.spec;
    }
    if names("image") {
        kept.image = new.image;
    }
    if names("extensions") {
        kept.extensions = new.extensions;
    }
    if names("snapshot_key") {
        kept.snapshot_key = new.snapshot_key;
    }
}
