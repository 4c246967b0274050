//! Mirror: the repository of ours into which a remote's commits are fetched, kept for the next build.
//!
//! There is one for each remote and each identity that may read it, so that a commit fetched with a token is found by that token only. Commits
//! come without their history.
//!
//! # Concurrency
//! Whoever works in a mirror has its lock. Mirrors that nobody used for [`MAX_AGE`], and the oldest beyond [`MAX_MIRRORS`], go when another
//! one is entered.
//!
//! # On disk
//! `<root>/git/<hash of remote and identity>/`, a bare repository; the time of its `used` says when.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use buildd_oci::digest::Digest;
use tokio::sync::OwnedMutexGuard;

use super::{
    access::Access,
    command::{Git, REMOTE, Repository},
    failure::GitError,
    refs::Resolved,
    wanted::GitRequest,
};
use crate::{error::Error, worker::Worker};

/// Mirrors that are kept: a build that names ever new remotes does not fill the disk.
const MAX_MIRRORS: usize = 32;
/// How long an unused one is kept, as BuildKit keeps its git checkouts.
const MAX_AGE: Duration = Duration::from_secs(48 * 3600);
/// What a git that was killed may leave behind.
const LOCKS: [&str; 4] = ["shallow.lock", "config.lock", "packed-refs.lock", "HEAD.lock"];

/// A mirror that has the commit, and nobody else's as long as this lives.
pub(super) struct Mirror {
    path: PathBuf,
    /// The commit: what the id named may have been a tag of it.
    pub(super) commit: String,
    once: bool,
    _lock: OwnedMutexGuard<()>,
}

impl Drop for Mirror {
    fn drop(&mut self) {
        if self.once
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "remove a mirror");
        }
    }
}

impl Mirror {
    /// Where it lies.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Makes sure that the mirror has the commit.
pub(super) async fn fetch(
    worker: &Arc<Worker>,
    git: &Git,
    wanted: &GitRequest,
    access: &Access,
    resolved: &Resolved,
) -> Result<Mirror, GitError> {
    let folder = worker.store.root().join("git");
    let name = Digest::of(format!("{}\0{}", wanted.url, access.identity()).as_bytes()).hex();
    let path = folder.join(&name);
    let lock = worker.cache_lock(&lock_name(&name)).lock_owned().await;
    prepare(git, &folder, &path).await?;
    tidy(worker, &folder, &name).map_err(GitError::Worker)?;
    let mut mirror = Mirror { path, commit: String::new(), once: access.is_once(), _lock: lock };
    let place = Repository { git_dir: &mirror.path, tree: None };
    let id = &resolved.commit;
    if peel(git, place, id).await.is_err() {
        bring(git, place, resolved).await?;
    }
    let found = peel(git, place, id).await;
    mirror.commit =
        found.map_err(|_| GitError::NoRef { url: git.shown().to_owned(), reference: id.clone() })?;
    Ok(mirror)
}

fn lock_name(mirror: &str) -> String {
    // No cache mount's id: those of steps have a slash before the first NUL.
    format!("\0git {mirror}")
}

async fn prepare(git: &Git, folder: &Path, path: &Path) -> Result<(), GitError> {
    use std::os::unix::fs::DirBuilderExt;
    let create = fs::DirBuilder::new().mode(0o700).recursive(true).create(folder);
    create.map_err(Error::file("create folder", folder))?;
    if !path.join("HEAD").exists() {
        let _ = fs::remove_dir_all(path);
        fs::create_dir(path).map_err(Error::file("create folder", path))?;
        git.run("init", Some(Repository { git_dir: path, tree: None }), &["init", "-q", "--bare"]).await?;
    }
    for lock in LOCKS {
        let _ = fs::remove_file(path.join(lock));
    }
    let used = path.join("used");
    fs::write(&used, b"").map_err(Error::file("write", &used))?;
    Ok(())
}

/// Fetches the commit alone; a server that gives no commit by its id is asked for the ref, and if that has moved, for everything.
async fn bring(git: &Git, place: Repository<'_>, resolved: &Resolved) -> Result<(), GitError> {
    let id = resolved.commit.as_str();
    let alone = ["fetch", "-q", "--no-tags", "--force", "--depth=1", REMOTE];
    let shallow = |what: String| async move {
        let into = format!("+{what}:refs/buildd/{}", Digest::of(what.as_bytes()).hex());
        git.run("fetch", Some(place), &[&alone[..], &[into.as_str()]].concat()).await
    };
    let first = match shallow(id.to_owned()).await {
        Ok(_) => return Ok(()),
        Err(failure) => failure,
    };
    if let Some(reference) = &resolved.reference
        && shallow(reference.clone()).await.is_ok()
        && peel(git, place, id).await.is_ok()
    {
        return Ok(());
    }
    let everything = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];
    let is_shallow = place.git_dir.join("shallow").exists();
    let deepen: &[&str] = if is_shallow { &["--unshallow"] } else { &[] };
    let args = [&["fetch", "-q", "--no-tags", "--force"], deepen, &[REMOTE], &everything].concat();
    git.run("fetch", Some(place), &args).await.map(drop).map_err(|_| first)
}

/// The commit that an id names.
async fn peel(git: &Git, place: Repository<'_>, id: &str) -> Result<String, GitError> {
    let commit = format!("{id}^{{commit}}");
    let printed = git.run("find", Some(place), &["rev-parse", "--verify", "--quiet", &commit]).await?;
    let found = printed.trim().to_owned();
    // What is named may be there without what belongs to it, if git was killed.
    let tree = format!("{found}^{{tree}}");
    git.run("find", Some(place), &["cat-file", "-e", &tree]).await?;
    Ok(found)
}

/// Removes the mirrors that are too many or too old, but for those that somebody works in.
fn tidy(worker: &Worker, folder: &Path, own: &str) -> Result<(), Error> {
    let mut mirrors: Vec<(SystemTime, String)> = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::file("list", folder))?.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let used = fs::metadata(entry.path().join("used")).and_then(|meta| meta.modified());
        mirrors.push((used.unwrap_or(SystemTime::UNIX_EPOCH), name));
    }
    mirrors.sort();
    mirrors.reverse();
    let now = SystemTime::now();
    for (rank, (used, name)) in mirrors.iter().enumerate() {
        let old = now.duration_since(*used).is_ok_and(|age| age > MAX_AGE);
        if name == own || !(old || rank >= MAX_MIRRORS) {
            continue;
        }
        if let Ok(_lock) = worker.cache_lock(&lock_name(name)).try_lock_owned() {
            let path = folder.join(name);
            fs::remove_dir_all(&path).map_err(Error::file("remove", &path))?;
        }
    }
    Ok(())
}
