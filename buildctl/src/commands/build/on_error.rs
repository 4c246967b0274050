//! On error: a shell in the files of the step that failed, with its mounts and environment.
//!
//! To be allowed in, we are the frontend of the build ourselves: we ask the daemon's own to solve, return what it gives, and in between
//! open a container over what the failed step left. That is how BuildKit's debuggers do it.

use std::{collections::HashMap, io::IsTerminal as _};

use anyhow::{Context as _, Result, anyhow};
use buildd_api::{
    buildkit::{
        google::rpc,
        moby::buildkit::v1::{
            SolveRequest,
            frontend::{
                self as wire, ExecMessage, FdMessage, InitMessage, ResizeMessage, exec_message::Input,
                llb_bridge_client::LlbBridgeClient,
            },
        },
        pb,
    },
    error_detail::{self, Detail, FailedStep},
};
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, transport::Channel};

use crate::{client::Client, connection::MESSAGE_BYTES, id::new_id, terminal};

/// Our name for the shell, which is alone in its container.
const PROCESS: &str = "shell";
/// Messages that wait for the daemon.
const QUEUE: usize = 16;
/// Bytes of input in one message.
const CHUNK: usize = 32 << 10;

/// A build whose frontend we are.
#[derive(Debug)]
pub(super) struct Debugged {
    bridge: LlbBridgeClient<Channel>,
    build: String,
    solve: wire::SolveRequest,
}

/// A step that failed, and the names of the trees that its mounts showed.
#[derive(Debug)]
pub(super) struct Failure {
    step: FailedStep,
    mounts: Vec<String>,
}

impl Failure {
    /// What a failed build tells about its step; None if no step failed.
    pub(super) fn of(status: &Status) -> Option<Self> {
        error_detail::decode(status.details()).into_iter().find_map(|detail| match detail {
            Detail::Solve { mount_ids, step: Some(step), .. } => {
                Some(Self { step: *step, mounts: mount_ids })
            }
            _ => None,
        })
    }
}

impl Debugged {
    /// Takes the frontend out of a request.
    pub(super) fn new(client: &Client, build: &str, request: &mut SolveRequest) -> Self {
        let bridge = LlbBridgeClient::new(client.channel())
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES);
        let solve = wire::SolveRequest {
            definition: request.definition.take(),
            frontend: std::mem::take(&mut request.frontend),
            frontend_opt: request.frontend_attrs.clone(),
            frontend_inputs: std::mem::take(&mut request.frontend_inputs),
            allow_result_return: true,
            allow_result_array_ref: true,
            evaluate: true,
            ..wire::SolveRequest::default()
        };
        Self { bridge, build: build.to_owned(), solve }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let id = self.build.parse().expect("our ids are plain letters");
        request.metadata_mut().insert("buildkit-controlapi-buildid", id);
        request
    }

    /// Builds all of it.
    pub(super) async fn solve(&mut self) -> Result<wire::Result, Status> {
        let request = self.request(self.solve.clone());
        let answer = self.bridge.solve(request).await?.into_inner();
        answer.result.ok_or_else(|| Status::internal("the daemon solved without a result"))
    }

    /// Ends the build with what it gave.
    pub(super) async fn finish(&mut self, solved: Result<wire::Result, Status>) -> Result<()> {
        let answer = match solved {
            Ok(result) => wire::ReturnRequest { result: Some(result), error: None },
            Err(status) => {
                let plain = || rpc::Status {
                    code: i32::from(status.code()),
                    message: status.message().to_owned(),
                    details: Vec::new(),
                };
                let error = match status.details() {
                    [] => plain(),
                    details => rpc::Status::decode(details).unwrap_or_else(|_| plain()),
                };
                wire::ReturnRequest { result: None, error: Some(error) }
            }
        };
        let request = self.request(answer);
        self.bridge.r#return(request).await.context("end the build")?;
        Ok(())
    }

    /// Opens a shell where the step failed, and waits for its end.
    pub(super) async fn shell(&mut self, failure: Failure) -> Result<()> {
        let Failure { step: FailedStep { exec, platform }, mounts } = failure;
        let meta = exec.meta.clone().unwrap_or_default();
        let named = exec.mounts.iter().zip(mounts);
        let mounts = named.map(|(mount, result_id)| pb::Mount { result_id, ..mount.clone() }).collect();
        let id = new_id();
        let container = wire::NewContainerRequest {
            container_id: id.clone(),
            mounts,
            network: exec.network,
            platform,
            extra_hosts: meta.extra_hosts.clone(),
            hostname: meta.hostname.clone(),
            ..wire::NewContainerRequest::default()
        };
        let request = self.request(container);
        self.bridge.new_container(request).await.context("open a container where the step failed")?;
        let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        let mut env = meta.env;
        if let (true, Ok(term)) = (terminal, std::env::var("TERM")) {
            env.push(format!("TERM={term}"));
        }
        let init = InitMessage {
            container_id: id,
            meta: Some(pb::Meta {
                args: vec!["/bin/sh".to_owned()],
                env,
                cwd: meta.cwd,
                user: meta.user,
                ..pb::Meta::default()
            }),
            fds: if terminal { vec![0, 1] } else { vec![0, 1, 2] },
            tty: terminal,
            security: exec.security,
            secretenv: exec.secretenv,
        };
        self.converse(init).await
    }

    async fn converse(&mut self, init: InitMessage) -> Result<()> {
        let raw = terminal::raw(init.tty);
        let (say, said) = mpsc::channel(QUEUE);
        let terminal = init.tty;
        say.send(message(Input::Init(init))).await.context("start the shell")?;
        let request = self.request(ReceiverStream::new(said));
        let mut answers = self.bridge.exec_process(request).await.context("start the shell")?.into_inner();
        let input = tokio::spawn(feed(say.clone()));
        let sizes = terminal.then(|| tokio::spawn(resize(say)));
        let mut outputs: HashMap<u32, Box<dyn tokio::io::AsyncWrite + Send + Unpin>> = HashMap::new();
        outputs.insert(1, Box::new(tokio::io::stdout()));
        outputs.insert(2, Box::new(tokio::io::stderr()));
        let ended = loop {
            match answers.message().await.context("talk to the shell")?.and_then(|answer| answer.input) {
                Some(Input::File(piece)) => {
                    if let Some(output) = outputs.get_mut(&piece.fd) {
                        output.write_all(&piece.data).await.context("show the shell's output")?;
                        output.flush().await.context("show the shell's output")?;
                    }
                }
                // A shell ends with the code of its last command: only what kept it from starting is an error.
                Some(Input::Exit(exit)) if matches!(exit.code, 125 | 255) => {
                    let why = exit.error.map(|error| error.message).unwrap_or_default();
                    break Err(anyhow!("no shell can be opened there: {why}"));
                }
                Some(Input::Done(_)) | None => break Ok(()),
                Some(_) => {}
            }
        };
        input.abort();
        if let Some(sizes) = sizes {
            sizes.abort();
        }
        drop(raw);
        ended
    }
}

fn message(input: Input) -> ExecMessage {
    ExecMessage { process_id: PROCESS.to_owned(), input: Some(input) }
}

/// Sends our standard input; at its end the shell sees the end too.
async fn feed(say: mpsc::Sender<ExecMessage>) {
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = stdin.read(&mut buffer).await.unwrap_or(0);
        let piece = FdMessage { fd: 0, eof: read == 0, data: buffer[..read].to_vec() };
        if say.send(message(Input::File(piece))).await.is_err() || read == 0 {
            return;
        }
    }
}

async fn resize(say: mpsc::Sender<ExecMessage>) {
    let mut sizes = terminal::sizes();
    while let Some((columns, rows)) = sizes.recv().await {
        let size = ResizeMessage { rows: rows.into(), cols: columns.into() };
        if say.send(message(Input::Resize(size))).await.is_err() {
            return;
        }
    }
}
