//! BuildKit's services: `Control` and `LLBBridge`, health, and a place for clients' spans.
//!
//! Builds live in `solve`; here is only what the wire needs.

pub(crate) mod caps;
mod control;
mod gateway;
mod health;
pub(crate) mod session;
mod trace;
mod transport;
pub(crate) mod worker_record;

use std::sync::Arc;

use buildd_api::buildkit::{
    health::health_server::HealthServer,
    moby::buildkit::v1::{control_server::ControlServer, frontend::llb_bridge_server::LlbBridgeServer},
};
use tonic::{codec::CompressionEncoding, service::RoutesBuilder};

pub(crate) use transport::{CONNECTION_WINDOW, STREAM_WINDOW};

use crate::solve::Builds;

/// Bytes of one message, either way; BuildKit's and containerd's figure.
pub(crate) const MESSAGE_LIMIT: usize = 16 << 20;

/// Adds every service.
pub(crate) fn assemble(routes: &mut RoutesBuilder, builds: &Arc<Builds>) {
    let control = ControlServer::new(control::ControlService::new(Arc::clone(builds)))
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(MESSAGE_LIMIT)
        .max_encoding_message_size(MESSAGE_LIMIT);
    let gateway = LlbBridgeServer::new(gateway::Gateway::new(Arc::clone(builds)))
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(MESSAGE_LIMIT)
        .max_encoding_message_size(MESSAGE_LIMIT);
    routes.add_service(control);
    routes.add_service(gateway);
    routes.add_service(HealthServer::new(health::HealthService));
    routes.add_service(trace::TraceServer);
}
