//! Streams: named pipes between a container's process and our standard streams.
//!
//! The daemon is given their paths and its shim opens the other ends, so that the process goes on when we are gone.

use std::{
    fs::Permissions,
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use buildd_api::containerd::containerd::services::tasks::v1::CloseIoRequest;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;
use tokio::{
    io::{AsyncWrite, AsyncWriteExt as _, copy},
    net::unix::pipe::{OpenOptions, Receiver, Sender},
    task::JoinHandle,
};

use super::task::Streams;
use crate::client::Client;

/// How long output may still come after the process ended: whoever inherited the pipe may keep it open for ever.
const DRAIN: Duration = Duration::from_secs(2);

/// The pipes' paths, gone when dropped.
#[derive(Debug)]
pub(super) struct Fifos {
    dir: TempDir,
    streams: Streams,
}

impl Fifos {
    pub(super) fn create(streams: Streams) -> io::Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("buildctl-run-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir()?;
        let fifos = Self { dir, streams };
        for path in [fifos.stdin(), fifos.stdout(), fifos.stderr()] {
            if !path.is_empty() {
                mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
            }
        }
        Ok(fifos)
    }

    fn path(&self, name: &str, wanted: bool) -> String {
        // The folder's name is of our making, so it is text.
        if wanted { self.dir.path().join(name).display().to_string() } else { String::new() }
    }

    pub(super) fn stdin(&self) -> String {
        self.path("stdin", self.streams.stdin)
    }

    pub(super) fn stdout(&self) -> String {
        self.path("stdout", true)
    }

    /// A terminal has one output only.
    pub(super) fn stderr(&self) -> String {
        self.path("stderr", !self.streams.terminal)
    }
}

/// Our ends, open before the daemon hears of the pipes.
#[derive(Debug)]
pub(super) struct Forwarding {
    stdin: Option<Sender>,
    stdout: Receiver,
    stderr: Option<Receiver>,
}

impl Forwarding {
    pub(super) fn open(fifos: &Fifos) -> io::Result<Self> {
        let receiver = |path: String| {
            let path = PathBuf::from(path);
            OpenOptions::new().open_receiver(path)
        };
        // Open for reading too, for a pipe without reader cannot be opened for writing alone.
        let sender = |path: String| OpenOptions::new().read_write(true).open_sender(Path::new(&path));
        Ok(Self {
            stdin: fifos.streams.stdin.then(|| sender(fifos.stdin())).transpose()?,
            stdout: receiver(fifos.stdout())?,
            stderr: (!fifos.streams.terminal).then(|| receiver(fifos.stderr())).transpose()?,
        })
    }

    /// Starts copying.
    pub(super) fn start(self, client: Client, id: String) -> Copying {
        let Self { stdin, stdout, stderr } = self;
        let mut outputs = vec![tokio::spawn(forward(stdout, tokio::io::stdout()))];
        outputs.extend(stderr.map(|stderr| tokio::spawn(forward(stderr, tokio::io::stderr()))));
        let input = stdin.map(|pipe| tokio::spawn(feed(pipe, client, id)));
        Copying { outputs, input }
    }
}

/// Copies in progress.
#[derive(Debug)]
pub(super) struct Copying {
    outputs: Vec<JoinHandle<()>>,
    input: Option<JoinHandle<()>>,
}

impl Copying {
    /// Waits for the rest of the output.
    pub(super) async fn finish(self) {
        if let Some(input) = self.input {
            input.abort();
        }
        for output in self.outputs {
            let abort = output.abort_handle();
            if tokio::time::timeout(DRAIN, output).await.is_err() {
                abort.abort();
            }
        }
    }
}

async fn forward(mut pipe: Receiver, mut out: impl AsyncWrite + Unpin) {
    if let Err(e) = copy(&mut pipe, &mut out).await {
        tracing::debug!(error = %e, "copy the container's output");
    }
    let _ = out.flush().await;
}

/// Copies our input; at its end the process sees the end too.
async fn feed(mut pipe: Sender, client: Client, id: String) {
    let copied = copy(&mut tokio::io::stdin(), &mut pipe).await;
    drop(pipe);
    let request = CloseIoRequest { container_id: id, exec_id: String::new(), stdin: true };
    let closed = client.tasks().close_io(request).await;
    tracing::debug!(?copied, closed = closed.is_ok(), "our standard input ended");
}
