//! Sandbox: a container of a frontend: mounts of its choosing, and any number of processes on them.
//!
//! Each process is a step of its own on the same mounts: they share files, and do not see each other. What they write is
//! thrown away with the sandbox.
//!
//! # Sources
//! moby/buildkit `frontend/gateway/container`.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use buildd_api::buildkit::pb;
use buildd_oci::platform::Platform;
use buildd_runtime::{
    mount::StepMountKind,
    step::{Dialogue, Output},
};
use buildd_solver::{
    op::{OpContext, OpError},
    result::OpResult,
};
use tokio::sync::Mutex;

use super::{failure, identity, mounts, prepare};
use crate::{
    error::{Error, Result, op_error},
    worker::Worker,
};

/// What a frontend wants a container to be.
#[derive(Clone, Debug, Default)]
pub struct SandboxRequest {
    /// Its mounts; `input` is an index into `inputs`, or negative.
    pub mounts: Vec<pb::Mount>,
    /// The trees that the mounts show.
    pub inputs: Vec<OpResult>,
    /// Its network.
    pub network: i32,
    /// For its `/etc/hosts`.
    pub extra_hosts: Vec<pb::HostIp>,
    /// Its name; empty for the usual one.
    pub hostname: String,
}

/// A process in it.
#[derive(Clone, Debug, Default)]
pub struct ProcessRequest {
    /// Program, environment, user, folder.
    pub meta: pb::Meta,
    /// How it is contained.
    pub security: i32,
    /// Secrets for its environment.
    pub secret_env: Vec<pb::SecretEnv>,
    /// Whether it reads what its owner says.
    pub stdin: bool,
    /// Whether it has a terminal.
    pub terminal: bool,
}

/// A container of a frontend.
pub struct Sandbox {
    worker: Arc<Worker>,
    exec: pb::ExecOp,
    extra_hosts: Vec<pb::HostIp>,
    hostname: String,
    gathered: Arc<Mutex<mounts::Gathered>>,
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox").field("exec", &self.exec).finish_non_exhaustive()
    }
}

impl Sandbox {
    /// Mounts everything.
    pub async fn new(
        worker: Arc<Worker>,
        cx: &OpContext,
        request: SandboxRequest,
    ) -> std::result::Result<Self, OpError> {
        let exec = pb::ExecOp { mounts: request.mounts, network: request.network, ..pb::ExecOp::default() };
        if !exec.mounts.iter().any(|mount| mount.dest == "/") {
            let reason = "nothing is mounted at /".to_owned();
            let what = "container";
            return Err(op_error(Error::Invalid { what, name: request.hostname, reason }));
        }
        check(&exec, &request.hostname)?;
        let gathered = mounts::gather(&worker, &exec.mounts, cx, &request.inputs).await?;
        let gathered = Arc::new(Mutex::new(gathered));
        Ok(Self { worker, exec, extra_hosts: request.extra_hosts, hostname: request.hostname, gathered })
    }

    /// Runs a process to its end; dropping the future kills it. The error is one that tells its exit code.
    pub async fn run(
        &self,
        cx: &OpContext,
        request: ProcessRequest,
        output: &dyn Output,
        dialogue: Dialogue,
    ) -> std::result::Result<(), OpError> {
        let mut meta = request.meta;
        meta.extra_hosts.extend(self.extra_hosts.iter().cloned());
        if meta.hostname.is_empty() {
            meta.hostname.clone_from(&self.hostname);
        }
        let exec =
            pb::ExecOp { security: request.security, secretenv: request.secret_env, ..self.exec.clone() };
        check(&exec, &meta.hostname)?;
        let secrets = mounts::secret_env(&self.worker, &exec.secretenv, cx).await?;
        let (worker, gathered) = (Arc::clone(&self.worker), Arc::clone(&self.gathered));
        let (of, meta_of) = (exec.clone(), meta.clone());
        // The process stands on the mounts, whatever becomes of the container.
        let kept = Arc::clone(&gathered);
        let work = move || prepare::spec(&worker, &of, &meta_of, secrets, &mut gathered.blocking_lock());
        let (mut spec, _) = buildd_fs::blocking::run(work).await.map_err(op_error)?;
        (spec.stdin, spec.terminal) = (request.stdin, request.terminal);
        let ran = self.worker.executor.converse(&spec, output, dialogue, kept).await;
        let (exit, _) = ran.map_err(op_error)?;
        if exit.failure.is_none() && exit.code == 0 {
            return Ok(());
        }
        Err(failure(&meta.args, &Platform::host(), &exit))
    }

    /// Gives `look` the folder of the host that mount number `index` shows; memory, caches and secrets are not looked into.
    pub async fn look<T: Send + 'static>(
        &self,
        index: usize,
        look: impl FnOnce(&Path) -> T + Send + 'static,
    ) -> Result<T> {
        let name = index.to_string();
        let missing = Error::NotFound { what: "mount of the container", name: name.clone() };
        let mount = self.exec.mounts.get(index).ok_or(missing)?;
        if mount.mount_type() != pb::MountType::Bind {
            let reason = "frontends look into binds only".to_owned();
            return Err(Error::Invalid { what: "mount of the container", name, reason });
        }
        let (gathered, dest) = (Arc::clone(&self.gathered), mount.dest.clone());
        let work = move || {
            let held = gathered.blocking_lock();
            look(&if dest == "/" { held.root_path() } else { shown(&held, &dest) })
        };
        Ok(buildd_fs::blocking::run(work).await)
    }
}

/// Refuses a container whose modes are not known.
fn check(exec: &pb::ExecOp, name: &str) -> std::result::Result<(), OpError> {
    let invalid =
        |reason: &str| Error::Invalid { what: "container", name: name.to_owned(), reason: reason.to_owned() };
    identity::check_modes(exec).map_err(|reason| op_error(invalid(reason)))
}

/// The folder behind a bind.
fn shown(gathered: &mounts::Gathered, target: &str) -> PathBuf {
    let found = gathered.mounts.iter().find_map(|mount| match &mount.kind {
        StepMountKind::Bind { source, .. } if mount.target == Path::new(target) => Some(source.clone()),
        _ => None,
    });
    found.expect("every bind was gathered")
}
