//! Health: the daemon's heartbeat on the session; it drops a session that does not answer.

use std::{collections::HashMap, pin::Pin};

use buildd_api::buildkit::health::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
    health_check_response::ServingStatus, health_server::Health,
};
use futures::Stream;
use tonic::{Request, Response, Status};

/// Always serving, as long as it runs.
#[derive(Debug)]
pub(super) struct HealthService;

const SERVING: HealthCheckResponse = HealthCheckResponse { status: ServingStatus::Serving as i32 };

#[tonic::async_trait]
impl Health for HealthService {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn check(&self, _: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        Ok(Response::new(SERVING))
    }

    async fn list(&self, _: Request<HealthListRequest>) -> Result<Response<HealthListResponse>, Status> {
        let statuses = HashMap::from([(String::new(), SERVING)]);
        Ok(Response::new(HealthListResponse { statuses }))
    }

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        use futures::StreamExt as _;
        let stream = futures::stream::once(async { Ok(SERVING) }).chain(futures::stream::pending());
        Ok(Response::new(Box::pin(stream)))
    }
}
