//! Spans: clients send their own after every command; they are accepted and dropped.
//!
//! Refusing them would make every client log an error and wait.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use tonic::{
    Request, Response, Status,
    body::Body,
    codegen::http,
    server::{Grpc, NamedService, UnaryService},
};
use tonic_prost::ProstCodec;
use tower::Service;

/// OpenTelemetry's trace collector, without a collector behind it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TraceServer;

impl NamedService for TraceServer {
    const NAME: &'static str = "opentelemetry.proto.collector.trace.v1.TraceService";
}

struct Drop;

/// The request is decoded as an empty message: its fields are skipped.
impl UnaryService<()> for Drop {
    type Response = ();
    type Future = Ready<Result<Response<()>, Status>>;

    fn call(&mut self, _spans: Request<()>) -> Self::Future {
        ready(Ok(Response::new(())))
    }
}

impl Service<http::Request<Body>> for TraceServer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let codec = ProstCodec::<(), ()>::default();
            Ok(Grpc::new(codec).unary(Drop, request).await)
        })
    }
}
