//! Watch: who listens to the steps of the disk, by the root that they belong to. Tests run side by side, each with a root of its own.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use super::Step;

/// Hears of each step before it is done, and may let it fail.
pub(crate) trait Watch: Send + Sync {
    /// A step is about to be done.
    fn before(&self, step: Step, path: &Path) -> io::Result<()>;
}

/// Keeps in mind what was done.
#[derive(Default)]
pub(crate) struct Seen(Mutex<Vec<Step>>);

impl Seen {
    /// How many steps of a kind there were.
    pub(crate) fn count(&self, step: Step) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().filter(|seen| **seen == step).count()
    }
}

impl Watch for Seen {
    fn before(&self, step: Step, _: &Path) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(step);
        Ok(())
    }
}

static WATCHED: Mutex<Vec<(PathBuf, Arc<dyn Watch>)>> = Mutex::new(Vec::new());

/// A root that is watched for as long as this lives.
pub(crate) struct Watching(PathBuf);

/// Lets `watch` hear of every step below `root`.
pub(crate) fn watch(root: &Path, watch: Arc<dyn Watch>) -> Watching {
    WATCHED.lock().unwrap_or_else(PoisonError::into_inner).push((root.to_owned(), watch));
    Watching(root.to_owned())
}

impl Drop for Watching {
    fn drop(&mut self) {
        WATCHED.lock().unwrap_or_else(PoisonError::into_inner).retain(|(root, _)| *root != self.0);
    }
}

pub(super) fn announce(step: Step, path: &Path) -> io::Result<()> {
    let watch = {
        let watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
        watched.iter().find(|(root, _)| path.starts_with(root)).map(|(_, watch)| Arc::clone(watch))
    };
    watch.map_or(Ok(()), |watch| watch.before(step, path))
}
