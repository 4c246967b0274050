//! Task: starts a container's process, stands between it and our terminal, and waits for its end.

use anyhow::{Context as _, Result, anyhow};
use buildd_api::containerd::containerd::{
    services::tasks::v1::{
        CreateTaskRequest, DeleteTaskRequest, KillRequest, ResizePtyRequest, StartRequest, WaitRequest,
    },
    types::Mount,
};
use tokio::signal::unix::{SignalKind, signal};

use super::io::{Fifos, Forwarding};
use crate::{client::Client, terminal};

/// Which of our streams the process gets besides its output.
#[derive(Debug, Clone, Copy)]
pub(super) struct Streams {
    /// Our standard input.
    pub(super) stdin: bool,
    /// A terminal.
    pub(super) terminal: bool,
}

/// Runs the task of container `id`; its exit code.
pub(super) async fn run(client: &Client, id: &str, rootfs: Vec<Mount>, streams: Streams) -> Result<u8> {
    let fifos = Fifos::create(streams).context("make the pipes of the container")?;
    let forwarding = Forwarding::open(&fifos).context("open the pipes of the container")?;
    let request = CreateTaskRequest {
        container_id: id.to_owned(),
        rootfs,
        stdin: fifos.stdin(),
        stdout: fifos.stdout(),
        stderr: fifos.stderr(),
        terminal: streams.terminal,
        ..CreateTaskRequest::default()
    };
    client.tasks().create(request).await.context("start the container")?;
    let ended = started(client, id, streams, forwarding).await;
    let deleted = client.tasks().delete(DeleteTaskRequest { container_id: id.to_owned() }).await;
    let code = ended?;
    deleted.context("remove the task")?;
    Ok(code)
}

async fn started(client: &Client, id: &str, streams: Streams, forwarding: Forwarding) -> Result<u8> {
    let mut tasks = client.tasks();
    let wait = WaitRequest { container_id: id.to_owned(), exec_id: String::new() };
    // Asked for before the start, so that even the shortest process is seen.
    let ended = tokio::spawn(async move { tasks.wait(wait).await });
    let start = StartRequest { container_id: id.to_owned(), exec_id: String::new() };
    if let Err(status) = client.tasks().start(start).await {
        ended.abort();
        return Err(anyhow!(status).context("start the container"));
    }
    let _raw = if streams.terminal { terminal::raw(streams.stdin) } else { None };
    let resizing = streams.terminal.then(|| tokio::spawn(follow_size(client.clone(), id.to_owned())));
    let signals = (!streams.terminal).then(|| tokio::spawn(pass_signals(client.clone(), id.to_owned())));
    let copying = forwarding.start(client.clone(), id.to_owned());
    let exit = ended.await.context("wait for the container")?.context("wait for the container")?.into_inner();
    copying.finish().await;
    for task in [resizing, signals].into_iter().flatten() {
        task.abort();
    }
    Ok(u8::try_from(exit.exit_status).unwrap_or(u8::MAX))
}

/// Tells the container our terminal's size.
async fn follow_size(client: Client, id: String) {
    let mut sizes = terminal::sizes();
    while let Some((width, height)) = sizes.recv().await {
        let request = ResizePtyRequest {
            container_id: id.clone(),
            exec_id: String::new(),
            width: width.into(),
            height: height.into(),
        };
        if let Err(e) = client.tasks().resize_pty(request).await {
            tracing::debug!(error = %e, "resize the terminal");
        }
    }
}

/// What a shell sends us goes to the process, which decides.
async fn pass_signals(client: Client, id: String) {
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::quit(), SignalKind::hangup()];
    let waiting = kinds.into_iter().filter_map(|kind| {
        let mut signals = signal(kind).ok()?;
        let (client, id) = (client.clone(), id.clone());
        Some(async move {
            while signals.recv().await.is_some() {
                let signal = kind.as_raw_value().unsigned_abs();
                let request =
                    KillRequest { container_id: id.clone(), exec_id: String::new(), signal, all: false };
                if let Err(e) = client.tasks().kill(request).await {
                    tracing::debug!(error = %e, "pass on a signal");
                }
            }
        })
    });
    futures::future::join_all(waiting).await;
}
