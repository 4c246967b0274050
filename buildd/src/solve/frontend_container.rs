//! Frontend container: an image that runs as the frontend of a build, in a container whose standard input and output are a connection to us.
//!
//! ```text
//! image -> config -> tree -> container -- HTTP/2 over its stdin and stdout --> LLBBridge -> Return
//! ```
//! The program is the client of that connection and may ask what the client of a build may ask, with the permissions of the same request. What
//! it says on standard error is shown. Its files are thrown away with it.
//!
//! # Invariants
//! It ends with the call that wants its result. It has a result only if it said so with `Return`; one that left an error code has none.
//!
//! # Sources
//! moby/buildkit `frontend/gateway/gateway.go`: environment, labels, which error comes first.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use async_trait::async_trait;
use buildd_api::{
    buildkit::pb,
    llb::{OpOptions, State},
};
use buildd_frontend::{
    FrontendResult,
    request::{SOURCE_OPTION, wanted_capabilities},
};
use buildd_oci::{config::ImageConfig, platform::Platform, reference::Reference};
use buildd_runtime::step::{Dialogue, Output};
use buildd_solver::{op::OpError, result::OpResult};
use buildd_worker::sandbox::{ProcessRequest, Sandbox, SandboxRequest};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf},
    sync::mpsc,
    time::{sleep, timeout},
};
use tonic::Status;

use super::{
    Build, Returned, failure, gateway_frontend::GatewayFrontend, image, stage::Stage, worker_record,
};
use crate::status;

/// How deep frontends may ask for frontends: stops an image that asks for itself.
const MAX_DEPTH: usize = 8;
/// How many may run for one build at once: stops one that asks for very many.
const MAX_CONTAINERS: usize = 16;
/// How long the program may take to its first call: one that never speaks would hold its build for ever.
const FIRST_CALL: Duration = Duration::from_secs(60);
/// How long it may go on after it has returned, or closed its connection.
const LINGER: Duration = Duration::from_secs(3);
/// Bytes between it and us that wait to be read.
const PIPE: usize = 64 << 10;
/// Bytes of its last words that an error repeats.
const LAST_WORDS: usize = 2 << 10;
/// What it needs to be able to do with definitions that it is given.
const INPUTS: &str = "moby.buildkit.frontend.inputs";

/// An image ready to run.
struct FrontendContainer {
    reference: String,
    config: ImageConfig,
    tree: Option<OpResult>,
}

/// Runs the image that the option `source` names, for a frontend that is `depth` deep.
pub(super) async fn run(
    build: &Arc<Build>,
    opts: BTreeMap<String, String>,
    inputs: BTreeMap<String, pb::Definition>,
    depth: usize,
) -> Result<FrontendResult, Status> {
    let missing = || Status::invalid_argument("gateway.v0 needs the option source: the image to run");
    let source = opts.get(SOURCE_OPTION).filter(|source| !source.is_empty()).ok_or_else(missing)?.clone();
    if depth >= MAX_DEPTH {
        return Err(Status::resource_exhausted(format!(
            "frontend {source}: frontends ask for frontends more than {MAX_DEPTH} deep"
        )));
    }
    let _place = ContainerSlot::take(build, &source)?;
    let container = FrontendContainer::find(build, &source).await?;
    container.check(&opts, !inputs.is_empty())?;
    let stage = build.begin(&format!("[internal] run frontend {}", container.reference));
    let talk = Talk { stage, last: Mutex::default() };
    let served = container.serve(build, opts, inputs, depth + 1, &talk).await;
    let returned = served.unwrap_or_else(|status| Err(talk.explain(&source, &status)));
    talk.stage.end(returned.as_ref().err());
    returned
}

/// One of the places for frontend_containers of a build.
struct ContainerSlot<'a>(&'a Build);

impl<'a> ContainerSlot<'a> {
    fn take(build: &'a Build, source: &str) -> Result<Self, Status> {
        let place = Self(build);
        if build.frontend_containers.fetch_add(1, Ordering::Relaxed) < MAX_CONTAINERS {
            return Ok(place);
        }
        Err(Status::resource_exhausted(format!(
            "frontend {source}: more than {MAX_CONTAINERS} frontends run for this build"
        )))
    }
}

impl Drop for ContainerSlot<'_> {
    fn drop(&mut self) {
        self.0.frontend_containers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl FrontendContainer {
    async fn find(build: &Build, source: &str) -> Result<Self, Status> {
        let reference = Reference::parse(source).map_err(|error| status::of(&error))?.with_default_tag();
        let mut name = reference.to_string();
        let platform = Platform::host();
        let resolve = image::resolve(build, &name, &platform, "");
        let title = format!("resolve image config for docker-image://{name}");
        let (digest, config) = build.stage(&title, resolve).await?;
        if !name.contains('@') {
            name = format!("{name}@{digest}");
        }
        let config = ImageConfig::parse(&config).map_err(|error| status::of(&error))?;
        let identifier = format!("docker-image://{name}");
        let options = OpOptions { name: identifier.clone(), ..OpOptions::default() };
        let state = State::source(&identifier, BTreeMap::new(), options);
        let definition = state.marshal(None).expect("a source is a vertex");
        let tree = build.solve(&definition).await?;
        Ok(Self { reference: name, config, tree })
    }

    fn label(&self, name: &str) -> &str {
        let labels = self.config.config.labels.as_ref();
        labels.and_then(|labels| labels.get(name)).map_or("", String::as_str)
    }

    /// Refuses an image that cannot do what the client needs.
    fn check(&self, opts: &BTreeMap<String, String>, has_inputs: bool) -> Result<(), Status> {
        let can: Vec<&str> = self.label("moby.buildkit.frontend.caps").split(',').map(str::trim).collect();
        match wanted_capabilities(opts).chain(has_inputs.then_some(INPUTS)).find(|name| !can.contains(name)) {
            None => Ok(()),
            Some(name) => Err(Status::unimplemented(format!(
                "frontend {}: unsupported frontend capability {name}",
                self.reference
            ))),
        }
    }

    fn process(&self, build: &Build, opts: BTreeMap<String, String>) -> Result<ProcessRequest, Status> {
        let builds = build.all()?;
        let config = &self.config.config;
        let mut env = config.env.clone().unwrap_or_default();
        for (number, (name, value)) in opts.iter().enumerate() {
            env.push(format!("BUILDKIT_FRONTEND_OPT_{number}={name}={value}"));
        }
        env.push(format!("BUILDKIT_SESSION_ID={}", build.session));
        env.push(format!("BUILDKIT_WORKERS={}", worker_record::list(&builds.uuid, &builds.labels)));
        env.push("BUILDKIT_EXPORTEDPRODUCT=buildkit".to_owned());
        let args = config.entrypoint.clone().filter(|args| !args.is_empty());
        let meta = pb::Meta {
            args: args.unwrap_or_else(|| vec!["/run".to_owned()]),
            env,
            cwd: config.working_dir.clone(),
            user: config.user.clone(),
            ..pb::Meta::default()
        };
        Ok(ProcessRequest { meta, stdin: true, ..ProcessRequest::default() })
    }

    /// The container: the image's files, and no network if the image says that it needs none.
    async fn sandbox(&self, build: &Build, id: &str) -> Result<Sandbox, Status> {
        let offline =
            matches!(self.label("moby.buildkit.frontend.network.none"), "1" | "t" | "true" | "TRUE");
        let network = if offline { pb::NetMode::None } else { pb::NetMode::Unset };
        let input = if self.tree.is_some() { 0 } else { -1 };
        let root = pb::Mount { dest: "/".to_owned(), input, output: -1, ..pb::Mount::default() };
        let request = SandboxRequest {
            mounts: vec![root],
            inputs: self.tree.clone().into_iter().collect(),
            network: network.into(),
            ..SandboxRequest::default()
        };
        let sandbox = Sandbox::new(Arc::clone(&build.worker), &build.context(id), request).await;
        sandbox.map_err(|error| failure::of_op(&error))
    }

    async fn serve(
        &self,
        build: &Arc<Build>,
        opts: BTreeMap<String, String>,
        inputs: BTreeMap<String, pb::Definition>,
        depth: usize,
        talk: &Talk,
    ) -> Result<Returned, Status> {
        let id = format!("frontend {:032x}", rand::random::<u128>());
        let sandbox = self.sandbox(build, &id).await?;
        let (frontend, mut returned) = GatewayFrontend::new(depth, inputs);
        let frontend = Arc::new(frontend);
        let _closed = Closed(Arc::clone(&frontend));
        let (ours, theirs) = tokio::io::duplex(PIPE);
        let server = (build.all()?.serve_frontend)(ours, build, &frontend)?;
        let (reader, writer) = tokio::io::split(theirs);
        let (input, _orders, dialogue) = Dialogue::new();
        let output = ProgramOutput { writer: tokio::sync::Mutex::new(writer), talk };
        let context = build.context(&id);
        let process = sandbox.run(&context, self.process(build, opts)?, &output, dialogue);
        tokio::pin!(process);
        let mut result: Option<Returned> = None;
        let silent = async {
            if timeout(FIRST_CALL, frontend.first_call()).await.is_ok() {
                std::future::pending::<()>().await;
            }
        };
        tokio::pin!(silent);
        let hang_up = async {
            let server = async {
                server.await;
                // The last bytes may still be on their way.
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = feed(reader, input) => {}
                () = server => {}
            }
        };
        tokio::pin!(hang_up);
        let ended = tokio::select! {
            ended = &mut process => Some(ended),
            () = &mut silent => {
                let told = format!("it made no call in {} s", FIRST_CALL.as_secs());
                return Err(Status::deadline_exceeded(told));
            }
            one = &mut returned => {
                result = one.ok();
                // The answer to `Return` still has to reach it; then its connection is closed.
                tokio::select! {
                    ended = &mut process => Some(ended),
                    () = &mut hang_up => timeout(LINGER, &mut process).await.ok(),
                    () = sleep(LINGER) => None,
                }
            }
            () = &mut hang_up => timeout(LINGER, &mut process).await.ok(),
        };
        let result = result.or_else(|| returned.try_recv().ok());
        outcome(result, ended)
    }
}

/// What comes of a frontend: its own error first, then how its program ended, then its result.
fn outcome(result: Option<Returned>, ended: Option<Result<(), OpError>>) -> Result<Returned, Status> {
    match (result, ended) {
        (Some(Err(status)), _) => Ok(Err(status)),
        (_, Some(Err(error))) => Err(failure::of_op(&error)),
        (Some(returned), _) => Ok(returned),
        (None, Some(Ok(()))) => Err(Status::failed_precondition("it ended without a result")),
        (None, None) => Err(Status::failed_precondition(
            "it closed its connection without a result: its standard output must carry gRPC and nothing else",
        )),
    }
}

/// Closes a frontend's containers when dropped.
struct Closed(Arc<GatewayFrontend>);

impl Drop for Closed {
    fn drop(&mut self) {
        self.0.sandboxes.close();
    }
}

/// Passes on what we say, until we say no more.
async fn feed(mut from: ReadHalf<DuplexStream>, to: mpsc::Sender<Vec<u8>>) {
    let mut buffer = vec![0; PIPE];
    while let Ok(n) = from.read(&mut buffer).await {
        if n == 0 || to.send(buffer[..n].to_vec()).await.is_err() {
            return;
        }
    }
}

/// What the program says to its user.
struct Talk {
    stage: Stage,
    last: Mutex<VecDeque<u8>>,
}

impl Talk {
    fn hear(&self, bytes: &[u8]) {
        self.stage.log(2, bytes);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.extend(bytes);
        let excess = last.len().saturating_sub(LAST_WORDS);
        last.drain(..excess);
    }

    /// The failure with the image's name and the program's last words.
    fn explain(&self, source: &str, status: &Status) -> Status {
        let bytes: Vec<u8> =
            self.last.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
        let words = String::from_utf8_lossy(&bytes).trim().to_owned();
        let words = if words.is_empty() { words } else { format!("\nits last words:\n{words}") };
        Status::new(status.code(), format!("frontend {source}: {}{words}", status.message()))
    }
}

/// The program's output: its connection to us, and its words.
struct ProgramOutput<'a> {
    writer: tokio::sync::Mutex<WriteHalf<DuplexStream>>,
    talk: &'a Talk,
}

#[async_trait]
impl Output for ProgramOutput<'_> {
    async fn take(&self, stream: u32, bytes: &[u8]) {
        match stream {
            // Who closed the connection is told apart elsewhere; what comes after goes nowhere.
            1 => drop(self.writer.lock().await.write_all(bytes).await),
            _ => self.talk.hear(bytes),
        }
    }
}

#[cfg(test)]
mod tests;
