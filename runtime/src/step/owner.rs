//! Owner: what has a step until its last process is gone, whoever asked for it and has left since.
//!
//! The executor makes one for each step. A future that is dropped closes the helper's input, by which the helper kills the container, and drops
//! the owner: that waits on a thread of its own for the end of the processes, and only then lets go what the step stood on.
//!
//! # Invariants
//! Mounts, folders and locks of a step are there as long as a process of it is. No async thread waits for any of this.

use std::{
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, poll};

/// A step, from before it has a process.
pub(super) struct Owner<K: Send + 'static> {
    /// None once it was given back.
    kept: Option<K>,
    process: Option<HelperProcess>,
    ending: Arc<Ending>,
}

/// A step's helper and its folder, which has what the helper needs to take the container away.
pub(super) struct HelperProcess {
    pub(super) folder: PathBuf,
    /// Ends with the helper, which ends after the container; none while there is none.
    pub(super) life: Option<OwnedFd>,
}

/// How many steps are being ended.
#[derive(Debug, Default)]
pub(super) struct Ending {
    count: Mutex<usize>,
    changed: Condvar,
}

impl<K: Send + 'static> Owner<K> {
    /// The owner of a step that stands on what is `kept`.
    pub(super) fn new(kept: K, ending: &Arc<Ending>) -> Self {
        Self { kept: Some(kept), process: None, ending: Arc::clone(ending) }
    }

    /// Takes the step's helper.
    pub(super) fn take(&mut self, process: HelperProcess) {
        self.process = Some(process);
    }

    /// What the step stood on, after its end.
    pub(super) fn give_back(mut self) -> K {
        self.kept.take().expect("it is given back once")
    }
}

impl<K: Send + 'static> Drop for Owner<K> {
    fn drop(&mut self) {
        let (kept, process) = (self.kept.take(), self.process.take());
        self.ending.run(move || {
            // The helper's folder goes when the helper is gone, and so does the rest.
            drop(process);
            drop(kept);
        });
    }
}

impl Drop for HelperProcess {
    /// Waits for the helper's end: only owners, on a thread of theirs, and threads that may block drop one.
    fn drop(&mut self) {
        if let Some(life) = &self.life {
            while poll(&mut [PollFd::new(life, PollFlags::IN)], None) == Err(rustix::io::Errno::INTR) {}
        }
        if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            tracing::debug!(path = %self.folder.display(), %error, "remove a step's folder");
        }
    }
}

impl Ending {
    fn lock(&self) -> MutexGuard<'_, usize> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a step on a thread of its own: one that cannot be killed holds up no other.
    fn run(self: &Arc<Self>, end: impl FnOnce() + Send + 'static) {
        *self.lock() += 1;
        let (ending, end) = (Counted(Arc::clone(self)), Arc::new(Mutex::new(Some(end))));
        let theirs = Arc::clone(&end);
        let work = move || {
            let _counted = ending;
            if let Some(end) = take(&theirs) {
                end();
            }
        };
        if let Err(error) = thread::Builder::new().name("step-end".to_owned()).spawn(work) {
            tracing::warn!(%error, "start a thread that ends a step: it is ended here");
            if let Some(end) = take(&end) {
                end();
            }
        }
    }

    /// Waits until no step is being ended any more; whether that came within the limit.
    pub(super) fn wait(&self, limit: Duration) -> bool {
        let waited = self.changed.wait_timeout_while(self.lock(), limit, |count| *count > 0);
        *waited.unwrap_or_else(PoisonError::into_inner).0 == 0
    }
}

fn take<T>(from: &Mutex<Option<T>>) -> Option<T> {
    from.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// A step that is being ended.
struct Counted(Arc<Ending>);

impl Drop for Counted {
    fn drop(&mut self) {
        *self.0.lock() -= 1;
        self.0.changed.notify_all();
    }
}
