//! Checkout: a commit's tree out of a mirror, as the layer of a source.
//!
//! It is made in a folder of ours that nobody else sees, by a repository of its own, so that `.git` can be kept and submodules can be found.
//! Modes are what git knows of them, 0644 and 0755, whatever the daemon's umask.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use buildd_store::snapshot::SnapshotPin;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use super::{
    command::{Git, Repository},
    failure::GitError,
    mirror::Mirror,
    refs::Resolved,
    wanted::GitRequest,
};
use crate::{
    error::{Error, Result},
    worker::Worker,
};

/// The repository of a tree.
const GIT_DIR: &str = ".git";
/// Folders within folders that are walked: git makes no deeper ones that the kernel could name.
const MAX_DEPTH: usize = 2048;

/// Makes the layer.
pub(super) async fn checkout(
    worker: &Arc<Worker>,
    git: &Git,
    wanted: &GitRequest,
    resolved: &Resolved,
    mirror: &Mirror,
) -> Result<SnapshotPin, GitError> {
    let scratch = worker.store.snapshots.scratch()?;
    let tree = scratch.path().to_owned();
    let git_dir = tree.join(GIT_DIR);
    let place = Repository { git_dir: &git_dir, tree: Some(&tree) };
    let commit = mirror.commit.as_str();
    let from = mirror.path().to_string_lossy().into_owned();
    git.run("init", Some(place), &["init", "-q"]).await?;
    git.run("set up", Some(place), &["config", "remote.origin.url", &wanted.url]).await?;
    git.run_local(place, &["fetch", "-q", "--no-tags", "--depth=1", &from, commit]).await?;
    git.run("checkout", Some(place), &["checkout", "-q", "-f", "--detach", commit, "--"]).await?;
    if let Some(reference) = resolved.reference.as_ref().filter(|_| wanted.keep_git_dir) {
        git.run("set up", Some(place), &["update-ref", reference, commit]).await?;
    }
    if wanted.submodules && tree.join(".gitmodules").symlink_metadata().is_ok_and(|meta| meta.is_file()) {
        let args = ["submodule", "--quiet", "update", "--init", "--recursive", "--depth=1"];
        git.run("submodule update", Some(place), &args).await?;
    }
    let seconds = match wanted.commit_times {
        false => None,
        true => {
            let time = git.run("show", Some(place), &["show", "-s", "--format=%ct", commit]).await?;
            time.trim().parse::<i64>().ok()
        }
    };
    let (worker, wanted, shown) = (worker.clone(), wanted.clone(), git.shown().to_owned());
    let missing = GitError::NoFolder { url: shown, folder: wanted.subdir.clone(), commit: commit.to_owned() };
    let work = move || -> Result<SnapshotPin, GitError> {
        let Some(root) = folder(&tree, &wanted.subdir) else { return Err(missing) };
        if wanted.keep_git_dir {
            forget(&tree.join(GIT_DIR))?;
        }
        settle(&root, &wanted, seconds, 0)?;
        Ok(worker.store.snapshots.commit_folder(None, &root, None)?)
    };
    let held = buildd_fs::blocking::run(work).await;
    drop(scratch);
    held
}

/// A folder of the tree, of which every part is a real folder (GIT-03).
fn folder(tree: &Path, subdir: &str) -> Option<PathBuf> {
    let mut path = tree.to_owned();
    for part in subdir.split('/').filter(|part| !part.is_empty() && *part != ".") {
        path.push(part);
        let real = path.symlink_metadata().is_ok_and(|meta| meta.is_dir());
        if !real || part == ".." || part == GIT_DIR {
            return None;
        }
    }
    Some(path)
}

/// Takes out of a kept `.git` what tells of us.
fn forget(git_dir: &Path) -> Result<()> {
    for name in ["FETCH_HEAD", "ORIG_HEAD", "logs", "hooks"] {
        let path = git_dir.join(name);
        let gone = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match gone {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::file("remove", path)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Sets modes and times, and removes the repositories that are not wanted.
fn settle(folder: &Path, wanted: &GitRequest, seconds: Option<i64>, depth: usize) -> Result<()> {
    if depth > MAX_DEPTH {
        let (name, reason) = (folder.display().to_string(), "its folders are nested too deeply".to_owned());
        return Err(Error::Invalid { what: "repository", name, reason });
    }
    for entry in fs::read_dir(folder).map_err(Error::file("list", folder))? {
        let path = entry.map_err(Error::file("list", folder))?.path();
        let meta = path.symlink_metadata().map_err(Error::file("read", &path))?;
        if path.ends_with(GIT_DIR) && !wanted.keep_git_dir {
            let gone = if meta.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            gone.map_err(Error::file("remove", &path))?;
            continue;
        }
        if meta.is_dir() {
            settle(&path, wanted, seconds, depth + 1)?;
        } else if meta.is_file() {
            let mode = if meta.permissions().mode() & 0o100 != 0 { 0o755 } else { 0o644 };
            fs::set_permissions(&path, PermissionsExt::from_mode(mode))
                .map_err(Error::file("set the mode of", &path))?;
        }
        set_time(&path, seconds)?;
    }
    fs::set_permissions(folder, PermissionsExt::from_mode(0o755))
        .map_err(Error::file("set the mode of", folder))?;
    set_time(folder, seconds)
}

fn set_time(path: &Path, seconds: Option<i64>) -> Result<()> {
    let Some(seconds) = seconds else { return Ok(()) };
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    let set = utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW);
    set.map_err(|error| Error::file("set the time of", path)(error.into()))
}
