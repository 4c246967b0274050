//! Events: what happened, told to whoever listens, in containerd's words.
//!
//! The stores publish after their transaction, clients may publish their own; the Events service and nobody else listens. An event is not
//! kept: who does not listen when it happens never learns of it.
//!
//! # Invariants
//! Publishing never waits and never fails. A listener that falls behind is told how many events it missed.

use std::time::SystemTime;

use prost::{Message, Name};
use tokio::sync::broadcast;

use crate::{
    error::{Error, Result},
    identifier,
};

/// Events kept for listeners that are slower than we; together with `MAX_EVENT` this bounds what one of them costs.
const WAITING: usize = 1024;
/// Bytes of a client's own event.
const MAX_EVENT: usize = 64 << 10;
/// Bytes of a topic.
const MAX_TOPIC: usize = 1024;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: SystemTime,
    /// In which namespace.
    pub namespace: String,
    /// A path such as `/images/create`.
    pub topic: String,
    /// The name of the message's type.
    pub type_url: String,
    /// The message.
    pub value: Vec<u8>,
}

impl Event {
    /// Fails unless a client may publish it.
    pub fn check(&self) -> Result<()> {
        identifier::check(&self.namespace)?;
        let refused = |reason: String| Error::Invalid {
            what: "event",
            name: self.topic.chars().take(MAX_TOPIC).collect(),
            reason,
        };
        let words = self.topic.strip_prefix('/').filter(|words| words.len() <= MAX_TOPIC);
        if !words.is_some_and(|words| words.split('/').all(|word| identifier::check(word).is_ok())) {
            return Err(refused("a topic is a path of words such as /images/create".to_owned()));
        }
        match self.value.len() <= MAX_EVENT {
            true => Ok(()),
            false => Err(refused(format!("its message has more than {MAX_EVENT} bytes"))),
        }
    }
}

/// The events of a daemon.
#[derive(Debug)]
pub struct Events(broadcast::Sender<Event>);

impl Default for Events {
    fn default() -> Self {
        Self(broadcast::Sender::new(WAITING))
    }
}

impl Events {
    /// Tells that something happened just now.
    pub fn publish<M: Message + Name>(&self, namespace: &str, topic: &str, message: &M) {
        self.forward(Event {
            at: SystemTime::now(),
            namespace: namespace.to_owned(),
            topic: topic.to_owned(),
            type_url: M::full_name(),
            value: message.encode_to_vec(),
        });
    }

    /// Tells of an event.
    pub fn forward(&self, event: Event) {
        if self.0.send(event).is_err() {
            tracing::trace!("nobody listens to events");
        }
    }

    /// All events from now on.
    pub fn listen(&self) -> broadcast::Receiver<Event> {
        self.0.subscribe()
    }
}

#[cfg(test)]
mod tests;
