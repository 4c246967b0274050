//! Snapshots: the store's layers under containerd's names.
//!
//! # Sources
//! containerd `plugins/services/snapshots`.

use std::collections::BTreeMap;

use buildd_api::containerd::containerd::{
    services::snapshots::v1::{
        CleanupRequest, CommitSnapshotRequest, Info, Kind as WireKind, ListSnapshotsRequest,
        ListSnapshotsResponse, MountsRequest, MountsResponse, PrepareSnapshotRequest,
        PrepareSnapshotResponse, RemoveSnapshotRequest, StatSnapshotRequest, StatSnapshotResponse,
        UpdateSnapshotRequest, UpdateSnapshotResponse, UsageRequest, UsageResponse, ViewSnapshotRequest,
        ViewSnapshotResponse, snapshots_server::Snapshots,
    },
    types::Mount,
};
use buildd_fs::mounts::Mount as RootMount;
use buildd_store::snapshot::named::{Kind, NamedSnapshot, Scope};
use futures::{StreamExt, stream::BoxStream};
use tonic::{Request, Response, Status};

use super::{Services, convert, lease, namespace};
use crate::{
    filter::{Fields, Filters},
    status::Answer,
};

/// Snapshots in one message of a list.
const PAGE: usize = 100;

impl Fields for NamedSnapshot {
    fn field(&self, name: &str) -> Option<String> {
        match name {
            "name" => Some(self.name.clone()),
            "parent" => Some(self.parent.clone()),
            "kind" => Some(self.kind.word().to_owned()),
            _ => None,
        }
    }
    fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }
}

fn scope<T>(request: &Request<T>, snapshotter: &str) -> Result<Scope, Status> {
    Scope::new(&namespace(request)?, snapshotter).or_status()
}

/// The kind of a lease's resource.
fn kind(scope: &Scope) -> String {
    format!("snapshots/{}", scope.snapshotter)
}

fn wire(snapshot: NamedSnapshot) -> Info {
    let kind = match snapshot.kind {
        Kind::Active => WireKind::Active,
        Kind::View => WireKind::View,
        Kind::Committed => WireKind::Committed,
    };
    Info {
        name: snapshot.name,
        parent: snapshot.parent,
        kind: kind.into(),
        created_at: convert::timestamp(snapshot.created),
        updated_at: convert::timestamp(snapshot.updated),
        labels: snapshot.labels.into_iter().collect(),
    }
}

fn mounts(mounts: Vec<RootMount>) -> Vec<Mount> {
    let wire = |mount: RootMount| Mount {
        r#type: mount.kind,
        source: mount.source,
        options: mount.options,
        ..Mount::default()
    };
    mounts.into_iter().map(wire).collect()
}

#[tonic::async_trait]
impl Snapshots for Services {
    type ListStream = BoxStream<'static, Result<ListSnapshotsResponse, Status>>;

    async fn prepare(
        &self,
        request: Request<PrepareSnapshotRequest>,
    ) -> Result<Response<PrepareSnapshotResponse>, Status> {
        let (scope, lease) = (scope(&request, &request.get_ref().snapshotter)?, lease(&request));
        let PrepareSnapshotRequest { key, parent, labels, .. } = request.into_inner();
        self.leased(&scope.ns, lease, kind(&scope), &key).await?;
        let labels = convert::labels(labels)?;
        let made = self
            .with_store(move |store| store.named_snapshots.prepare(&scope, &key, &parent, &labels))
            .await?;
        Ok(Response::new(PrepareSnapshotResponse { mounts: mounts(made) }))
    }

    async fn view(
        &self,
        request: Request<ViewSnapshotRequest>,
    ) -> Result<Response<ViewSnapshotResponse>, Status> {
        let (scope, lease) = (scope(&request, &request.get_ref().snapshotter)?, lease(&request));
        let ViewSnapshotRequest { key, parent, labels, .. } = request.into_inner();
        self.leased(&scope.ns, lease, kind(&scope), &key).await?;
        let labels = convert::labels(labels)?;
        let made =
            self.with_store(move |store| store.named_snapshots.view(&scope, &key, &parent, &labels)).await?;
        Ok(Response::new(ViewSnapshotResponse { mounts: mounts(made) }))
    }

    async fn mounts(&self, request: Request<MountsRequest>) -> Result<Response<MountsResponse>, Status> {
        let scope = scope(&request, &request.get_ref().snapshotter)?;
        let key = request.into_inner().key;
        let found = self.with_store(move |store| store.named_snapshots.mounts(&scope, &key)).await?;
        Ok(Response::new(MountsResponse { mounts: mounts(found) }))
    }

    async fn commit(&self, request: Request<CommitSnapshotRequest>) -> Result<Response<()>, Status> {
        let (scope, lease) = (scope(&request, &request.get_ref().snapshotter)?, lease(&request));
        let CommitSnapshotRequest { name, key, labels, .. } = request.into_inner();
        self.leased(&scope.ns, lease, kind(&scope), &name).await?;
        let labels = convert::labels(labels)?;
        self.with_store(move |store| store.named_snapshots.commit(&scope, &name, &key, &labels)).await?;
        Ok(Response::new(()))
    }

    async fn remove(&self, request: Request<RemoveSnapshotRequest>) -> Result<Response<()>, Status> {
        let scope = scope(&request, &request.get_ref().snapshotter)?;
        let key = request.into_inner().key;
        self.with_store(move |store| store.named_snapshots.remove(&scope, &key)).await?;
        self.collector.soon();
        Ok(Response::new(()))
    }

    async fn stat(
        &self,
        request: Request<StatSnapshotRequest>,
    ) -> Result<Response<StatSnapshotResponse>, Status> {
        let scope = scope(&request, &request.get_ref().snapshotter)?;
        let key = request.into_inner().key;
        let found = self.with_store(move |store| store.named_snapshots.stat(&scope, &key)).await?;
        Ok(Response::new(StatSnapshotResponse { info: Some(wire(found)) }))
    }

    async fn update(
        &self,
        request: Request<UpdateSnapshotRequest>,
    ) -> Result<Response<UpdateSnapshotResponse>, Status> {
        let scope = scope(&request, &request.get_ref().snapshotter)?;
        let request = request.into_inner();
        let info = request.info.ok_or_else(|| Status::invalid_argument("an info is required"))?;
        let change = convert::labels_masked(request.update_mask, info.labels);
        let updated =
            self.with_store(move |store| store.named_snapshots.update_labels(&scope, &info.name, change));
        Ok(Response::new(UpdateSnapshotResponse { info: Some(wire(updated.await??)) }))
    }

    async fn list(
        &self,
        request: Request<ListSnapshotsRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        let scope = scope(&request, &request.get_ref().snapshotter)?;
        let filters = Filters::parse(&request.into_inner().filters)?;
        let mut found = self.with_store(move |store| store.named_snapshots.list(&scope)).await?;
        found.retain(|snapshot| filters.matches(snapshot));
        let all: Vec<Info> = found.into_iter().map(wire).collect();
        let pages: Vec<_> =
            all.chunks(PAGE).map(|page| Ok(ListSnapshotsResponse { info: page.to_vec() })).collect();
        Ok(Response::new(futures::stream::iter(pages).boxed()))
    }

    async fn usage(&self, request: Request<UsageRequest>) -> Result<Response<UsageResponse>, Status> {
        let scope = scope(&request, &request.get_ref().snapshotter)?;
        let key = request.into_inner().key;
        let (size, inodes) = self.with_store(move |store| store.named_snapshots.usage(&scope, &key)).await?;
        Ok(Response::new(UsageResponse { size: convert::signed(size), inodes: convert::signed(inodes) }))
    }

    async fn cleanup(&self, request: Request<CleanupRequest>) -> Result<Response<()>, Status> {
        // Removal leaves nothing for later.
        scope(&request, &request.get_ref().snapshotter)?;
        Ok(Response::new(()))
    }
}
