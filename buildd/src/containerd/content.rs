//! Content: blobs by digest, and the ingests that become blobs.

use std::{collections::BTreeMap, sync::Arc};

use buildd_api::containerd::containerd::services::content::v1::{
    AbortRequest, DeleteContentRequest, Info as WireInfo, InfoRequest, InfoResponse, ListContentRequest,
    ListContentResponse, ListStatusesRequest, ListStatusesResponse, ReadContentRequest, ReadContentResponse,
    Status as WireStatus, StatusRequest, StatusResponse, UpdateRequest, UpdateResponse, WriteContentRequest,
    WriteContentResponse, content_server::Content,
};
use buildd_store::{
    Error,
    content::{Info, Status as IngestStatus},
    layer::Blob,
};
use futures::{StreamExt, stream::BoxStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Services, convert, lease, namespace};
use crate::filter::{Fields, Filters};

mod write;

/// Bytes of one message of a read.
const READ_CHUNK: usize = 1 << 20;
/// Messages of a read that wait for the client.
const READ_AHEAD: usize = 4;
/// Rows of one message of a list.
const LIST_CHUNK: usize = 100;

impl Fields for Info {
    fn field(&self, name: &str) -> Option<String> {
        match name {
            "digest" => Some(self.digest.to_string()),
            "size" => Some(self.size.to_string()),
            _ => None,
        }
    }
    fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }
}

fn wire(info: Info) -> WireInfo {
    WireInfo {
        digest: info.digest.to_string(),
        size: convert::signed(info.size),
        labels: info.labels.into_iter().collect(),
        created_at: convert::timestamp(info.created),
        updated_at: convert::timestamp(info.updated),
    }
}

fn wire_status(status: IngestStatus) -> WireStatus {
    WireStatus {
        r#ref: status.name,
        offset: convert::signed(status.offset),
        total: convert::signed(status.total),
        started_at: convert::timestamp(status.started),
        updated_at: convert::timestamp(status.updated),
        expected: String::new(),
    }
}

#[tonic::async_trait]
impl Content for Services {
    type ListStream = BoxStream<'static, Result<ListContentResponse, Status>>;
    type ReadStream = ReceiverStream<Result<ReadContentResponse, Status>>;
    type WriteStream = ReceiverStream<Result<WriteContentResponse, Status>>;

    async fn info(&self, request: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        let ns = namespace(&request)?;
        let digest = convert::digest(&request.into_inner().digest)?;
        let info = self.with_store(move |store| store.content.info(&ns, &digest)).await?;
        Ok(Response::new(InfoResponse { info: Some(wire(info)) }))
    }

    async fn update(&self, request: Request<UpdateRequest>) -> Result<Response<UpdateResponse>, Status> {
        let ns = namespace(&request)?;
        let request = request.into_inner();
        let info = request.info.ok_or_else(|| Status::invalid_argument("info is required"))?;
        let digest = convert::digest(&info.digest)?;
        let change = convert::labels_masked(request.update_mask, info.labels);
        let info = self.with_store(move |store| store.content.update_labels(&ns, &digest, change)).await??;
        Ok(Response::new(UpdateResponse { info: Some(wire(info)) }))
    }

    async fn list(&self, request: Request<ListContentRequest>) -> Result<Response<Self::ListStream>, Status> {
        let ns = namespace(&request)?;
        let filters = Filters::parse(&request.into_inner().filters)?;
        let infos = self.with_store(move |store| store.content.list(&ns)).await?;
        let infos: Vec<WireInfo> = infos.into_iter().filter(|info| filters.matches(info)).map(wire).collect();
        let messages = futures::stream::iter(infos).chunks(LIST_CHUNK);
        Ok(Response::new(messages.map(|info| Ok(ListContentResponse { info })).boxed()))
    }

    async fn delete(&self, request: Request<DeleteContentRequest>) -> Result<Response<()>, Status> {
        let ns = namespace(&request)?;
        let digest = convert::digest(&request.into_inner().digest)?;
        self.with_store(move |store| store.content.delete(&ns, &digest)).await?;
        Ok(Response::new(()))
    }

    async fn read(&self, request: Request<ReadContentRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let ns = namespace(&request)?;
        let request = request.into_inner();
        let digest = convert::digest(&request.digest)?;
        let offset = convert::unsigned(request.offset)?;
        let wanted = convert::unsigned(request.size)?;
        let (blob, size) = self
            .with_store(move |store| {
                let size = store.content.info(&ns, &digest)?.size;
                Ok((store.content.open_blob(&digest)?, size))
            })
            .await?;
        if offset > size {
            return Err(Status::out_of_range(format!(
                "offset {offset} is beyond the {size} bytes of {digest}"
            )));
        }
        let end = if wanted == 0 { size } else { size.min(offset.saturating_add(wanted)) };
        let (sender, receiver) = mpsc::channel(READ_AHEAD);
        tokio::spawn(send_range(Arc::new(blob), offset, end, sender));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let ns = namespace(&request)?;
        let name = request.into_inner().r#ref;
        let statuses = self.with_store(move |store| store.content.statuses(&ns)).await?;
        let status = statuses.into_iter().find(|status| status.name == name);
        let status = status.ok_or_else(|| Status::not_found(format!("ingest {name:?} not found")))?;
        Ok(Response::new(StatusResponse { status: Some(wire_status(status)) }))
    }

    async fn list_statuses(
        &self,
        request: Request<ListStatusesRequest>,
    ) -> Result<Response<ListStatusesResponse>, Status> {
        let ns = namespace(&request)?;
        let statuses = self.with_store(move |store| store.content.statuses(&ns)).await?;
        let statuses = statuses.into_iter().map(wire_status).collect();
        Ok(Response::new(ListStatusesResponse { statuses }))
    }

    async fn write(
        &self,
        request: Request<Streaming<WriteContentRequest>>,
    ) -> Result<Response<Self::WriteStream>, Status> {
        let ns = namespace(&request)?;
        let lease = lease(&request);
        let (sender, receiver) = mpsc::channel(READ_AHEAD);
        let ingest = write::Ingest::new(self.clone(), ns, lease);
        tokio::spawn(ingest.run(request.into_inner(), sender));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn abort(&self, request: Request<AbortRequest>) -> Result<Response<()>, Status> {
        let ns = namespace(&request)?;
        let name = request.into_inner().r#ref;
        self.with_store(move |store| store.content.abort(&ns, &name)).await?;
        Ok(Response::new(()))
    }
}

/// Sends the range until its end or until the client leaves. A client that does not read keeps a task waiting, and no thread.
async fn send_range(
    blob: Arc<Blob>,
    mut offset: u64,
    end: u64,
    sender: mpsc::Sender<Result<ReadContentResponse, Status>>,
) {
    while offset < end {
        // A place in the queue comes first: nothing is read that could not be sent.
        let Ok(place) = sender.reserve().await else { return };
        let length = usize::try_from(end - offset).map_or(READ_CHUNK, |left| left.min(READ_CHUNK));
        let blob = Arc::clone(&blob);
        let read = move || {
            let mut data = vec![0; length];
            blob.read_exact_at(&mut data, offset).map(|()| data)
        };
        match buildd_fs::blocking::run(read).await {
            Ok(data) => place.send(Ok(ReadContentResponse { offset: convert::signed(offset), data })),
            Err(source) => {
                let error = Error::File { operation: "read", path: "blob".into(), source };
                return place.send(Err(crate::status::of(&error)));
            }
        }
        offset += length as u64;
    }
}
