//! Frontend: a program that end-to-end tests pack into an image and builds run as their frontend.
//!
//! It speaks `LLBBridge` over its standard input and output, as any image behind `# syntax=` does. What it does is the first word after the
//! image in `cmdline`, or the option `do`.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    pin::Pin,
    process::ExitCode,
    task::{Context, Poll},
};

use buildd_api::{
    buildkit::{
        google::rpc,
        moby::buildkit::v1::frontend::{
            InputsRequest, NewContainerRequest, PingRequest, ReadFileRequest, Ref, Result as Solved,
            ReturnRequest, SolveRequest, llb_bridge_client::LlbBridgeClient, result::Result as Refs,
        },
        pb,
    },
    llb::{OpOptions, State},
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, Stdin, Stdout};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

type Bridge = LlbBridgeClient<Channel>;
type Options = BTreeMap<String, String>;

/// Standard input and output as one connection.
struct Stdio(Stdin, Stdout);

impl AsyncRead for Stdio {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stdio {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.1).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.1).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.1).poll_shutdown(cx)
    }
}

/// The options, one in each variable.
fn options() -> Options {
    let ours = std::env::vars().filter(|(name, _)| name.starts_with("BUILDKIT_FRONTEND_OPT_"));
    ours.filter_map(|(_, value)| value.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()))).collect()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let opts = options();
    let word = opts.get("cmdline").and_then(|line| line.split_whitespace().nth(1)).map(str::to_owned);
    let what = word.or_else(|| opts.get("do").cloned()).unwrap_or_default();
    match what.as_str() {
        "exit" => {
            let _ = writeln!(io::stderr(), "a word before the end");
            return ExitCode::from(3);
        }
        "silent" => return ExitCode::SUCCESS,
        "garbage" => {
            let _ = io::stdout().write_all(&[b'x'; 4096]);
            let _ = io::stdout().flush();
            std::future::pending::<()>().await;
        }
        _ => {}
    }
    let connector = tower::service_fn(|_| async {
        Ok::<_, io::Error>(TokioIo::new(Stdio(tokio::io::stdin(), tokio::io::stdout())))
    });
    let channel = Endpoint::from_static("http://localhost").connect_with_connector(connector).await;
    let mut bridge = LlbBridgeClient::new(channel.expect("a daemon at the other end"));
    let request = match work(&mut bridge, &what, &opts).await {
        Ok(result) => ReturnRequest { result: Some(result), error: None },
        Err(status) => {
            let error = rpc::Status {
                code: i32::from(status.code()),
                message: status.message().to_owned(),
                details: Vec::new(),
            };
            ReturnRequest { result: None, error: Some(error) }
        }
    };
    bridge.r#return(request).await.expect("the daemon takes the result");
    if what == "linger" {
        std::future::pending::<()>().await;
    }
    // Not by returning: that would wait for the thread that reads standard input.
    std::process::exit(0)
}

async fn work(bridge: &mut Bridge, what: &str, opts: &Options) -> Result<Solved, Status> {
    let caps = bridge.ping(PingRequest {}).await?.into_inner().frontend_api_caps;
    assert!(caps.iter().any(|cap| cap.id == "return"), "{caps:?}");
    match what {
        "error" => Err(Status::invalid_argument("the text is not to my taste")),
        "nest" => {
            let mut opts = opts.clone();
            opts.remove("cmdline");
            opts.insert("do".to_owned(), "nest".to_owned());
            solve(bridge, frontend("gateway.v0", opts)).await
        }
        "host" => {
            let request = NewContainerRequest {
                container_id: "c".to_owned(),
                network: pb::NetMode::Host.into(),
                ..NewContainerRequest::default()
            };
            bridge.new_container(request).await.map(|_| Solved::default())
        }
        "inputs" => {
            let definitions = bridge.inputs(InputsRequest {}).await?.into_inner().definitions;
            let definition = definitions.get("tree").cloned();
            solve(bridge, SolveRequest { definition, ..request() }).await
        }
        "self" => solve(bridge, facts()).await,
        _ => list(bridge, opts).await,
    }
}

fn request() -> SolveRequest {
    SolveRequest { allow_result_return: true, allow_result_array_ref: true, ..SolveRequest::default() }
}

fn frontend(name: &str, opts: Options) -> SolveRequest {
    SolveRequest { frontend: name.to_owned(), frontend_opt: opts.into_iter().collect(), ..request() }
}

async fn solve(bridge: &mut Bridge, request: SolveRequest) -> Result<Solved, Status> {
    Ok(bridge.solve(request).await?.into_inner().result.unwrap_or_default())
}

/// A tree with one file.
fn file(path: &str, text: String) -> SolveRequest {
    let file = pb::FileActionMkFile {
        path: path.to_owned(),
        mode: 0o644,
        data: text.into_bytes(),
        timestamp: -1,
        owner: None,
    };
    let steps = vec![buildd_api::llb::FileStep::MakeFile(file)];
    let state = State::scratch().file(steps, OpOptions::default());
    SolveRequest { definition: state.marshal(None), ..request() }
}

/// What the container shows of itself.
fn facts() -> SolveRequest {
    let id = rustix::process::getuid().as_raw();
    let dir = std::env::current_dir().unwrap_or_default();
    let interfaces = std::fs::read_dir("/sys/class/net").map(Iterator::count).unwrap_or_default();
    let env = |name: &str| std::env::var(name).unwrap_or_default();
    let text = format!(
        "uid {id}\ncwd {}\nmark {}\ninterfaces {interfaces}\nproduct {}\nworkers {}\nsession {}\n",
        dir.display(),
        env("MARK"),
        env("BUILDKIT_EXPORTEDPRODUCT"),
        env("BUILDKIT_WORKERS").starts_with("[{\"id\":"),
        !env("BUILDKIT_SESSION_ID").is_empty(),
    );
    file("/facts", text)
}

/// Reads a list of stages from the client's files and has each built by `dockerfile.v0`; the config of the last goes with the tree.
async fn list(bridge: &mut Bridge, opts: &Options) -> Result<Solved, Status> {
    let _ = writeln!(io::stderr(), "reading the list");
    let session = std::env::var("BUILDKIT_SESSION_ID").unwrap_or_default();
    let attrs = BTreeMap::from([("local.session".to_owned(), session)]);
    let state =
        State::source("local://context", attrs, OpOptions { name: "the list".into(), ..Default::default() });
    let found = solve(bridge, SolveRequest { definition: state.marshal(None), ..request() }).await?;
    let Some(Refs::Ref(Ref { id, .. })) = found.result else {
        return Err(Status::internal("no tree of the context"));
    };
    let wanted = ReadFileRequest { r#ref: id, file_path: "list".to_owned(), ..ReadFileRequest::default() };
    let text = bridge.read_file(wanted).await?.into_inner().data;
    let target = String::from_utf8_lossy(&text).trim().to_owned();
    let mut opts = opts.clone();
    opts.extend([("target".to_owned(), target), ("filename".to_owned(), "real".to_owned())]);
    let mut built = solve(bridge, frontend("dockerfile.v0", opts)).await?;
    built.metadata.insert("made.by".to_owned(), b"the frontend of the tests".to_vec());
    Ok(built)
}
