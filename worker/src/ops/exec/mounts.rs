//! Mounts of a step: binds of inputs, cache folders, memory, secrets and ssh agents.
//!
//! A secret lives in a tmpfs that only this step sees, and in no layer: its mount point is a stub.

use std::{
    fs,
    ops::{Deref, DerefMut},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use buildd_api::buildkit::pb;
use buildd_fs::overlay::OverlayError;
use buildd_oci::{ErrorKind, digest::Digest};
use buildd_runtime::mount::{StepMount, StepMountKind};
use buildd_solver::{
    op::{Freshness, OpContext, OpError},
    result::OpResult,
};
use buildd_store::{cache::mounts::CacheMountHold, cleanup::Cleanup, snapshot::View};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::{
    cache_locks::{self, CacheLocks},
    prepare::{Writable, owned_folder, selected, tree},
};
use crate::{
    error::{Error, Result, op_error},
    session::AgentSocket,
    worker::Worker,
};

/// Largest secret; agrees with what clients send.
const MAX_SECRET: usize = 500 << 10;
/// Where secrets go that name no target.
const SECRETS: &str = "/run/secrets";

/// What must live as long as the step runs. Dropped, it is taken down by the store's cleanup, whatever thread drops it.
pub(super) struct Held {
    ground: Ground,
    cleanup: Arc<Cleanup>,
}

/// What is held.
#[derive(Default)]
pub(super) struct Ground {
    /// The trees of the step's mounts, which nobody collects.
    _inputs: Vec<OpResult>,
    views: Vec<View>,
    locks: CacheLocks,
    pub(super) folders: Vec<PathBuf>,
    caches: Vec<CacheMountHold>,
    secrets: Option<PathBuf>,
    agents: Vec<AgentSocket>,
}

impl Held {
    fn new(worker: &Worker, inputs: &[OpResult]) -> Self {
        let ground = Ground { _inputs: inputs.to_vec(), ..Ground::default() };
        Self { ground, cleanup: Arc::clone(worker.store.snapshots.cleanup()) }
    }
}

impl Deref for Held {
    type Target = Ground;

    fn deref(&self) -> &Ground {
        &self.ground
    }
}

impl DerefMut for Held {
    fn deref_mut(&mut self) -> &mut Ground {
        &mut self.ground
    }
}

impl Held {
    /// Lets go now: whoever asks for a cache mount after the step's end gets it. Blocks.
    pub(super) fn release(&mut self) {
        self.let_go(Ground::release);
    }

    fn let_go(&mut self, release: impl FnOnce(Ground)) {
        let mut ground = std::mem::take(&mut self.ground);
        let folders = std::mem::take(&mut ground.folders);
        release(ground);
        for folder in folders {
            self.cleanup.discard(folder, || {});
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let cleanup = Arc::clone(&self.cleanup);
        self.let_go(move |ground| cleanup.run(move || ground.release()));
    }
}

impl Ground {
    fn release(self) {
        if let Some(path) = &self.secrets
            && let Err(error) = unmount(path, UnmountFlags::DETACH)
        {
            tracing::warn!(path = %path.display(), %error, "unmount a step's secrets");
        }
    }
}

/// Everything the mounts of a step come to.
pub(super) struct Gathered {
    pub(super) mounts: Vec<StepMount>,
    pub(super) writable: Vec<Writable>,
    pub(super) shm_size: Option<u64>,
    pub(super) held: Held,
    root: PathBuf,
}

impl Gathered {
    /// Where the root is mounted.
    pub(super) fn root_path(&self) -> PathBuf {
        self.root.clone()
    }
}

/// Prepares every mount of the op.
pub(super) async fn gather(
    worker: &Arc<Worker>,
    mounts: &[pb::Mount],
    cx: &OpContext,
    inputs: &[OpResult],
) -> std::result::Result<Gathered, OpError> {
    let mut gathered = Gathered {
        mounts: Vec::new(),
        writable: Vec::new(),
        shm_size: None,
        held: Held::new(worker, inputs),
        root: PathBuf::new(),
    };
    gathered.held.locks = cache_locks::lock(worker, mounts, cx.freshness).await;
    for mount in mounts {
        let input = usize::try_from(mount.input).ok().and_then(|index| inputs.get(index)).cloned();
        gathered = match mount.mount_type() {
            pb::MountType::Bind => bind(worker, mount.clone(), input, gathered).await.map_err(op_error)?,
            pb::MountType::Cache => {
                cache(worker, cx, mount.clone(), input, gathered).await.map_err(op_error)?
            }
            pb::MountType::Tmpfs => tmpfs(mount, gathered),
            pb::MountType::Secret => secret(worker, cx, mount, gathered).await?,
            pb::MountType::Ssh => agent(worker, cx, mount, gathered).await?,
        };
    }
    Ok(gathered)
}

/// Adds to what was gathered, where it may block.
async fn add(
    mut gathered: Gathered,
    work: impl FnOnce(&mut Gathered) -> Result<()> + Send + 'static,
) -> Result<Gathered> {
    buildd_fs::blocking::run(move || work(&mut gathered).map(|()| gathered)).await
}

/// Secrets that go into the environment.
pub(super) async fn secret_env(
    worker: &Worker,
    wanted: &[pb::SecretEnv],
    cx: &OpContext,
) -> std::result::Result<Vec<String>, OpError> {
    let mut env = Vec::new();
    for wanted in wanted {
        if let Some(value) = fetch(worker, cx, &wanted.id, wanted.optional).await? {
            env.push(format!("{}={}", wanted.name, String::from_utf8_lossy(&value)));
        }
    }
    Ok(env)
}

async fn bind(
    worker: &Arc<Worker>,
    mount: pb::Mount,
    input: Option<OpResult>,
    gathered: Gathered,
) -> Result<Gathered> {
    let snapshots = worker.store.snapshots.clone();
    add(gathered, move |gathered| {
        let is_root = mount.dest == "/";
        let readonly = mount.readonly && !is_root && mount.output < 0;
        let path = match tree(&snapshots, input.as_ref(), readonly)? {
            Ok(view) => {
                let path = view.path();
                gathered.held.views.push(view);
                path
            }
            Err(active) => {
                let path = active.path();
                gathered.writable.push(Writable { output: mount.output, active });
                path
            }
        };
        if is_root {
            gathered.root = path;
            return Ok(());
        }
        let kind = StepMountKind::Bind {
            source: selected(&path, &mount.selector)?,
            writable: !readonly,
            nodev: true,
        };
        gathered.mounts.push(StepMount { target: mount.dest.into(), kind });
        Ok(())
    })
    .await
}

/// A cache folder by the hash of its id, which the step has locked where its mount says so.
async fn cache(
    worker: &Arc<Worker>,
    cx: &OpContext,
    mount: pb::Mount,
    input: Option<OpResult>,
    gathered: Gathered,
) -> Result<Gathered> {
    let (worker, forced) = (Arc::clone(worker), cx.freshness == Freshness::Forced);
    add(gathered, move |gathered| {
        let id = gathered.held.locks.id(&mount);
        let source = worker.store.cache_mounts.path(&id);
        if !forced {
            let entered = worker.store.cache_mounts.enter(&id)?;
            gathered.held.caches.push(entered);
        } else if !gathered.held.folders.contains(&source) {
            gathered.held.folders.push(source.clone());
        }
        make_cache(&worker, &source, input.as_ref(), &mount.selector)?;
        let kind = StepMountKind::Bind { source, writable: !mount.readonly, nodev: true };
        gathered.mounts.push(StepMount { target: mount.dest.into(), kind });
        Ok(())
    })
    .await
}

/// Makes a cache folder, with what its mount says it begins with; one that is there is left alone.
fn make_cache(worker: &Worker, path: &Path, input: Option<&OpResult>, selector: &str) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    let part = path.with_extension(format!("{:032x}", rand::random::<u128>()));
    owned_folder(&part, 0o755, 0, 0)?;
    if let Some(input) = input {
        let view = tree(&worker.store.snapshots, Some(input), true)?;
        if let Ok(view) = view {
            let first = selected(&view.path(), selector)?;
            super::super::file::copy_tree(&first, &part)?;
            let meta = fs::metadata(&first).map_err(Error::file("read", &first))?;
            fs::set_permissions(&part, meta.permissions()).map_err(Error::file("set the mode of", &part))?;
            std::os::unix::fs::chown(&part, Some(meta.uid()), Some(meta.gid()))
                .map_err(Error::file("set the owner of", &part))?;
        }
    }
    match fs::rename(&part, path) {
        // Another step made it at the same time.
        Err(_) if path.exists() => fs::remove_dir_all(&part).map_err(Error::file("remove", &part)),
        other => other.map_err(Error::file("publish", path)),
    }
}

fn tmpfs(mount: &pb::Mount, mut gathered: Gathered) -> Gathered {
    let size = mount
        .tmpfs_opt
        .as_ref()
        .and_then(|options| u64::try_from(options.size).ok())
        .filter(|size| *size > 0);
    if mount.dest == "/dev/shm" {
        gathered.shm_size = size;
        return gathered;
    }
    gathered
        .mounts
        .push(StepMount { target: PathBuf::from(&mount.dest), kind: StepMountKind::Tmpfs { size } });
    gathered
}

async fn secret(
    worker: &Arc<Worker>,
    cx: &OpContext,
    mount: &pb::Mount,
    gathered: Gathered,
) -> std::result::Result<Gathered, OpError> {
    let Some(options) = mount.secret_opt.clone() else { return Ok(gathered) };
    let Some(value) = fetch(worker, cx, &options.id, options.optional).await? else { return Ok(gathered) };
    let (worker, dest) = (Arc::clone(worker), mount.dest.clone());
    let added = add(gathered, move |gathered| {
        let folder = secrets_folder(worker.store.root(), gathered)?;
        let source = folder.join(Digest::of(dest.as_bytes()).hex());
        fs::write(&source, value).map_err(Error::file("write", &source))?;
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(options.mode & 0o7777);
        fs::set_permissions(&source, permissions).map_err(Error::file("set the mode of", &source))?;
        std::os::unix::fs::chown(&source, Some(options.uid), Some(options.gid))
            .map_err(Error::file("set the owner of", &source))?;
        let target = match dest.as_str() {
            "" => Path::new(SECRETS).join(&options.id),
            dest => PathBuf::from(dest),
        };
        let kind = StepMountKind::Bind { source, writable: false, nodev: true };
        gathered.mounts.push(StepMount { target, kind });
        Ok(())
    });
    added.await.map_err(op_error)
}

/// The client's ssh agent as a socket; one that is not there is an error unless it is optional.
async fn agent(
    worker: &Arc<Worker>,
    cx: &OpContext,
    mount: &pb::Mount,
    gathered: Gathered,
) -> std::result::Result<Gathered, OpError> {
    let Some(options) = mount.ssh_opt.clone() else { return Ok(gathered) };
    let fail = |error: crate::session::SessionError| OpError::new(error.kind, error);
    let session = worker.sessions.any(&cx.sessions.ids()).await.map_err(fail)?;
    if !session.has_agent(&options.id).await.map_err(fail)? {
        let missing = Error::NotFound { what: "ssh agent", name: options.id.clone() };
        let hint = format!("give it: --ssh {}", options.id);
        return match options.optional {
            true => Ok(gathered),
            false => Err(op_error(missing).with_hint(Some(hint))),
        };
    }
    let (worker, target) = (Arc::clone(worker), PathBuf::from(&mount.dest));
    let added = add(gathered, move |gathered| {
        let folder = worker.store.root().join("tmp").join(format!("ssh-{:032x}", rand::random::<u128>()));
        owned_folder(&folder, 0o700, 0, 0)?;
        gathered.held.folders.push(folder.clone());
        let source = folder.join("agent.sock");
        let socket =
            AgentSocket::open(session, &options.id, &source).map_err(Error::file("open", &source))?;
        gathered.held.agents.push(socket);
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(options.mode & 0o777);
        fs::set_permissions(&source, permissions).map_err(Error::file("set the mode of", &source))?;
        std::os::unix::fs::chown(&source, Some(options.uid), Some(options.gid))
            .map_err(Error::file("set the owner of", &source))?;
        let kind = StepMountKind::Bind { source, writable: false, nodev: true };
        gathered.mounts.push(StepMount { target, kind });
        Ok(())
    });
    added.await.map_err(op_error)
}

/// A tmpfs that never reaches a disk, for all secrets of a step.
fn secrets_folder(root: &Path, gathered: &mut Gathered) -> Result<PathBuf> {
    if let Some(path) = &gathered.held.secrets {
        return Ok(path.clone());
    }
    let path = root.join("snapshots").join(format!("secrets-{:032x}", rand::random::<u128>()));
    owned_folder(&path, 0o700, 0, 0)?;
    gathered.held.folders.push(path.clone());
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let fail =
        |error: rustix::io::Errno| Error::Mount(OverlayError::mount("tmpfs", path.clone())(error.into()));
    mount("tmpfs", &path, "tmpfs", flags, Some(c"size=16m,mode=0700,noswap"))
        .or_else(|_| mount("tmpfs", &path, "tmpfs", flags, Some(c"size=16m,mode=0700")))
        .map_err(fail)?;
    gathered.held.secrets = Some(path.clone());
    Ok(path)
}

/// A secret of the client; a missing one is an error unless it is optional.
async fn fetch(
    worker: &Worker,
    cx: &OpContext,
    id: &str,
    optional: bool,
) -> std::result::Result<Option<Vec<u8>>, OpError> {
    match worker.secret(cx, id).await? {
        Some(value) if value.len() > MAX_SECRET => Err(op_error(Error::Invalid {
            what: "secret",
            name: id.to_owned(),
            reason: format!("it is larger than {MAX_SECRET} bytes"),
        })),
        Some(value) => Ok(Some(value)),
        None if optional => Ok(None),
        None => {
            let missing = Error::NotFound { what: "secret", name: id.to_owned() };
            let mut error = op_error(missing).with_hint(Some(format!("give it: --secret id={id},src=FILE")));
            error.kind = ErrorKind::NotFound;
            Err(error)
        }
    }
}
