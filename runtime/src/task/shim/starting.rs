//! Starting: a process between the table's leave to start it and what became of it.
//!
//! # Invariants
//! Whatever way the start ends, the table learns of it: a start that is dropped has failed.

use std::{io, process::Command};

use nix::unistd::Pid;

use super::{
    Refusal,
    processes::{Pending, Processes, Spawned, paused},
};

/// A process that is being started.
pub(super) struct Starting<'a> {
    processes: &'a Processes,
    name: &'a str,
    first: Pid,
    pending: Option<Pending>,
    /// None once it has ended; else whether anything was tried.
    tried: Option<bool>,
}

impl<'a> Starting<'a> {
    /// Begins the start of a process that the table knows.
    pub(super) fn begin(processes: &'a Processes, name: &'a str) -> Result<Self, Refusal> {
        let (first, pending) = processes.begin(name)?;
        Ok(Self { processes, name, first, pending, tried: Some(false) })
    }

    /// The container's first process, and what a further one is to be; None where it is the first one that is started.
    pub(super) fn of(&mut self, is_paused: bool) -> Result<(Pid, Option<Pending>), Refusal> {
        if is_paused && self.pending.is_some() {
            return Err(paused());
        }
        self.tried = Some(true);
        Ok((self.first, self.pending.take()))
    }

    /// Starts its helper.
    pub(super) fn launch(&self, command: &mut Command) -> io::Result<()> {
        self.processes.launch(self.name, command)
    }

    /// It runs.
    pub(super) fn done(mut self, spawned: Option<Spawned>) -> Result<(), Refusal> {
        self.processes.started(self.name, spawned)?;
        self.tried = None;
        Ok(())
    }
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        if let Some(tried) = self.tried {
            self.processes.not_started(self.name, tried);
        }
    }
}
