//! Solve: carries a plan out: session, status and solve at once, then waits until the display has shown all.

use std::{collections::HashMap, time::Duration};

use anyhow::{Context as _, Result, anyhow};
use buildd_api::buildkit::moby::buildkit::v1::{
    StatusRequest, StatusResponse, control_client::ControlClient,
};
use tokio::{sync::mpsc, task::JoinHandle};
use tonic::transport::Channel;

use super::{
    on_error::{Debugged, Failure},
    plan::Plan,
};
use crate::{
    client::Client,
    error::Coded,
    id::new_id,
    progress::{Display, Mode, Outcome, display},
    session::Session,
};

/// How long the daemon may take to end the status stream after the build's end.
const STATUS_GRACE: Duration = Duration::from_secs(5);
/// Status messages that wait for the terminal; when full, the daemon waits.
const QUEUE: usize = 256;
/// Exit code after Ctrl-C, as shells expect it.
const INTERRUPTED: u8 = 130;

/// Builds; what the exporters said.
pub(super) async fn solve(client: &Client, plan: Plan, mode: Mode) -> Result<HashMap<String, String>> {
    let Plan { mut request, session, temporary, shell_on_error, .. } = plan;
    let session = Session::open(client.channel(), session).await?;
    let id = new_id();
    request.r#ref.clone_from(&id);
    session.id().clone_into(&mut request.session);
    let (updates, shown) = mpsc::channel(QUEUE);
    let debugged = shell_on_error.then(|| Debugged::new(client, &id, &mut request));
    let mut display = Some(tokio::spawn(display(mode, shown)));
    let status = tokio::spawn(follow(client.control(), id, updates, shell_on_error));
    let mut control = client.control();
    let solved = tokio::select! {
        failed = debug(debugged, &mut display) => Err(failed),
        solved = control.solve(request) => solved.map_err(anyhow::Error::new),
        signal = tokio::signal::ctrl_c() => {
            signal.context("wait for Ctrl-C")?;
            // Dropping the call cancels the build.
            Err(Coded { code: INTERRUPTED, error: anyhow!("canceled") }.into())
        }
    };
    let abort = status.abort_handle();
    if tokio::time::timeout(STATUS_GRACE, status).await.is_err() {
        abort.abort();
    }
    if let Some(display) = display {
        let display = display.await.context("show progress")?;
        display.finish(if solved.is_ok() { Outcome::Done } else { Outcome::Failed });
    }
    drop(session);
    drop(temporary);
    let response = solved.map_err(|e| if e.is::<Coded>() { e } else { e.context("failed to build") })?;
    Ok(response.into_inner().exporter_response)
}

/// Is the frontend of the build, if it is to be debugged; returns only if that fails.
async fn debug(debugged: Option<Debugged>, display: &mut Option<JoinHandle<Display>>) -> anyhow::Error {
    let Some(mut debugged) = debugged else { return std::future::pending().await };
    let solved = debugged.solve().await;
    if let Some(failure) = solved.as_ref().err().and_then(Failure::of) {
        // The display ends with the failure: the terminal is the shell's now.
        if let Some(showing) = display.take()
            && let Ok(Ok(shown)) = tokio::time::timeout(STATUS_GRACE, showing).await
        {
            shown.finish(Outcome::Failed);
        }
        eprintln!("a shell where the step failed; `exit` ends it and the build");
        if let Err(error) = debugged.shell(failure).await {
            eprintln!("{error:#}");
        }
    }
    match debugged.finish(solved).await {
        Ok(()) => std::future::pending().await,
        Err(error) => error,
    }
}

/// Hands every status message to the display until the daemon ends the stream, or a step has failed if that is the end.
async fn follow(
    mut control: ControlClient<Channel>,
    id: String,
    updates: mpsc::Sender<StatusResponse>,
    until_failure: bool,
) {
    let stream = control.status(StatusRequest { r#ref: id }).await;
    let mut stream = match stream {
        Ok(stream) => stream.into_inner(),
        // A build that fails before it starts has no status; its own error says why.
        Err(e) => return tracing::debug!(error = %e, "no status"),
    };
    while let Ok(Some(update)) = stream.message().await {
        let failed = update.vertexes.iter().any(|vertex| !vertex.error.is_empty());
        if updates.send(update).await.is_err() || (failed && until_failure) {
            return;
        }
    }
}
