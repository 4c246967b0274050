//! BuildKit's services: `Control` and `LLBBridge`, health, and a place for clients' spans.
//!
//! Builds live in `solve`; here is only what the wire needs.

pub(crate) mod caps;
mod control;
mod gateway;
mod health;
mod trace;

use std::sync::Arc;

use buildd_api::buildkit::{
    health::health_server::HealthServer,
    moby::buildkit::v1::{control_server::ControlServer, frontend::llb_bridge_server::LlbBridgeServer},
};
use futures::{StreamExt, future::BoxFuture, stream};
use gateway::Gateway;
use tokio::io::DuplexStream;
use tonic::{Status, codec::CompressionEncoding, service::RoutesBuilder, transport::Server};

use crate::{
    session::transport::{CONNECTION_WINDOW, MESSAGE_LIMIT, STREAM_WINDOW},
    solve::{Build, Builds, gateway_frontend::GatewayFrontend},
};

/// Calls of a frontend's program that run at once: stops one that makes very many.
const MAX_CALLS: u32 = 128;

/// Adds every service.
pub(crate) fn assemble(routes: &mut RoutesBuilder, builds: &Arc<Builds>) {
    let control = ControlServer::new(control::ControlService::new(Arc::clone(builds)))
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(MESSAGE_LIMIT)
        .max_encoding_message_size(MESSAGE_LIMIT);
    routes.add_service(control);
    routes.add_service(bridge(Gateway::new(Arc::clone(builds))));
    routes.add_service(HealthServer::new(health::HealthService));
    routes.add_service(trace::TraceServer);
}

fn bridge(gateway: Gateway) -> LlbBridgeServer<Gateway> {
    LlbBridgeServer::new(gateway)
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(MESSAGE_LIMIT)
        .max_encoding_message_size(MESSAGE_LIMIT)
}

/// Serves `LLBBridge` to one frontend on a connection of its own, which is closed when it has returned.
pub(crate) fn serve_frontend(
    connection: DuplexStream,
    build: &Arc<Build>,
    frontend: &Arc<GatewayFrontend>,
) -> Result<BoxFuture<'static, ()>, Status> {
    let gateway = Gateway::of(build.all()?, Arc::clone(build), Arc::clone(frontend));
    // A server that nobody else can connect to goes on waiting: its owner drops it.
    let incoming = stream::iter([Ok::<_, std::io::Error>(connection)]).chain(stream::pending());
    let server = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_CALLS)
        .add_service(bridge(gateway))
        .add_service(HealthServer::new(health::HealthService))
        .serve_with_incoming_shutdown(incoming, frontend.done().cancelled_owned());
    Ok(Box::pin(async move {
        if let Err(error) = server.await {
            tracing::debug!(%error, "serve a frontend");
        }
    }))
}
