//! Diff: layers into snapshots, and what two trees differ in as layers.
//!
//! Clients that unpack images themselves call `Apply` between `Snapshots.Prepare` and `Commit`; `Diff` is how a container becomes an image.
//!
//! # Sources
//! containerd `plugins/services/diff`.

use buildd_api::containerd::containerd::{
    services::diff::v1::{ApplyRequest, ApplyResponse, DiffRequest, DiffResponse, diff_server::Diff},
    types::Mount,
};
use buildd_fs::mounts::Mount as RootMount;
use buildd_oci::{descriptor::Descriptor, media_type::OCI_LAYER};
use buildd_store::{
    diff::{self, DiffOptions},
    meta::lease::Resource,
};
use tonic::{Request, Response, Status};

use super::{Services, convert, lease, namespace};

fn mounts(wire: Vec<Mount>) -> Vec<RootMount> {
    let mount = |mount: Mount| RootMount { kind: mount.r#type, source: mount.source, options: mount.options };
    wire.into_iter().map(mount).collect()
}

#[tonic::async_trait]
impl Diff for Services {
    async fn apply(&self, request: Request<ApplyRequest>) -> Result<Response<ApplyResponse>, Status> {
        let ns = namespace(&request)?;
        let request = request.into_inner();
        let layer = convert::descriptor(request.diff)?;
        let mounts = mounts(request.mounts);
        let sync = request.sync_fs;
        let applied = self.with_store(move |store| diff::apply(store, &ns, &layer, &mounts, sync)).await?;
        let layer = Descriptor::new(OCI_LAYER, applied.diff_id, applied.size);
        Ok(Response::new(ApplyResponse { applied: Some(convert::to_descriptor(&layer)) }))
    }

    async fn diff(&self, request: Request<DiffRequest>) -> Result<Response<DiffResponse>, Status> {
        let (ns, lease) = (namespace(&request)?, lease(&request));
        let request = request.into_inner();
        let (left, right) = (mounts(request.left), mounts(request.right));
        let options = DiffOptions {
            media_type: request.media_type,
            labels: convert::labels(request.labels)?,
            epoch: request.source_date_epoch.map(|time| time.seconds),
        };
        let made = self
            .with_store(move |store| {
                // The lease learns of the blob only when it is there.
                let _kept = store.gc_guard();
                let made = diff::diff(store, &ns, &left, &right, &options)?;
                if let Some(lease) = lease {
                    let resource = Resource { kind: "content".to_owned(), id: made.digest.to_string() };
                    store.leases.add(&ns, &lease, &resource)?;
                }
                Ok(made)
            })
            .await?;
        Ok(Response::new(DiffResponse { diff: Some(convert::to_descriptor(&made)) }))
    }
}
