//! Containers of a frontend: processes over LLBBridge, and the shell that `--on-error=shell` opens.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use buildd_api::{
    buildkit::{
        moby::buildkit::v1::{
            SolveRequest,
            control_client::ControlClient,
            frontend::{
                self as wire, ExecMessage, FdMessage, InitMessage, ResizeMessage, SignalMessage,
                exec_message::Input, llb_bridge_client::LlbBridgeClient,
            },
        },
        pb,
    },
    llb::{OpOptions, State},
};
use buildd_tests::{
    daemon::{Daemon, Ran, eventually},
    fixture::{context, import_base, text},
};
use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Request, Streaming,
    transport::{Channel, Endpoint},
};

const BUILD: &str = "gateway-test";

fn named<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("buildkit-controlapi-buildid", BUILD.parse().expect("ASCII"));
    request
}

pub(crate) async fn connect(daemon: &Daemon) -> Channel {
    let path = daemon.address().strip_prefix("unix://").expect("a socket").to_owned();
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://localhost").connect_with_connector(connector).await.expect("a daemon")
}

/// A process in a container.
struct Process {
    say: mpsc::Sender<ExecMessage>,
    answers: Streaming<ExecMessage>,
    out: [String; 3],
}

impl Process {
    async fn start(bridge: &mut LlbBridgeClient<Channel>, script: &str, tty: bool) -> Self {
        let (say, said) = mpsc::channel(16);
        let meta = pb::Meta {
            args: ["sh", "-c", script].map(str::to_owned).to_vec(),
            env: vec!["PATH=/bin:/usr/bin".to_owned()],
            ..pb::Meta::default()
        };
        let fds = if tty { vec![0, 1] } else { vec![0, 1, 2] };
        let init =
            InitMessage { container_id: "c".into(), meta: Some(meta), fds, tty, ..InitMessage::default() };
        let mut process = Self {
            say,
            answers: {
                let first = bridge.exec_process(named(ReceiverStream::new(said)));
                // The stream opens with its first message.
                first.await.expect("a stream").into_inner()
            },
            out: Default::default(),
        };
        process.tell(Input::Init(init)).await;
        process
    }

    async fn tell(&mut self, input: Input) {
        let message = ExecMessage { process_id: "p".to_owned(), input: Some(input) };
        self.say.send(message).await.expect("the call is open");
    }

    /// Collects output until it has `text` in it.
    async fn until(&mut self, text: &str) {
        while !self.out.iter().any(|out| out.contains(text)) {
            let answer = self.answers.message().await.expect("an answer").expect("more to come");
            self.take(answer);
        }
    }

    fn take(&mut self, answer: ExecMessage) -> Option<u32> {
        match answer.input {
            Some(Input::File(piece)) => {
                let stream = &mut self.out[usize::try_from(piece.fd).expect("small")];
                stream.push_str(&String::from_utf8_lossy(&piece.data));
                None
            }
            Some(Input::Exit(exit)) => Some(exit.code),
            _ => None,
        }
    }

    /// The exit code, with all output in place.
    async fn end(&mut self) -> u32 {
        let mut code = None;
        while let Some(answer) = self.answers.message().await.expect("an answer") {
            let done = matches!(answer.input, Some(Input::Done(_)));
            code = self.take(answer).or(code);
            if done {
                break;
            }
        }
        code.expect("an exit code")
    }
}

fn mount(dest: &str, result_id: &str) -> pb::Mount {
    pb::Mount { dest: dest.to_owned(), result_id: result_id.to_owned(), ..pb::Mount::default() }
}

async fn open(bridge: &mut LlbBridgeClient<Channel>) {
    let name = "docker-image://docker.io/library/alpine:latest";
    let state = State::source(name, BTreeMap::new(), OpOptions::default());
    let solve = wire::SolveRequest {
        definition: state.marshal(None),
        allow_result_return: true,
        ..wire::SolveRequest::default()
    };
    let solved = bridge.solve(named(solve)).await.expect("solved").into_inner().result.expect("a result");
    let Some(wire::result::Result::Ref(one)) = solved.result else { panic!("one tree: {solved:?}") };
    let container = wire::NewContainerRequest {
        container_id: "c".to_owned(),
        mounts: vec![mount("/", &one.id)],
        ..wire::NewContainerRequest::default()
    };
    bridge.new_container(named(container.clone())).await.expect("a container");
    let again = bridge.new_container(named(container.clone())).await.expect_err("the name is taken");
    assert_eq!(again.code(), Code::AlreadyExists);
    let host = wire::NewContainerRequest {
        container_id: "h".into(),
        network: pb::NetMode::Host.into(),
        ..container
    };
    let refused = bridge.new_container(named(host)).await.expect_err("not granted");
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("network.host"), "{refused}");
}

async fn processes(bridge: &mut LlbBridgeClient<Channel>) {
    let script = "echo out; echo err >&2; echo shared > /f; read x; echo got $x; exit 7";
    let mut process = Process::start(bridge, script, false).await;
    let word = FdMessage { fd: 0, eof: true, data: b"word\n".to_vec() };
    process.tell(Input::File(word)).await;
    assert_eq!(process.end().await, 7);
    assert_eq!((process.out[1].as_str(), process.out[2].as_str()), ("out\ngot word\n", "err\n"));

    let mut other = Process::start(bridge, "cat /f; wc -c", false).await;
    other.tell(Input::File(FdMessage { fd: 0, eof: true, data: vec![b'x'; 100_000] })).await;
    assert_eq!(other.end().await, 0);
    assert_eq!(other.out[1], "shared\n100000\n");

    let script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.1; done";
    let mut trapped = Process::start(bridge, script, false).await;
    trapped.until("ready").await;
    trapped.tell(Input::Signal(SignalMessage { name: "TERM".to_owned() })).await;
    assert_eq!(trapped.end().await, 9);

    let script =
        "tty; while [ \"$(stty size)\" != '33 101' ]; do sleep 0.05; done; echo sized; read x; echo $x$x";
    let mut terminal = Process::start(bridge, script, true).await;
    terminal.until("/dev/").await;
    terminal.tell(Input::Resize(ResizeMessage { rows: 33, cols: 101 })).await;
    terminal.until("sized").await;
    terminal.tell(Input::File(FdMessage { fd: 0, eof: false, data: b"ab\n".to_vec() })).await;
    assert_eq!(terminal.end().await, 0);
    assert!(terminal.out[1].contains("abab"), "{:?}", terminal.out);
}

async fn files(bridge: &mut LlbBridgeClient<Channel>) {
    let file = |path: &str, mount_index| wire::ReadFileRequest {
        r#ref: "c".to_owned(),
        file_path: path.to_owned(),
        mount_index,
        ..wire::ReadFileRequest::default()
    };
    let read = bridge.read_file_container(named(file("/f", 0))).await.expect("read").into_inner();
    assert_eq!(read.data, b"shared\n");
    for (path, mount, code) in
        [("/none", 0, Code::NotFound), ("/f", 1, Code::NotFound), ("/f", -1, Code::InvalidArgument)]
    {
        let error = bridge.read_file_container(named(file(path, mount))).await.expect_err("no such file");
        assert_eq!(error.code(), code, "{path} of mount {mount}: {error}");
    }
    let stat = wire::StatFileRequest { r#ref: "c".into(), path: "/f".into(), ..Default::default() };
    let stat = bridge.stat_file_container(named(stat)).await.expect("a stat").into_inner().stat;
    assert_eq!(stat.map(|stat| stat.size), Some(7));
    let dir = wire::ReadDirRequest { r#ref: "c".into(), dir_path: "/".into(), ..Default::default() };
    let entries = bridge.read_dir_container(named(dir)).await.expect("a list").into_inner().entries;
    assert!(entries.iter().any(|entry| entry.path == "f"), "{entries:?}");
}

#[test]
fn processes_of_a_container_talk_share_files_and_end_with_the_build() {
    let daemon = Daemon::start();
    import_base(&daemon);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let channel = connect(&daemon).await;
        let mut control = ControlClient::new(channel.clone());
        let build = SolveRequest { r#ref: BUILD.to_owned(), ..SolveRequest::default() };
        let built = tokio::spawn(async move { control.solve(build).await });
        let mut bridge = LlbBridgeClient::new(channel);
        open(&mut bridge).await;
        processes(&mut bridge).await;
        files(&mut bridge).await;
        let mut endless = Process::start(&mut bridge, "echo on; sleep 1000", false).await;
        endless.until("on").await;
        bridge.r#return(named(wire::ReturnRequest::default())).await.expect("returned");
        built.await.expect("joined").expect("built");
        let end = endless.answers.message().await.expect_err("ended with the build");
        assert_eq!(end.code(), Code::Cancelled);
    });
    let root = daemon.path("root/snapshots");
    eventually("the end of its mounts", || {
        !fs::read_to_string("/proc/self/mountinfo").expect("mounts").contains(text(&root))
    });
}

fn shell(daemon: &Daemon, dir: &str, typed: &str) -> Ran {
    let mut command: Command = daemon.command("buildctl");
    command.args(["build", "--progress=plain", "--on-error=shell", "-t", "debugged:v1", dir]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("buildctl starts");
    let mut input = child.stdin.take().expect("piped");
    // It may end without reading.
    let _ = input.write_all(typed.as_bytes());
    drop(input);
    child.wait_with_output().expect("buildctl ends").into()
}

#[test]
fn a_failed_step_can_be_entered() {
    let daemon = Daemon::start();
    import_base(&daemon);
    let dir = context(&[(
        "Dockerfile",
        "FROM alpine\nWORKDIR /work\nENV GREETING=hello\nCOPY a.txt .\n\
         RUN --mount=type=tmpfs,target=/memory echo half > made && false\n",
    )]);
    fs::write(dir.path().join("a.txt"), "a").expect("written");
    let typed = "pwd; cat made a.txt; echo $GREETING; grep -c ' /memory ' /proc/mounts; exit 3\n";
    let ran = shell(&daemon, text(dir.path()), typed)
        .fails(1, &["exit code: 1", ">>> RUN --mount", "exit` ends it"]);
    assert_eq!(ran.stdout, "/work\nhalf\nahello\n1\n");

    fs::write(dir.path().join("Dockerfile"), "FROM scratch\nCOPY a.txt /bin/false\nRUN [\"/bin/false\"]\n")
        .expect("written");
    shell(&daemon, text(dir.path()), "pwd\n").fails(1, &["no shell can be opened there", "/bin/sh"]);

    fs::write(dir.path().join("Dockerfile"), "FROM alpine\nCOPY a.txt /\n").expect("written");
    shell(&daemon, text(dir.path()), "").ok();
    daemon.buildctl(&["image", "inspect", "debugged:v1"]).ok();
}
