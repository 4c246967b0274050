//! Gateway frontend: one frontend of a build: what it was given, the containers it opens, and what it returns.
//!
//! The client of a build may be it, or the program of an image, which a frontend may ask for in turn: then one build has several, each deeper
//! by one. Results that a build keeps are shared by all: their names cannot be guessed.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use buildd_api::buildkit::pb;
use buildd_frontend::FrontendResult;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::sandbox::Sandboxes;

/// What a frontend returned.
pub(crate) type Returned = Result<FrontendResult, Status>;

/// One frontend.
#[derive(Debug)]
pub(crate) struct GatewayFrontend {
    /// Definitions that it was given beside its options.
    pub(crate) inputs: BTreeMap<String, pb::Definition>,
    /// How many frontends ask for what this one makes; 0 is the client.
    pub(crate) depth: usize,
    /// Its containers.
    pub(crate) sandboxes: Sandboxes,
    called: watch::Sender<bool>,
    done: CancellationToken,
    returned: Mutex<Option<oneshot::Sender<Returned>>>,
}

impl GatewayFrontend {
    /// A frontend that has said nothing yet; the receiver gets what it returns.
    pub(super) fn new(
        depth: usize,
        inputs: BTreeMap<String, pb::Definition>,
    ) -> (Self, oneshot::Receiver<Returned>) {
        let (sender, receiver) = oneshot::channel();
        let frontend = Self {
            inputs,
            depth,
            sandboxes: Sandboxes::default(),
            called: watch::Sender::new(false),
            done: CancellationToken::new(),
            returned: Mutex::new(Some(sender)),
        };
        (frontend, receiver)
    }

    /// The frontend has made a call.
    pub(crate) fn hear(&self) {
        self.called.send_replace(true);
    }

    /// The first call of the frontend.
    pub(super) async fn first_call(&self) {
        // The sender lives as long as this.
        let _ = self.called.subscribe().wait_for(|called| *called).await;
    }

    /// The frontend is done.
    pub(crate) fn finish(&self, returned: Returned) -> Result<(), Status> {
        let sender = self.returned.lock().unwrap_or_else(PoisonError::into_inner).take();
        let sender = sender.ok_or_else(|| Status::failed_precondition("this build has returned already"))?;
        self.done.cancel();
        sender.send(returned).map_err(|_| Status::cancelled("the build has ended"))
    }

    /// Cancelled when the frontend has returned: what it asked may still be answered.
    pub(crate) fn done(&self) -> CancellationToken {
        self.done.clone()
    }
}
