//! Control: builds, their progress, the clients' sessions, the cache.

use std::{sync::Arc, time::SystemTime};

use buildd_api::buildkit::moby::buildkit::v1::{
    BuildHistoryEvent, BuildHistoryRequest, BytesMessage, DiskUsageRequest, DiskUsageResponse, InfoRequest,
    InfoResponse, ListWorkersRequest, ListWorkersResponse, PruneRequest, SolveRequest, SolveResponse,
    StatusRequest, StatusResponse, UpdateBuildHistoryRequest, UpdateBuildHistoryResponse, UsageRecord,
    control_server::Control,
};
use futures::{StreamExt, stream::BoxStream};
use tonic::{Request, Response, Status, Streaming, transport::server::UdsConnectInfo};

use crate::{
    solve::{Builds, event::timestamp, usage, worker_record},
    worker,
};

/// The service.
#[derive(Debug)]
pub(super) struct ControlService {
    builds: Arc<Builds>,
}

impl ControlService {
    /// Over all builds.
    pub(super) fn new(builds: Arc<Builds>) -> Self {
        Self { builds }
    }
}

type Messages<T> = BoxStream<'static, Result<T, Status>>;

/// A response that tells the client our time, by which it corrects for skewed clocks.
fn dated<T>(message: T) -> Response<T> {
    let mut response = Response::new(message);
    let now = timestamp(SystemTime::now());
    let text = prost_types::Timestamp { seconds: now.seconds, nanos: now.nanos }.to_string();
    if let Ok(value) = text.parse() {
        response.metadata_mut().insert("buildkit-current-timestamp", value);
    }
    response
}

#[tonic::async_trait]
impl Control for ControlService {
    type PruneStream = Messages<UsageRecord>;
    type StatusStream = Messages<StatusResponse>;
    type SessionStream = Messages<BytesMessage>;
    type ListenBuildHistoryStream = Messages<BuildHistoryEvent>;

    async fn solve(&self, request: Request<SolveRequest>) -> Result<Response<SolveResponse>, Status> {
        let exporter_response = self.builds.solve(request.into_inner()).await?;
        Ok(Response::new(SolveResponse { exporter_response }))
    }

    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<Self::StatusStream>, Status> {
        let progress = self.builds.progress(&request.into_inner().r#ref).await?;
        let messages = progress.messages().map(|message| Ok((*message).clone()));
        Ok(dated(messages.boxed()))
    }

    async fn session(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let metadata = request.metadata().clone();
        let peer = request.extensions().get::<UdsConnectInfo>().and_then(|info| info.peer_cred);
        let outgoing =
            self.builds.sessions.accept(&metadata, peer.map(|peer| peer.uid()), request.into_inner())?;
        Ok(Response::new(outgoing.boxed()))
    }

    async fn list_workers(
        &self,
        _: Request<ListWorkersRequest>,
    ) -> Result<Response<ListWorkersResponse>, Status> {
        worker::prove_sandbox(&self.builds.worker).await;
        let record = vec![worker_record::of(&self.builds)];
        Ok(Response::new(ListWorkersResponse { record }))
    }

    async fn info(&self, _: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        Ok(Response::new(InfoResponse { buildkit_version: Some(worker_record::version()) }))
    }

    async fn disk_usage(
        &self,
        request: Request<DiskUsageRequest>,
    ) -> Result<Response<DiskUsageResponse>, Status> {
        let record = usage::list(&self.builds, &request.into_inner()).await?;
        Ok(Response::new(DiskUsageResponse { record }))
    }

    async fn prune(&self, request: Request<PruneRequest>) -> Result<Response<Self::PruneStream>, Status> {
        let removed = usage::prune(&self.builds, &request.into_inner()).await?;
        Ok(Response::new(futures::stream::iter(removed.into_iter().map(Ok)).boxed()))
    }

    /// There is no history: a client that only looks gets the end at once, one that watches waits.
    async fn listen_build_history(
        &self,
        request: Request<BuildHistoryRequest>,
    ) -> Result<Response<Self::ListenBuildHistoryStream>, Status> {
        let request = request.into_inner();
        Ok(dated(match request.early_exit {
            true => futures::stream::empty().boxed(),
            false => futures::stream::pending().boxed(),
        }))
    }

    async fn update_build_history(
        &self,
        _: Request<UpdateBuildHistoryRequest>,
    ) -> Result<Response<UpdateBuildHistoryResponse>, Status> {
        Err(Status::unimplemented("this buildd keeps no build history yet"))
    }
}
