//! Export: what becomes of a built tree: an image of our store, an archive or a tree for the client.
//!
//! The daemon calls it once for each exporter of a request. Nothing is visible, and nobody is answered, before all that
//! the answer names is durable.
//!
//! # Sources
//! spec solver 2.5.

use std::{collections::BTreeMap, io::Write, sync::Arc, time::Duration};

use base64::Engine;
use buildd_fs::pipeline::Limit;
use buildd_oci::{
    archive::{self, ExportImage, Kind, Platforms},
    descriptor::Descriptor,
    reference::Reference,
};
use buildd_solver::{op::OpError, result::OpResult};
use buildd_store::{
    chunks,
    layer::{ExportOptions, write_tar},
    meta::lease::WorkLease,
    transfer::progress::Watch,
};
use tokio::sync::mpsc;
use trees::Trees;

use crate::{
    error::{Error, Result, op_error},
    session::Session,
    worker::Worker,
};

mod annotations;
mod attributes;
mod drivers;
mod image;
mod layers;
mod push;
mod trees;

pub use attributes::Attributes;

/// How long a client may take to receive an archive before its blobs may be collected.
const EXPORT_TIME: Duration = Duration::from_secs(6 * 3600);
/// Archives that go to clients at once: stops clients that read slowly from taking all threads the daemon may have.
static EXPORTS: Limit = Limit::new("export", 128);

/// One platform of a result.
#[derive(Clone, Debug)]
pub struct ExportTree {
    /// `linux/amd64`; empty if the build has one platform only.
    pub platform: String,
    /// The tree; None is the empty one.
    pub result: Option<OpResult>,
    /// The image config that the frontend wrote; none makes a default one.
    pub config: Option<Vec<u8>>,
}

/// What to export.
#[derive(Clone, Debug)]
pub struct ExportRequest {
    /// `image`, `oci`, `docker`, `tar` or `local`.
    pub kind: String,
    /// The client's attributes.
    pub attributes: BTreeMap<String, String>,
    /// The trees.
    pub trees: Vec<ExportTree>,
    /// Number of this exporter in the request.
    pub exporter: usize,
    /// No time is later than this, in seconds since 1970.
    pub epoch: Option<i64>,
    /// How far a push is.
    pub watch: Watch,
}

/// An export at work.
#[derive(Debug)]
struct Export {
    worker: Arc<Worker>,
    session: Option<Arc<dyn Session>>,
    request: ExportRequest,
    attributes: Attributes,
}

/// What clients are told of an export; the keys are those that BuildKit's clients read.
type Answer = BTreeMap<String, String>;

/// Exports.
pub async fn export(
    worker: &Arc<Worker>,
    session: Option<Arc<dyn Session>>,
    request: ExportRequest,
) -> Result<Answer, OpError> {
    let driver = drivers::find(&request.kind).map_err(op_error)?;
    let attributes = Attributes::parse(&request, driver).map_err(op_error)?;
    (driver.export)(Export { worker: Arc::clone(worker), session, request, attributes }).await
}

/// An image in our store, and in the registries of its names if it is to be pushed.
async fn export_image(export: Export) -> Result<Answer, OpError> {
    let Export { worker, session, request, attributes } = export;
    let (made, _) = make_image(&worker, &request, &attributes, &attributes.names).await?;
    if attributes.push {
        let pushed = push::push(&worker, session, &made.target, &attributes, &request.watch);
        pushed.await.map_err(op_error)?;
    }
    Ok(answer(&made, &attributes.names))
}

/// An archive of an image, for the client.
async fn export_archive(export: Export, kind: Kind) -> Result<Answer, OpError> {
    let Export { worker, session, request, attributes } = export;
    let (made, _leased) = make_image(&worker, &request, &attributes, &[]).await?;
    let answer = answer(&made, &attributes.names);
    let export = ExportImage { names: attributes.names.clone(), target: made.target.clone() };
    let content = worker.store.content.in_namespace(&worker.namespace);
    let write = move |out: &mut dyn Write| {
        archive::export(&content, &[export], &Platforms::All, kind, out).map(drop).map_err(Error::from)
    };
    stream(session, request.exporter, answer.clone(), write).await?;
    Ok(answer)
}

/// The tree as a tar archive, for the client.
async fn export_tar(export: Export) -> Result<Answer, OpError> {
    let Export { worker, session, request, attributes } = export;
    let trees = Trees::of(&request, &attributes).map_err(op_error)?;
    let options = ExportOptions { epoch: attributes.epoch };
    let write =
        move |out: &mut dyn Write| Ok(write_tar(&trees.view(&worker)?.path(), out, options).map(drop)?);
    stream(session, request.exporter, Answer::new(), write).await?;
    Ok(Answer::new())
}

/// The tree, file by file, for the client.
async fn export_local(export: Export) -> Result<Answer, OpError> {
    let Export { worker, session, request, attributes } = export;
    let view = Trees::of(&request, &attributes).and_then(|trees| trees.view(&worker));
    let view = view.map_err(op_error)?;
    let session = session.ok_or_else(no_client)?;
    let sent = session.send_tree(request.exporter, view.path(), attributes.epoch).await;
    sent.map_err(|error| OpError::new(error.kind, error))?;
    Ok(Answer::new())
}

fn no_client() -> OpError {
    let reason = "has no client session to send it to".to_owned();
    op_error(Error::Precondition { what: "export", name: "archive".to_owned(), reason })
}

/// Makes the image and names it; one without a name is kept by a lease that ends with the value.
async fn make_image(
    worker: &Arc<Worker>,
    request: &ExportRequest,
    attributes: &Attributes,
    names: &[String],
) -> Result<(image::CreatedImage, Option<WorkLease>), OpError> {
    let (worker, request, attributes) = (worker.clone(), request.clone(), attributes.clone());
    let names = names.to_vec();
    let work = move || -> Result<_> {
        let _kept = worker.store.gc_guard();
        let made = image::make(&worker, &request, &attributes)?;
        names.iter().try_for_each(|name| image::publish(&worker, name, &made))?;
        let lease = || -> Result<_> {
            let lease = worker.store.leases.work(&worker.namespace, "export", EXPORT_TIME)?;
            lease.hold_blob(&made.target.digest)?;
            Ok(lease)
        };
        let leased = names.is_empty().then(lease).transpose()?;
        Ok((made, leased))
    };
    buildd_fs::blocking::run(work).await.map_err(op_error)
}

fn answer(made: &image::CreatedImage, names: &[String]) -> BTreeMap<String, String> {
    let descriptor: &Descriptor = &made.target;
    let json = serde_json::to_vec(descriptor).expect("strings and numbers have a JSON form");
    let mut answer = BTreeMap::from([
        ("containerimage.digest".to_owned(), descriptor.digest.to_string()),
        ("containerimage.descriptor".to_owned(), base64::engine::general_purpose::STANDARD.encode(json)),
    ]);
    if let Some(config) = &made.config {
        answer.insert("containerimage.config.digest".to_owned(), config.to_string());
    }
    if !names.is_empty() {
        answer.insert("image.name".to_owned(), names.join(","));
    }
    answer
}

/// Sends what `write` writes, while it writes.
async fn stream(
    session: Option<Arc<dyn Session>>,
    exporter: usize,
    metadata: BTreeMap<String, String>,
    write: impl FnOnce(&mut dyn Write) -> Result<()> + Send + 'static,
) -> Result<(), OpError> {
    let session = session.ok_or_else(no_client)?;
    let pipeline = EXPORTS.enter().await;
    let (queue, pieces) = mpsc::channel(chunks::QUEUE);
    let writing = pipeline.start(move || chunks::written(queue, |out| write(out)));
    let sending = session.send_tar(exporter, metadata, pieces);
    let (written, sent) = tokio::join!(writing.ended(), sending);
    written.map_err(op_error)?;
    sent.map_err(|error| OpError::new(error.kind, error))
}

/// An image name in its canonical form.
pub(crate) fn canonical(name: &str) -> Result<String> {
    Ok(Reference::parse(name)?.with_default_tag().to_string())
}
