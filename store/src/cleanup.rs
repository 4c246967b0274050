//! Cleanup: threads of the store that unmount, release and remove what nobody waits for any more.
//!
//! Mounts, views and steps hand their ends over when they are dropped, wherever that happens: a drop on an async thread does no file work.
//!
//! # Invariants
//! What is handed over happens in that order. Folders leave their place by a rename into the trash first; their files, which may be many, are
//! removed by a thread of their own, so that no release waits for them. What could not be removed is tried again with the next removal and with
//! each round of collection; a start empties the trash.
//!
//! # Concurrency
//! A thread is started with the first work and ends with the last. Dropping the `Cleanup` waits for both, except on one of them.

use std::{
    collections::VecDeque,
    fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, ThreadId},
};

type Work = Box<dyn FnOnce() + Send>;

/// The cleanup of one root.
#[derive(Debug)]
pub struct Cleanup {
    /// Unmounts, releases, renames: short work.
    releases: Arc<Lane>,
    /// Removals of trees, however large.
    removals: Arc<Lane>,
    trash: Arc<Trash>,
}

/// The folder of what is to be removed.
#[derive(Debug)]
struct Trash {
    folder: PathBuf,
    /// What could not be removed yet.
    left: Mutex<Vec<PathBuf>>,
}

impl Cleanup {
    /// A cleanup that moves folders to `trash`, on the same file system.
    pub fn new(trash: &Path) -> Self {
        let trash = Trash { folder: trash.to_owned(), left: Mutex::default() };
        Self {
            releases: Arc::new(Lane::new("cleanup")),
            removals: Arc::new(Lane::new("removals")),
            trash: Arc::new(trash),
        }
    }

    /// Runs `work` soon, after all that was handed over before.
    pub fn run(&self, work: impl FnOnce() + Send + 'static) {
        self.releases.run(Box::new(work));
    }

    /// Runs `work` (an unmount), then removes a folder with all that is in it.
    pub fn discard(&self, folder: PathBuf, work: impl FnOnce() + Send + 'static) {
        let (removals, trash) = (Arc::clone(&self.removals), Arc::clone(&self.trash));
        self.run(move || {
            work();
            let Some(discarded) = trash.take(folder) else { return };
            removals.run(Box::new(move || trash.remove(Some(discarded))));
        });
    }

    /// Tries again to remove what could not be removed.
    pub fn retry(&self) {
        if !self.trash.left().is_empty() {
            let trash = Arc::clone(&self.trash);
            self.removals.run(Box::new(move || trash.remove(None)));
        }
    }

    /// Waits until all that was handed over is done.
    pub fn settle(&self) {
        self.releases.settle();
        self.removals.settle();
    }
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        self.settle();
    }
}

impl Trash {
    fn left(&self) -> MutexGuard<'_, Vec<PathBuf>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves a folder in; where it lies then. One that cannot be moved is removed where it is.
    fn take(&self, folder: PathBuf) -> Option<PathBuf> {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let discarded = self.folder.join(format!("{name}-{:032x}", rand::random::<u128>()));
        match fs::rename(&folder, &discarded) {
            Ok(()) => Some(discarded),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::debug!(folder = %folder.display(), %error, "move a folder into the trash");
                Some(folder)
            }
        }
    }

    /// Removes a folder, and what could not be removed before.
    fn remove(&self, folder: Option<PathBuf>) {
        let mut all = std::mem::take(&mut *self.left());
        all.extend(folder);
        all.retain(|folder| match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(folder = %folder.display(), %error, "remove a discarded folder: it is tried again");
                true
            }
            _ => false,
        });
        self.left().extend(all);
    }
}

/// Work that one thread does in order; there is a thread while there is work.
#[derive(Debug)]
struct Lane {
    name: &'static str,
    queue: Mutex<Queue>,
    /// The thread has ended.
    idle: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Work>,
    /// Whether there is a thread, and which once it runs.
    thread: Option<Option<ThreadId>>,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("waiting", &self.waiting.len()).field("thread", &self.thread).finish()
    }
}

impl Lane {
    fn new(name: &'static str) -> Self {
        Self { name, queue: Mutex::default(), idle: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(self: &Arc<Self>, work: Work) {
        let mut queue = self.lock();
        queue.waiting.push_back(work);
        if queue.thread.is_some() {
            return;
        }
        queue.thread = Some(None);
        drop(queue);
        let lane = Arc::clone(self);
        if let Err(error) = thread::Builder::new().name(self.name.to_owned()).spawn(move || lane.work()) {
            tracing::warn!(%error, "start a thread that cleans up: it is done here");
            self.work();
        }
    }

    /// Does what waits, until nothing does.
    fn work(&self) {
        let mut queue = self.lock();
        queue.thread = Some(Some(thread::current().id()));
        while let Some(work) = queue.waiting.pop_front() {
            drop(queue);
            // The panic has been reported; whoever waits for the rest must not wait for ever.
            let _ = catch_unwind(AssertUnwindSafe(work));
            queue = self.lock();
        }
        queue.thread = None;
        self.idle.notify_all();
    }

    /// Waits until there is no work; on its own thread, which would wait for itself, it does not.
    fn settle(&self) {
        let mut queue = self.lock();
        while queue.thread.is_some_and(|thread| thread != Some(thread::current().id())) {
            queue = self.idle.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests;
