//! Health: what orchestrators and containerd's clients ask first.

use buildd_api::buildkit::health::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
    health_check_response::ServingStatus, health_server::Health,
};
use futures::{StreamExt, stream::BoxStream};
use tonic::{Request, Response, Status};

/// A daemon that answers is healthy: every service starts before the socket opens.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct HealthService;

fn serving() -> HealthCheckResponse {
    HealthCheckResponse { status: ServingStatus::Serving.into() }
}

#[tonic::async_trait]
impl Health for HealthService {
    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn check(&self, _: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        Ok(Response::new(serving()))
    }

    async fn list(&self, _: Request<HealthListRequest>) -> Result<Response<HealthListResponse>, Status> {
        let statuses = [(String::new(), serving())].into();
        Ok(Response::new(HealthListResponse { statuses }))
    }

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let states = futures::stream::iter([Ok(serving())]).chain(futures::stream::pending());
        Ok(Response::new(states.boxed()))
    }
}
