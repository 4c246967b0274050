//! Shared: one daemon for the tests of a module that do not mind each other.
//!
//! A test that shares gives its images, files in the daemon's folder and cache ids names of its own, stops nothing, prunes nothing and
//! lists nothing whole. Tests run as threads of one process (`tests/run` never runs them by nextest), so a `static` is shared.
//!
//! # Invariants
//! The daemon and its folder are gone a moment after the process has ended, however it ended: a keeper waits for the end of a pipe
//! that only this process holds. A static is never dropped, and PR_SET_PDEATHSIG would end the daemon with the thread of the one test
//! that started it.

use std::{
    ops::Deref,
    process::Child,
    sync::{Mutex, OnceLock, PoisonError},
};

use crate::{daemon::Daemon, fixture::import_base};

/// A daemon that is started when the first test wants it.
#[derive(Debug, Default)]
pub struct Shared {
    daemon: OnceLock<(Daemon, Child)>,
    base: Mutex<bool>,
}

impl Shared {
    /// None yet.
    pub const fn new() -> Self {
        Self { daemon: OnceLock::new(), base: Mutex::new(false) }
    }

    /// The daemon, for one test.
    pub fn bare(&self) -> Sharing<'_> {
        let (daemon, _) = self.daemon.get_or_init(Daemon::start_kept);
        Sharing { daemon, told: daemon.log().len() }
    }

    /// The daemon with the base image, for one test.
    pub fn with_base(&self) -> Sharing<'_> {
        let sharing = self.bare();
        let mut there = self.base.lock().unwrap_or_else(PoisonError::into_inner);
        if !*there {
            import_base(&sharing);
            *there = true;
        }
        sharing
    }
}

/// The use that one test makes of it: if the test fails, what the daemon logged meanwhile is shown.
#[derive(Debug)]
pub struct Sharing<'a> {
    daemon: &'a Daemon,
    /// Bytes of its log before the test.
    told: usize,
}

impl Deref for Sharing<'_> {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        self.daemon
    }
}

impl Drop for Sharing<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.daemon.log();
            eprintln!(
                "log of the shared buildd since this test began:\n{}",
                log.get(self.told..).unwrap_or(&log)
            );
        }
    }
}

/// Starts a daemon as the shared ones are, and lets go of it as the end of the process does; its pid and folder.
pub fn left_alone() -> (u32, std::path::PathBuf) {
    let (daemon, keeper) = Daemon::start_kept();
    import_base(&daemon);
    drop(keeper.stdin);
    (daemon.pid(), daemon.path(""))
}
