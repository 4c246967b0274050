//! Namespaces: they come to be with their first use and carry labels.

use std::collections::{BTreeMap, HashMap};

use buildd_api::containerd::containerd::services::namespaces::v1::{
    CreateNamespaceRequest, CreateNamespaceResponse, DeleteNamespaceRequest, GetNamespaceRequest,
    GetNamespaceResponse, ListNamespacesRequest, ListNamespacesResponse, Namespace as Wire,
    UpdateNamespaceRequest, UpdateNamespaceResponse, namespaces_server::Namespaces,
};
use tonic::{Request, Response, Status};

use super::{Services, convert};

/// Bytes of a name.
const MAX_NAME: usize = 76;

/// Refuses what is not a name: words of letters and digits, joined by `.`, `_` or `-`.
pub(super) fn check(name: &str) -> Result<(), Status> {
    let word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric());
    if name.len() <= MAX_NAME && name.split(['.', '_', '-']).all(word) {
        return Ok(());
    }
    let start: String = name.chars().take(MAX_NAME).collect();
    Err(Status::invalid_argument(format!("namespace {start:?} is not a name of letters and digits")))
}

fn wire(name: String, labels: BTreeMap<String, String>) -> Wire {
    Wire { name, labels: labels.into_iter().collect::<HashMap<_, _>>() }
}

fn required(namespace: Option<Wire>) -> Result<Wire, Status> {
    let namespace = namespace.ok_or_else(|| Status::invalid_argument("a namespace is required"))?;
    check(&namespace.name)?;
    Ok(namespace)
}

#[tonic::async_trait]
impl Namespaces for Services {
    async fn get(&self, request: Request<GetNamespaceRequest>) -> Result<Response<GetNamespaceResponse>, Status> {
        let name = request.into_inner().name;
        check(&name)?;
        let found = self.with_store(move |store| store.namespaces.get(&name)).await?;
        Ok(Response::new(GetNamespaceResponse { namespace: Some(wire(found.name, found.labels)) }))
    }

    async fn list(
        &self,
        _: Request<ListNamespacesRequest>,
    ) -> Result<Response<ListNamespacesResponse>, Status> {
        let found = self.with_store(|store| store.namespaces.list()).await?;
        let namespaces = found.into_iter().map(|found| wire(found.name, found.labels)).collect();
        Ok(Response::new(ListNamespacesResponse { namespaces }))
    }

    async fn create(
        &self,
        request: Request<CreateNamespaceRequest>,
    ) -> Result<Response<CreateNamespaceResponse>, Status> {
        let namespace = required(request.into_inner().namespace)?;
        let labels = convert::labels(namespace.labels)?;
        let made = self.with_store(move |store| store.namespaces.create(&namespace.name, &labels)).await?;
        Ok(Response::new(CreateNamespaceResponse { namespace: Some(wire(made.name, made.labels)) }))
    }

    async fn update(
        &self,
        request: Request<UpdateNamespaceRequest>,
    ) -> Result<Response<UpdateNamespaceResponse>, Status> {
        let request = request.into_inner();
        let namespace = required(request.namespace)?;
        let name = namespace.name.clone();
        let old = self.with_store(move |store| store.namespaces.get(&name)).await?;
        let change = convert::masked(request.update_mask, &[], &old.labels, namespace.labels)?;
        let labels = change.labels.unwrap_or(old.labels);
        let made = self.with_store(move |store| store.namespaces.update(&old.name, &labels)).await?;
        Ok(Response::new(UpdateNamespaceResponse { namespace: Some(wire(made.name, made.labels)) }))
    }

    async fn delete(&self, request: Request<DeleteNamespaceRequest>) -> Result<Response<()>, Status> {
        let name = request.into_inner().name;
        self.with_store(move |store| store.namespaces.delete(&name)).await?;
        Ok(Response::new(()))
    }
}
