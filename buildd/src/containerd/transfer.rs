//! Transfer: images between archives, names and registries, moved by the daemon.
//!
//! The kinds of source and destination decide: a registry or an archive stream into the store, the store into one of them, one name to another.

mod export;
mod import;
mod progress;
mod registry;

use buildd_api::containerd::containerd::{
    services::transfer::v1::{TransferRequest, transfer_server::Transfer},
    types::transfer::{ImageExportStream, ImageImportStream, ImageStore, OciRegistry},
};
use buildd_oci::platform::Platform;
use prost_types::Any;
use tonic::{Request, Response, Status};

use self::progress::Report;
use super::{Services, namespace, streaming::open};

enum End {
    Store(ImageStore),
    Import(ImageImportStream),
    Export(ImageExportStream),
    Registry(OciRegistry),
}

fn end(any: Option<Any>, side: &str) -> Result<End, Status> {
    let any = any.ok_or_else(|| Status::invalid_argument(format!("a transfer needs a {side}")))?;
    if let Some(store) = open::<ImageStore>(&any)? {
        return Ok(End::Store(store));
    }
    if let Some(import) = open::<ImageImportStream>(&any)? {
        return Ok(End::Import(import));
    }
    if let Some(export) = open::<ImageExportStream>(&any)? {
        return Ok(End::Export(export));
    }
    if let Some(registry) = open::<OciRegistry>(&any)? {
        return Ok(End::Registry(registry));
    }
    Err(Status::unimplemented(format!("transfers with the {side} {:?}", any.type_url)))
}

#[tonic::async_trait]
impl Transfer for Services {
    async fn transfer(&self, request: Request<TransferRequest>) -> Result<Response<()>, Status> {
        let ns = namespace(&request)?;
        let request = request.into_inner();
        let (source, destination) =
            (end(request.source, "source")?, end(request.destination, "destination")?);
        let progress = request.options.map(|options| options.progress_stream).unwrap_or_default();
        let report = match progress.is_empty() {
            true => Report::none(),
            false => Report::to(self.streams.take(&ns, &progress).await?),
        };
        match (source, destination) {
            (End::Import(stream), End::Store(store)) => self.import(ns, stream, store, &report).await?,
            (End::Store(store), End::Export(stream)) => self.export(ns, store, stream, &report).await?,
            (End::Registry(from), End::Store(store)) => self.pull(ns, from, store, &report).await?,
            (End::Store(store), End::Registry(to)) => self.push(ns, store, to, &report).await?,
            (End::Registry(from), End::Registry(to)) => self.copy(ns, from, to, &report).await?,
            (End::Store(from), End::Store(to)) => self.tag(ns, from, to, &report).await?,
            _ => return Err(Status::unimplemented("a transfer between these two")),
        }
        report.finish().await;
        Ok(Response::new(()))
    }
}

fn platform(wire: &buildd_api::containerd::containerd::types::Platform) -> Platform {
    Platform::new(&wire.os, &wire.architecture, &wire.variant)
}

impl Services {
    async fn tag(&self, ns: String, from: ImageStore, to: ImageStore, report: &Report) -> Result<(), Status> {
        if to.name.is_empty() {
            return Err(Status::invalid_argument("an image needs a name"));
        }
        let name = to.name.clone();
        self.with_store(move |store| {
            let image = store.images.get(&ns, &from.name)?;
            // Compat: a transfer gives the name away whatever it named; only `Images.Create` asks first.
            store.images.put(&ns, &to.name, &image.target, &image.labels)
        })
        .await?;
        report.event("saved", &name);
        Ok(())
    }
}
