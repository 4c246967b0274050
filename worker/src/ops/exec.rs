//! Exec: a RUN, from its op to the layer that it wrote.
//!
//! Its key is the op without what differs between equal runs: session, proxies, host addresses, and what cache mounts are
//! called. The root enters by its key, read-only binds by the content they show.

use std::sync::Arc;

use async_trait::async_trait;
use buildd_api::buildkit::pb;
use buildd_oci::{ErrorKind, digest::Digest, platform::Platform};
use buildd_runtime::{
    emulation,
    step::{Output, StepExit, StepLimits},
};
use buildd_solver::{
    graph::Vertex,
    op::{CacheMap, InputKey, Op, OpContext, OpError, Parts},
    progress::VertexProgress,
    result::OpResult,
};
use prost::Message;

use crate::{
    checksum::{self, Selection},
    error::{Error, op_error},
    snapshot_ref::SnapshotRef,
    worker::Worker,
};

mod cache_locks;
mod identity;
mod limits;
mod mounts;
mod parts;
mod prepare;
pub mod sandbox;
mod stubs;

/// A step that ended badly.
#[derive(Debug, thiserror::Error)]
#[error("process {command:?} did not complete successfully: {end}")]
struct StepFailed {
    command: String,
    end: String,
}

/// A RUN.
#[derive(Debug)]
pub(crate) struct ExecOp {
    pub(super) worker: Arc<Worker>,
    pub(super) op: pb::ExecOp,
    pub(super) meta: pb::Meta,
    inputs: usize,
    platform: Platform,
    limits: StepLimits,
}

/// The work behind an exec op; what it needs and we do not have is refused here, before anything runs.
pub(crate) fn resolve(worker: Arc<Worker>, op: &pb::ExecOp, vertex: &Vertex) -> Result<Arc<dyn Op>, OpError> {
    let invalid = |reason: &str| {
        let reason = reason.to_owned();
        op_error(Error::Invalid { what: "exec op", name: vertex.name(), reason })
    };
    let meta = op.meta.clone().ok_or_else(|| invalid("it has no process"))?;
    if meta.args.is_empty() {
        return Err(invalid("it has no program"));
    }
    identity::check_modes(op).map_err(invalid)?;
    if op.mounts.first().is_none_or(|mount| mount.dest != "/") {
        return Err(invalid("its first mount must be the root"));
    }
    if op
        .mounts
        .iter()
        .any(|mount| mount.input >= 0 && usize::try_from(mount.input).is_ok_and(|i| i >= vertex.inputs.len()))
    {
        return Err(invalid("a mount names an input that it has not"));
    }
    let platform = vertex.op.platform.clone().unwrap_or_default();
    let platform = Platform {
        os: platform.os,
        architecture: platform.architecture,
        variant: platform.variant,
        os_version: String::new(),
        os_features: Vec::new(),
    };
    let limits = limits::of(&vertex.metadata.description, &worker.limits).map_err(op_error)?;
    Ok(Arc::new(ExecOp { worker, op: op.clone(), meta, inputs: vertex.inputs.len(), platform, limits }))
}

impl ExecOp {
    /// The op without what differs between equal runs.
    fn normalised(&self) -> Vec<u8> {
        let mut op = self.op.clone();
        if let Some(meta) = &mut op.meta {
            meta.proxy_env = None;
            for host in &mut meta.extra_hosts {
                host.ip.clear();
            }
        }
        for mount in &mut op.mounts {
            mount.selector.clear();
            mount.result_id.clear();
            if let Some(cache) = &mut mount.cache_opt {
                cache.id.clear();
                cache.sharing = 0;
            }
        }
        let Platform { os, architecture, variant, .. } = &self.platform;
        let mut bytes = format!("exec {os}/{architecture}/{variant}\n").into_bytes();
        op.encode(&mut bytes).expect("a vector takes all bytes");
        bytes
    }

    /// How an input enters the key: by content if every mount of it only reads a part of it.
    fn input_key(&self, input: usize) -> InputKey {
        let mounts: Vec<&pb::Mount> =
            self.op.mounts.iter().filter(|mount| usize::try_from(mount.input) == Ok(input)).collect();
        let by_content = |mount: &&pb::Mount| mount.readonly && mount.dest != "/" && mount.output < 0;
        if mounts.is_empty() || !mounts.iter().all(by_content) {
            return InputKey::Definition;
        }
        let selections: Vec<Selection> = mounts
            .iter()
            .map(|mount| Selection { path: mount.selector.clone(), follow: true, ..Selection::default() })
            .collect();
        InputKey::Content { selector: serde_json::to_string(&selections).expect("strings have a JSON form") }
    }
}

/// The error of a step that ended like this.
fn failure(args: &[String], platform: &Platform, exit: &StepExit) -> OpError {
    let end = match (&exit.failure, exit.signal, exit.out_of_memory) {
        (Some(failure), ..) => failure.clone(),
        (None, _, true) => format!("exit code: {} (it ran out of memory and was killed)", exit.code),
        (None, Some(signal), false) => format!("exit code: {} (killed by signal {signal})", exit.code),
        (None, None, false) => format!("exit code: {}", exit.code),
    };
    let error = StepFailed { command: args.join(" "), end };
    let mut error = OpError::new(ErrorKind::Unknown, error);
    error.exit_code = u32::try_from(exit.code).ok();
    // 126 and 127: the program was not started.
    if exit.failure.is_some() || matches!(exit.code, 126 | 127) {
        error.hint = emulation::hint(platform);
    }
    if exit.out_of_memory {
        error.hint = Some("let the step use less memory, for example fewer parallel jobs".to_owned());
    }
    error
}

struct Log<'a>(&'a VertexProgress);

#[async_trait]
impl Output for Log<'_> {
    async fn take(&self, stream: u32, bytes: &[u8]) {
        self.0.log(stream, bytes).await;
    }
}

#[async_trait]
impl Op for ExecOp {
    async fn cache_map(&self, _: &OpContext) -> Result<CacheMap, OpError> {
        Ok(CacheMap {
            digest: Digest::of(&self.normalised()),
            aliases: Vec::new(),
            inputs: (0..self.inputs).map(|input| self.input_key(input)).collect(),
        })
    }

    async fn content_digest(
        &self,
        _: &OpContext,
        input: usize,
        result: &OpResult,
    ) -> Result<Digest, OpError> {
        let InputKey::Content { selector } = self.input_key(input) else {
            return Err(op_error(Error::Invalid {
                what: "input",
                name: input.to_string(),
                reason: "not by content".into(),
            }));
        };
        digest_of(&self.worker, result, selector).await
    }

    async fn parts(&self, inputs: &[OpResult]) -> Parts {
        let keys = (0..self.inputs).map(|input| self.input_key(input)).collect();
        let mut parts = prints_of(&self.worker, keys, inputs).await;
        parts.extend(parts::of(&self.op, &self.meta, &self.platform));
        parts
    }

    async fn exec(&self, cx: &OpContext, inputs: &[OpResult]) -> Result<Vec<OpResult>, OpError> {
        let prepared = prepare::prepare(self, cx, inputs).await?;
        let (spec, log) = (Arc::clone(&prepared.spec), Log(&cx.progress));
        let (exit, prepared) = self.worker.executor.run(&spec, &log, prepared).await.map_err(op_error)?;
        let fine = match self.meta.valid_exit_codes.as_slice() {
            [] => exit.code == 0,
            codes => codes.contains(&exit.code),
        };
        if exit.failure.is_some() || !fine {
            let mut failure = failure(&self.meta.args, &self.platform, &exit);
            let keep = cx.keeps_failed.then(|| (self.op.mounts.clone(), inputs.to_vec()));
            let worker = Arc::clone(&self.worker);
            let remains = move || match keep {
                Some((mounts, inputs)) => prepared.remains(&mounts, inputs),
                None => {
                    prepared.discard();
                    worker.store.snapshots.settle_if_scarce();
                    None
                }
            };
            failure.remains = buildd_fs::blocking::run(remains).await.map(Arc::new);
            return Err(failure);
        }
        buildd_fs::blocking::run(move || prepared.commit()).await.map_err(op_error)
    }
}

/// The files that the content inputs of an op show, for the explanation of a miss.
pub(super) async fn prints_of(worker: &Arc<Worker>, keys: Vec<InputKey>, inputs: &[OpResult]) -> Parts {
    if keys.iter().all(|key| *key == InputKey::Definition) {
        return Parts::new();
    }
    let (worker, inputs) = (worker.clone(), inputs.to_vec());
    let work = move || -> Result<Parts, Error> {
        let mut parts = Parts::new();
        for (key, result) in keys.iter().zip(&inputs) {
            let InputKey::Content { selector } = key else { continue };
            let selections: Vec<Selection> = serde_json::from_str(selector).unwrap_or_default();
            let tree = worker.store.snapshots.reading(SnapshotRef::of(result)?.id())?;
            parts.extend(checksum::prints(&tree.path(), &selections)?);
        }
        Ok(parts)
    };
    buildd_fs::blocking::run(work).await.unwrap_or_else(|error| {
        tracing::debug!(%error, "list the files that a step reads");
        Parts::new()
    })
}

/// Digest of what a selector (JSON of `Selection`s) finds in a result.
pub(super) async fn digest_of(
    worker: &Arc<Worker>,
    result: &OpResult,
    selector: String,
) -> Result<Digest, OpError> {
    let (worker, result) = (worker.clone(), result.clone());
    let work =
        move || {
            let selections: Vec<Selection> = serde_json::from_str(&selector).map_err(|error| {
                Error::Invalid { what: "selector", name: selector.clone(), reason: error.to_string() }
            })?;
            checksum::selected(&worker.listing(SnapshotRef::of(&result)?.id())?, &selections)
        };
    buildd_fs::blocking::run(work).await.map_err(op_error)
}
