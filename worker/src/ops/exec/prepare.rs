//! Prepare: everything a step needs before its container is made, and what becomes of it after.
//!
//! All mounts here are guards: whatever way the step ends, they go, after its last process.

use std::{
    fs,
    os::unix::fs::{DirBuilderExt, chown},
    path::{Path, PathBuf},
    sync::Arc,
};

use buildd_api::buildkit::pb;
use buildd_fs::path::{Follow, resolve};
use buildd_runtime::{
    device::DeviceRequest,
    mount::{StepMount, StepMountKind},
    passwd,
    step::{Network, Security, StepSpec, Ulimit},
};
use buildd_solver::{
    op::{OpContext, OpError, Remains},
    result::OpResult,
};
use buildd_store::snapshot::{Active, Snapshots, View};

use super::{ExecOp, identity, mounts, stubs};
use crate::{
    error::{Error, Result, op_error},
    snapshot_ref::SnapshotRef,
    worker::Worker,
};

/// Bytes of /dev/shm, as docker gives.
const SHM: u64 = 64 << 20;
/// Longest path of a control group that a client names.
const MAX_CGROUP: usize = 255;
/// What a container of a build calls its host.
const HOSTNAME: &str = "buildkitsandbox";

/// A step ready to run.
pub(super) struct Prepared {
    pub(super) spec: Arc<StepSpec>,
    outputs: Vec<Writable>,
    /// Paths in the root that only exist as mount points, deepest first.
    stubs: Vec<PathBuf>,
    held: mounts::Held,
}

/// A mount whose changes may become a result.
pub(super) struct Writable {
    pub(super) output: i64,
    pub(super) active: Active,
}

/// Gathers what the step needs.
pub(super) async fn prepare(
    op: &ExecOp,
    cx: &OpContext,
    inputs: &[OpResult],
) -> std::result::Result<Prepared, OpError> {
    let mut gathered = mounts::gather(&op.worker, &op.op.mounts, cx, inputs).await?;
    let secrets = mounts::secret_env(&op.worker, &op.op.secretenv, cx).await?;
    let (exec, meta, worker) = (op.op.clone(), op.meta.clone(), op.worker.clone());
    let limits = op.limits.clone();
    let work = move || -> Result<Prepared> {
        let (mut spec, stubs) = spec(&worker, &exec, &meta, secrets, &mut gathered)?;
        spec.limits = limits;
        Ok(Prepared { spec: Arc::new(spec), outputs: gathered.writable, stubs, held: gathered.held })
    };
    buildd_fs::blocking::run(work).await.map_err(op_error)
}

/// A process on the mounts of a step, and the paths in the root that will only exist as mount points, deepest first.
pub(super) fn spec(
    worker: &Worker,
    exec: &pb::ExecOp,
    meta: &pb::Meta,
    secrets: Vec<String>,
    gathered: &mut mounts::Gathered,
) -> Result<(StepSpec, Vec<PathBuf>)> {
    let root = gathered.root_path();
    let cwd = if meta.cwd.is_empty() { "/" } else { &meta.cwd };
    let invalid = |what, name: &str, reason: String| Error::Invalid { what, name: name.to_owned(), reason };
    identity::check(meta).map_err(|(what, name, reason)| invalid(what, name, reason.to_owned()))?;
    stubs::make_folder(&root, Path::new(cwd))?;
    let asked = exec.cdi_devices.iter();
    let asked = asked.map(|device| DeviceRequest { name: device.name.clone(), optional: device.optional });
    let devices = worker.devices.grant(&asked.collect::<Vec<_>>())?;
    let mut mounts = network_files(&worker.store.root().join("tmp"), meta, &mut gathered.held)?;
    mounts.extend(gathered.mounts.iter().cloned());
    mounts.iter().try_for_each(|mount| stubs::allowed(&root, &mount.target))?;
    mounts.extend(devices.mounts);
    let targets = mounts.iter().map(|mount| mount.target.clone());
    let stubs = stubs::missing(&root, targets.chain(["/proc", "/dev", "/sys"].map(PathBuf::from)))?;
    let mut env = meta.env.clone();
    env.extend(proxies(meta));
    env.extend(secrets);
    env.extend(devices.env);
    let mut user = passwd::step_user(&root, &meta.user)?;
    user.groups.extend(devices.groups);
    let spec = StepSpec {
        user,
        rootfs: root,
        args: meta.args.clone(),
        env,
        cwd: cwd.to_owned(),
        hostname: if meta.hostname.is_empty() { HOSTNAME.to_owned() } else { meta.hostname.clone() },
        stdin: false,
        terminal: false,
        mounts,
        devices: devices.nodes,
        network: match exec.network() {
            pb::NetMode::None => Network::None,
            pb::NetMode::Host => Network::Host,
            pb::NetMode::Unset => worker.default_network,
        },
        security: match exec.security() {
            pb::SecurityMode::Insecure => Security::Insecure,
            pb::SecurityMode::Sandbox => Security::Sandbox,
        },
        ulimits: meta.ulimit.iter().map(ulimit).collect(),
        shm_size: gathered.shm_size.unwrap_or(SHM),
        limits: worker.limits.clone(),
        cgroup_parent: cgroup_parent(&meta.cgroup_parent)?,
    };
    Ok((spec, stubs))
}

impl Prepared {
    /// The layers that the step wrote, in the order of its outputs.
    pub(super) fn commit(mut self) -> Result<Vec<OpResult>> {
        self.held.release();
        stubs::remove(&self.spec.rootfs, &self.stubs);
        let mut results: Vec<(i64, OpResult)> = Vec::new();
        for writable in self.outputs {
            if writable.output >= 0 {
                results.push((writable.output, SnapshotRef::result(Some(writable.active.commit()?))));
            }
        }
        results.sort_by_key(|(output, _)| *output);
        Ok(results.into_iter().map(|(_, result)| result).collect())
    }

    /// Throws away what the step wrote. Blocks.
    pub(super) fn discard(mut self) {
        self.held.release();
    }

    /// What each mount showed when the step failed; None if that cannot be kept.
    pub(super) fn remains(self, mounts: &[pb::Mount], inputs: Vec<OpResult>) -> Option<Remains> {
        let outputs = match self.commit() {
            Ok(outputs) => outputs,
            Err(error) => {
                tracing::warn!(%error, "keep the files of a failed step");
                return None;
            }
        };
        let nth =
            |list: &[OpResult], index: i64| usize::try_from(index).ok().and_then(|i| list.get(i).cloned());
        let shown = |mount: &pb::Mount| nth(&outputs, mount.output).or_else(|| nth(&inputs, mount.input));
        let mounts = mounts.iter().map(shown).collect();
        Some(Remains { inputs, mounts })
    }
}

/// The control group that a client names for its steps: a path that leads nowhere else than it says.
fn cgroup_parent(text: &str) -> Result<String> {
    let path = text.trim_matches('/');
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    let fits = path.len() <= MAX_CGROUP && path.split('/').all(plain) && !path.contains(char::is_control);
    match (path.is_empty(), fits) {
        (true, _) => Ok(String::new()),
        (false, true) => Ok(format!("/{path}")),
        (false, false) => {
            let reason = "it is no path of a control group".to_owned();
            Err(Error::Invalid { what: "cgroup-parent", name: text.to_owned(), reason })
        }
    }
}

fn ulimit(limit: &pb::Ulimit) -> Ulimit {
    Ulimit {
        name: limit.name.clone(),
        soft: u64::try_from(limit.soft).unwrap_or(u64::MAX),
        hard: u64::try_from(limit.hard).unwrap_or(u64::MAX),
    }
}

fn proxies(meta: &pb::Meta) -> Vec<String> {
    let Some(proxy) = &meta.proxy_env else { return Vec::new() };
    let pairs = [
        ("HTTP_PROXY", &proxy.http_proxy),
        ("HTTPS_PROXY", &proxy.https_proxy),
        ("FTP_PROXY", &proxy.ftp_proxy),
        ("NO_PROXY", &proxy.no_proxy),
        ("ALL_PROXY", &proxy.all_proxy),
    ];
    pairs
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .flat_map(|(name, value)| [format!("{name}={value}"), format!("{}={value}", name.to_lowercase())])
        .collect()
}

/// `resolv.conf` and `hosts` for the container, read-only.
fn network_files(tmp: &Path, meta: &pb::Meta, held: &mut mounts::Held) -> Result<Vec<StepMount>> {
    let folder = tmp.join(format!("net-{:032x}", rand::random::<u128>()));
    fs::create_dir(&folder).map_err(Error::file("create folder", &folder))?;
    held.folders.push(folder.clone());
    let resolv = fs::read("/etc/resolv.conf").unwrap_or_default();
    let mut hosts =
        String::from("127.0.0.1\tlocalhost buildkitsandbox\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for host in &meta.extra_hosts {
        hosts.push_str(&format!("{}\t{}\n", host.ip, host.host));
    }
    let mut mounts = Vec::new();
    for (name, bytes) in [("resolv.conf", resolv), ("hosts", hosts.into_bytes())] {
        let source = folder.join(name);
        fs::write(&source, bytes).map_err(Error::file("write", &source))?;
        let kind = StepMountKind::Bind { source, writable: false, nodev: true };
        mounts.push(StepMount { target: Path::new("/etc").join(name), kind });
    }
    Ok(mounts)
}

/// A folder of a view or an active that a mount shows: `selector` resolved inside it, never outside.
pub(super) fn selected(tree: &Path, selector: &str) -> Result<PathBuf> {
    let found = resolve(tree, Path::new(selector), Follow::All).map_err(Error::file("resolve", selector))?;
    let full = tree.join(found);
    match full.symlink_metadata() {
        Ok(_) => Ok(full),
        Err(_) => Err(Error::NotFound { what: "mount source", name: selector.to_owned() }),
    }
}

/// Mounts an input for a mount that may write (and keep or throw away what it wrote) or only read.
pub(super) fn tree(
    snapshots: &Arc<Snapshots>,
    input: Option<&OpResult>,
    readonly: bool,
) -> Result<std::result::Result<View, Active>> {
    let id = input.map(SnapshotRef::of).transpose()?.and_then(|r| r.id());
    match readonly {
        true => Ok(Ok(snapshots.view(id)?)),
        false => Ok(Err(snapshots.active(id)?)),
    }
}

/// A folder of ours with an owner and a mode.
pub(super) fn owned_folder(path: &Path, mode: u32, uid: u32, gid: u32) -> Result<()> {
    fs::DirBuilder::new().mode(mode).create(path).map_err(Error::file("create folder", path))?;
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
    fs::set_permissions(path, permissions).map_err(Error::file("set the mode of", path))?;
    chown(path, Some(uid), Some(gid)).map_err(Error::file("set the owner of", path))
}
