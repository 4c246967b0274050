//! Git source: `git://`, the tree of a commit of a repository.
//!
//! A ref is resolved when the key is asked for, each build anew; a whole commit id asks nobody. The commit, the folder and what is made of them
//! are the key. What is fetched goes into a repository of ours that is kept for the next build, one for each remote and whoever may read it.
//!
//! # Invariants
//! git runs without anybody's settings, hooks or filters, speaks to the protocols of [`command`] only and gets nothing as an option that came
//! from outside. A token goes to its host and along no redirect.
//!
//! # Sources
//! BuildKit `source/git`, `util/gitutil`; spec solver 2.1 and attacks GIT.

use std::{collections::HashMap, sync::Arc};

use access::Access;
use async_trait::async_trait;
use buildd_oci::digest::Digest;
use buildd_solver::{
    op::{CacheMap, Op, OpContext, OpError},
    result::OpResult,
};
use command::Git;
use failure::GitError;
use refs::Resolved;
use tokio::sync::OnceCell;
use wanted::GitRequest;

use super::SourceRequest;
use crate::{
    error::{Error, Result, op_error},
    snapshot_ref::SnapshotRef,
    worker::Worker,
};

mod access;
mod checkout;
mod command;
mod failure;
mod mirror;
mod refs;
mod wanted;

/// A tree of a repository as a source.
#[derive(Debug)]
pub(super) struct GitSource {
    worker: Arc<Worker>,
    wanted: GitRequest,
    resolved: OnceCell<Resolved>,
}

/// A tree of a repository, for the list of sources.
pub(super) fn make(request: &SourceRequest<'_>) -> std::result::Result<Arc<dyn Op>, OpError> {
    let source = GitSource::new(Arc::clone(request.worker), request.identifier, &request.attrs);
    Ok(Arc::new(source.map_err(op_error)?))
}

impl GitSource {
    pub(super) fn new(
        worker: Arc<Worker>,
        identifier: &str,
        attrs: &HashMap<String, String>,
    ) -> Result<Self> {
        Ok(Self { worker, wanted: GitRequest::parse(identifier, attrs)?, resolved: OnceCell::new() })
    }

    async fn resolve(&self, cx: &OpContext) -> std::result::Result<Resolved, OpError> {
        let wanted = &self.wanted;
        let resolved = match wanted.commit() {
            Some(commit) => Resolved::commit(commit),
            None => {
                let access = Access::open(&self.worker, cx, wanted).await?;
                let git = Git::new(&self.worker, wanted, &access).map_err(op_error)?;
                refs::ask(&git, wanted).await.map_err(OpError::from)?
            }
        };
        match &wanted.checksum {
            Some(expected) if !resolved.matches(expected) => Err(op_error(Error::WrongContent {
                what: wanted.shown(),
                expected: expected.clone(),
                actual: resolved.commit,
            })),
            _ => Ok(resolved),
        }
    }

    async fn fetch(&self, cx: &OpContext) -> std::result::Result<OpResult, OpError> {
        let resolved = self.resolved.get_or_try_init(|| self.resolve(cx)).await?;
        let access = Access::open(&self.worker, cx, &self.wanted).await?;
        let git = Git::new(&self.worker, &self.wanted, &access).map_err(op_error)?;
        let fetched = mirror::fetch(&self.worker, &git, &self.wanted, &access, resolved).await?;
        let held = checkout::checkout(&self.worker, &git, &self.wanted, resolved, &fetched).await?;
        Ok(SnapshotRef::result(Some(held)))
    }
}

#[async_trait]
impl Op for GitSource {
    async fn cache_map(&self, cx: &OpContext) -> std::result::Result<CacheMap, OpError> {
        let resolved = self.resolved.get_or_try_init(|| self.resolve(cx)).await?;
        let GitRequest { subdir, keep_git_dir, submodules, commit_times, .. } = &self.wanted;
        // What `.git` says of its origin and ref is part of the tree.
        let told = keep_git_dir.then(|| (self.wanted.shown(), resolved.reference.clone()));
        let key = serde_json::json!([
            "git",
            resolved.commit,
            subdir,
            keep_git_dir,
            submodules,
            // Where submodules with relative URLs lie depends on where the repository does.
            submodules.then(|| self.wanted.shown()),
            commit_times,
            told
        ]);
        let digest = Digest::of(key.to_string().as_bytes());
        Ok(CacheMap { digest, aliases: Vec::new(), inputs: Vec::new() })
    }

    async fn exec(&self, cx: &OpContext, _: &[OpResult]) -> std::result::Result<Vec<OpResult>, OpError> {
        Ok(vec![self.fetch(cx).await?])
    }

    fn is_heavy(&self) -> bool {
        false
    }
}

impl From<GitError> for OpError {
    fn from(error: GitError) -> Self {
        let (kind, hint) = (error.kind(), error.hint());
        Self::new(kind, error).with_hint(hint)
    }
}
