//! Events: what happens in the stores and with tasks, as a stream for every client that asks.
//!
//! # Sources
//! containerd `core/events/exchange`, for what is refused.

use std::{collections::BTreeMap, time::SystemTime};

use buildd_api::containerd::containerd::{
    services::events::v1::{ForwardRequest, PublishRequest, SubscribeRequest, events_server::Events},
    types::Envelope,
};
use buildd_store::event::Event;
use futures::{StreamExt, future, stream::BoxStream};
use prost_types::Any;
use tokio_stream::wrappers::{BroadcastStream, errors::BroadcastStreamRecvError};
use tonic::{Request, Response, Status};

use super::{Services, convert, namespace};
use crate::{
    filter::{Fields, Filters},
    status::Answer,
};

/// Events have no labels.
static NO_LABELS: BTreeMap<String, String> = BTreeMap::new();

impl Fields for Event {
    fn field(&self, name: &str) -> Option<String> {
        match name {
            "namespace" => Some(self.namespace.clone()),
            "topic" => Some(self.topic.clone()),
            _ => None,
        }
    }
    fn labels(&self) -> &BTreeMap<String, String> {
        &NO_LABELS
    }
}

fn wire(event: Event) -> Envelope {
    Envelope {
        timestamp: convert::timestamp(event.at),
        namespace: event.namespace,
        topic: event.topic,
        event: Some(Any { type_url: event.type_url, value: event.value }),
    }
}

fn event(at: SystemTime, namespace: String, topic: String, any: Option<Any>) -> Result<Event, Status> {
    let Any { type_url, value } = any.unwrap_or_default();
    let event = Event { at, namespace, topic, type_url, value };
    event.check().or_status()?;
    Ok(event)
}

#[tonic::async_trait]
impl Events for Services {
    type SubscribeStream = BoxStream<'static, Result<Envelope, Status>>;

    async fn publish(&self, request: Request<PublishRequest>) -> Result<Response<()>, Status> {
        let ns = namespace(&request)?;
        let PublishRequest { topic, event: any } = request.into_inner();
        self.store.events().forward(event(SystemTime::now(), ns, topic, any)?);
        Ok(Response::new(()))
    }

    async fn forward(&self, request: Request<ForwardRequest>) -> Result<Response<()>, Status> {
        let envelope = request.into_inner().envelope;
        let envelope = envelope.ok_or_else(|| Status::invalid_argument("an envelope is required"))?;
        let at = envelope.timestamp.and_then(|time| SystemTime::try_from(time).ok());
        let at = at.ok_or_else(|| Status::invalid_argument("an envelope needs its time"))?;
        self.store.events().forward(event(at, envelope.namespace, envelope.topic, envelope.event)?);
        Ok(Response::new(()))
    }

    async fn subscribe(
        &self,
        request: Request<SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let filters = Filters::parse(&request.into_inner().filters)?;
        let events = BroadcastStream::new(self.store.events().listen());
        let wanted = events.filter_map(move |event| {
            future::ready(match event {
                Ok(event) => filters.matches(&event).then(|| Ok(wire(event))),
                Err(BroadcastStreamRecvError::Lagged(missed)) => Some(Err(Status::resource_exhausted(
                    format!("{missed} events were missed: this subscriber reads too slowly"),
                ))),
            })
        });
        Ok(Response::new(wanted.take_until(self.leave.clone().cancelled_owned()).boxed()))
    }
}
