//! Process: what runs in a frontend's container, over one stream of messages both ways.
//!
//! ```text
//! client: Init, File(0)*, Resize*, Signal*        daemon: Started, File(1|2)*, File(eof)*, Exit, Done
//! ```
//! Several processes share a stream, told apart by their ids. One ends when the client's call, its container or the build does.

use std::collections::HashMap;

use async_trait::async_trait;
use buildd_api::buildkit::{
    google::rpc,
    moby::buildkit::v1::frontend::{
        DoneMessage, ExecMessage, ExitMessage, FdMessage, InitMessage, StartedMessage, exec_message::Input,
    },
    pb,
};
use buildd_runtime::step::{Dialogue, Order, Output};
use buildd_solver::op::OpContext;
use buildd_worker::sandbox::{ProcessRequest, Sandbox};
use futures::Stream;
use tokio::{sync::mpsc, task::JoinSet};
use tonic::{Code, Status, Streaming};

use super::Caller;

/// Messages that wait for the client; when full, the process waits.
const QUEUE: usize = 32;
/// What a process that did not tell its exit code is said to have had: BuildKit's figure.
const UNKNOWN_EXIT: u32 = 255;

type Answer = Result<ExecMessage, Status>;

/// A process as its client's messages reach it.
struct Talking {
    input: Option<mpsc::Sender<Vec<u8>>>,
    orders: mpsc::Sender<Order>,
}

/// Runs processes as the client says; the answers.
pub(super) fn run(
    caller: Caller,
    incoming: Streaming<ExecMessage>,
) -> impl Stream<Item = Answer> + Send + use<> {
    let (answers, outgoing) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let closed = caller.frontend.sandboxes.closed().clone();
        tokio::select! {
            () = talk(&caller, incoming, &answers) => {}
            () = closed.cancelled() => {
                let _ = answers.send(Err(Status::cancelled("the build has ended"))).await;
            }
            // The client left.
            () = answers.closed() => {}
        }
    });
    tokio_stream::wrappers::ReceiverStream::new(outgoing)
}

/// Dropped, it ends every process.
async fn talk(caller: &Caller, mut incoming: Streaming<ExecMessage>, answers: &mpsc::Sender<Answer>) {
    let mut running = JoinSet::new();
    let mut processes: HashMap<String, Talking> = HashMap::new();
    loop {
        let message = match incoming.message().await {
            Ok(Some(message)) => message,
            // Nothing more will be said; what runs may end in peace.
            Ok(None) => break while running.join_next().await.is_some() {},
            Err(_) => return,
        };
        let id = message.process_id;
        let refused = match message.input {
            Some(Input::Init(init)) if processes.contains_key(&id) => Some(Status::already_exists(format!(
                "process {id} of container {} exists",
                init.container_id
            ))),
            Some(Input::Init(init)) => match start(caller, &id, init, answers, &mut running) {
                Ok(talking) => {
                    processes.insert(id, talking);
                    None
                }
                Err(status) => Some(status),
            },
            Some(input) => match processes.get_mut(&id) {
                Some(talking) => talking.take(input).await.err(),
                None => Some(Status::not_found(format!("no such process: {id}"))),
            },
            None => Some(Status::invalid_argument("a message without content")),
        };
        if let Some(status) = refused {
            let _ = answers.send(Err(status)).await;
            return;
        }
    }
}

impl Talking {
    async fn take(&mut self, input: Input) -> Result<(), Status> {
        match input {
            Input::File(piece) if piece.fd == 0 => {
                // A process that has ended takes nothing: no failure of the client's.
                if let Some(input) = self.input.as_ref().filter(|_| !piece.data.is_empty()) {
                    let _ = input.send(piece.data).await;
                }
                if piece.eof {
                    self.input = None;
                }
            }
            Input::Resize(size) => {
                let clamp = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
                let order = Order::Resize { rows: clamp(size.rows), columns: clamp(size.cols) };
                let _ = self.orders.send(order).await;
            }
            Input::Signal(signal) => {
                let bad = || Status::invalid_argument(format!("{:?} is no signal", signal.name));
                let _ = self.orders.send(Order::signal(&signal.name).ok_or_else(bad)?).await;
            }
            _ => return Err(Status::invalid_argument("a message that only the daemon sends")),
        }
        Ok(())
    }
}

fn start(
    caller: &Caller,
    id: &str,
    init: InitMessage,
    answers: &mpsc::Sender<Answer>,
    running: &mut JoinSet<()>,
) -> Result<Talking, Status> {
    let security = init.security();
    caller.build.granted().check_step(pb::NetMode::Unset, security)?;
    let sandbox = caller.frontend.sandboxes.get(&init.container_id)?;
    let context = caller.build.context(&init.container_id);
    let (input, orders, dialogue) = Dialogue::new();
    let request = ProcessRequest {
        meta: init.meta.ok_or_else(|| Status::invalid_argument("a process needs a program"))?,
        security: security.into(),
        secret_env: init.secretenv,
        stdin: init.fds.contains(&0),
        terminal: init.tty,
    };
    let process = Running { id: id.to_owned(), fds: init.fds, answers: answers.clone() };
    running.spawn(async move { process.run(&sandbox, &context, request, dialogue).await });
    Ok(Talking { input: Some(input), orders })
}

/// A process as it answers.
struct Running {
    id: String,
    fds: Vec<u32>,
    answers: mpsc::Sender<Answer>,
}

impl Running {
    async fn run(&self, sandbox: &Sandbox, cx: &OpContext, request: ProcessRequest, dialogue: Dialogue) {
        self.say(Input::Started(StartedMessage {})).await;
        let ended = sandbox.run(cx, request, self, dialogue).await;
        for fd in self.fds.iter().filter(|fd| **fd != 0) {
            self.say(Input::File(FdMessage { fd: *fd, eof: true, data: Vec::new() })).await;
        }
        let exit = match ended {
            Ok(()) => ExitMessage::default(),
            Err(error) => {
                let message = crate::status::text(&error, error.hint.clone());
                let error_status =
                    rpc::Status { code: i32::from(Code::Unknown), message, ..rpc::Status::default() };
                ExitMessage { code: error.exit_code.unwrap_or(UNKNOWN_EXIT), error: Some(error_status) }
            }
        };
        self.say(Input::Exit(exit)).await;
        self.say(Input::Done(DoneMessage {})).await;
    }

    async fn say(&self, input: Input) {
        let _ = self.answers.send(Ok(ExecMessage { process_id: self.id.clone(), input: Some(input) })).await;
    }
}

#[async_trait]
impl Output for Running {
    async fn take(&self, stream: u32, bytes: &[u8]) {
        if self.fds.contains(&stream) {
            self.say(Input::File(FdMessage { fd: stream, eof: false, data: bytes.to_vec() })).await;
        }
    }
}
