//! Namespaces: their names and labels. These calls name theirs in the message, not in the header.

use std::collections::{BTreeMap, HashMap};

use buildd_api::containerd::containerd::services::namespaces::v1::{
    CreateNamespaceRequest, CreateNamespaceResponse, DeleteNamespaceRequest, GetNamespaceRequest,
    GetNamespaceResponse, ListNamespacesRequest, ListNamespacesResponse, Namespace, UpdateNamespaceRequest,
    UpdateNamespaceResponse, namespaces_server::Namespaces,
};
use tonic::{Request, Response, Status};

use super::{Services, convert};
use crate::filter::{Fields, Filters};

struct Listed {
    name: String,
    labels: BTreeMap<String, String>,
}

impl Fields for Listed {
    fn field(&self, name: &str) -> Option<String> {
        (name == "name").then(|| self.name.clone())
    }
    fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }
}

fn wire(name: String, labels: BTreeMap<String, String>) -> Namespace {
    Namespace { name, labels: labels.into_iter().collect::<HashMap<_, _>>() }
}

fn required(namespace: Option<Namespace>) -> Result<Namespace, Status> {
    namespace.ok_or_else(|| Status::invalid_argument("a namespace is required"))
}

#[tonic::async_trait]
impl Namespaces for Services {
    async fn get(
        &self,
        request: Request<GetNamespaceRequest>,
    ) -> Result<Response<GetNamespaceResponse>, Status> {
        let name = request.into_inner().name;
        let wanted = name.clone();
        let labels = self.with_store(move |store| store.namespaces.labels(&wanted)).await?;
        Ok(Response::new(GetNamespaceResponse { namespace: Some(wire(name, labels)) }))
    }

    async fn list(
        &self,
        request: Request<ListNamespacesRequest>,
    ) -> Result<Response<ListNamespacesResponse>, Status> {
        let filters = Filters::parse(std::slice::from_ref(&request.into_inner().filter))?;
        let all = self.with_store(|store| store.namespaces.list()).await?;
        let listed = all.into_iter().map(|(name, labels)| Listed { name, labels });
        let wanted = listed.filter(|listed| filters.matches(listed));
        let namespaces = wanted.map(|listed| wire(listed.name, listed.labels)).collect();
        Ok(Response::new(ListNamespacesResponse { namespaces }))
    }

    async fn create(
        &self,
        request: Request<CreateNamespaceRequest>,
    ) -> Result<Response<CreateNamespaceResponse>, Status> {
        let namespace = required(request.into_inner().namespace)?;
        let labels = convert::labels(namespace.labels.clone())?;
        let name = namespace.name.clone();
        self.with_store(move |store| store.namespaces.create(&name, &labels)).await?;
        Ok(Response::new(CreateNamespaceResponse { namespace: Some(namespace) }))
    }

    async fn update(
        &self,
        request: Request<UpdateNamespaceRequest>,
    ) -> Result<Response<UpdateNamespaceResponse>, Status> {
        let request = request.into_inner();
        let namespace = required(request.namespace)?;
        let (name, change) =
            (namespace.name.clone(), convert::labels_masked(request.update_mask, namespace.labels));
        let labels = self.with_store(move |store| store.namespaces.update_labels(&name, change)).await??;
        Ok(Response::new(UpdateNamespaceResponse { namespace: Some(wire(namespace.name, labels)) }))
    }

    async fn delete(&self, request: Request<DeleteNamespaceRequest>) -> Result<Response<()>, Status> {
        let name = request.into_inner().name;
        self.with_store(move |store| store.namespaces.delete(&name)).await?;
        Ok(Response::new(()))
    }
}
