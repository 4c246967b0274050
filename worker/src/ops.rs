//! Ops: the work behind the vertices of a definition that are not sources.

pub(crate) mod exec;
pub(crate) mod file;
pub(crate) mod merge;

use buildd_solver::op::{OpContext, OpError};

use crate::{session::SessionError, worker::Worker};

/// A secret of a client that takes part; None if that client has none of this id.
pub(crate) async fn secret(worker: &Worker, cx: &OpContext, id: &str) -> Result<Option<Vec<u8>>, OpError> {
    let fail = |error: SessionError| OpError::new(error.kind, error);
    let session = worker.sessions.any(&cx.sessions.ids()).await.map_err(fail)?;
    session.secret(id).await.map_err(fail)
}
