//! Processes: the table of a container's processes that a client knows by name, and the one place that reaps.
//!
//! # Concurrency
//! One lock; a process is started under it, so that the reaper cannot see an end before the table knows whose it is.

use std::{
    collections::BTreeMap,
    fs,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

use nix::{
    errno::Errno,
    sys::{
        signal::Signal,
        wait::{WaitStatus, waitpid},
    },
    unistd::Pid,
};

use super::{
    super::protocol::{Class, Exit, Process, Status, Streams},
    Refusal, init,
    streams::{self, Kept},
};

/// Further processes that a client may name at once: an endless list would fill the shim.
const MAX_EXECS: usize = 1000;

/// The first process of a container.
pub(super) struct First {
    pub(super) pid: Pid,
    pub(super) streams: Streams,
    pub(super) kept: Kept,
    pub(super) console: Option<OwnedFd>,
}

/// A further process that waits to be started.
pub(super) struct Pending {
    pub(super) process: serde_json::Value,
    pub(super) streams: Streams,
}

/// A further process that was started.
pub(super) struct Spawned {
    /// The process in the container.
    pub(super) pid: Pid,
    /// Its parent, which ends with its exit code; our child.
    pub(super) helper: Pid,
    pub(super) kept: Kept,
    pub(super) console: Option<OwnedFd>,
}

#[derive(Default)]
struct Entry {
    pid: Option<Pid>,
    helper: Option<Pid>,
    pending: Option<Pending>,
    started: bool,
    exit: Option<Exit>,
    streams: Streams,
    kept: Kept,
    console: Option<OwnedFd>,
    output: Option<JoinHandle<()>>,
}

impl Entry {
    /// Connects the terminal, or starts copying input.
    fn connect(&mut self) -> Result<(), Refusal> {
        match &self.console {
            None => self.kept.start()?,
            Some(master) => {
                let (kept, output) = streams::terminal(&self.streams, master)?;
                self.kept = kept;
                self.output = Some(output);
            }
        }
        Ok(())
    }
}

/// The table.
pub(super) struct Processes {
    exit_file: PathBuf,
    table: Mutex<BTreeMap<String, Entry>>,
    changed: Condvar,
}

impl Processes {
    /// A table with a container's first process.
    pub(super) fn new(exit_file: PathBuf, first: First) -> Self {
        let First { pid, streams, kept, console } = first;
        let entry = Entry { pid: Some(pid), streams, kept, console, ..Entry::default() };
        let table = Mutex::new(BTreeMap::from([(String::new(), entry)]));
        Self { exit_file, table, changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects the first process's streams.
    pub(super) fn start_streams(&self) -> Result<(), Refusal> {
        self.lock().get_mut("").map_or(Ok(()), Entry::connect)
    }

    /// Where a process stands.
    pub(super) fn state(&self, name: &str, paused: bool) -> Result<Process, Refusal> {
        let table = self.lock();
        let entry = table.get(name).ok_or_else(|| unknown(name))?;
        let status = match (entry.exit, entry.started) {
            (Some(_), _) => Status::Stopped,
            (None, false) => Status::Created,
            (None, true) if paused => Status::Paused,
            (None, true) => Status::Running,
        };
        let pid = entry.pid.map_or(0, |pid| pid.as_raw().unsigned_abs());
        Ok(Process { pid, status, streams: entry.streams.clone(), exit: entry.exit })
    }

    /// Takes the name of a further process.
    pub(super) fn add(
        &self,
        name: String,
        process: serde_json::Value,
        streams: Streams,
    ) -> Result<(), Refusal> {
        let mut table = self.lock();
        let taken = table.contains_key(&name);
        if taken || name.is_empty() {
            return Err(Refusal::new(Class::AlreadyExists, format!("process {name:?} already exists")));
        }
        let first = &table[""];
        if first.exit.is_some() || !first.started {
            return Err(Refusal::new(Class::Precondition, "the container is not running"));
        }
        if table.len() > MAX_EXECS {
            return Err(Refusal::new(
                Class::Precondition,
                format!("{MAX_EXECS} processes are known already"),
            ));
        }
        let pending = Some(Pending { process, streams: streams.clone() });
        table.insert(name, Entry { pending, streams, ..Entry::default() });
        Ok(())
    }

    /// Starts a process: the first by `begin(None)`, a further one by what `begin` makes of its description.
    pub(super) fn start(
        &self,
        name: &str,
        begin: impl FnOnce(Pid, Option<&Pending>) -> Result<Option<Spawned>, Refusal>,
    ) -> Result<(), Refusal> {
        let mut table = self.lock();
        let Entry { pid: Some(first), exit: None, .. } = table[""] else {
            return Err(Refusal::new(Class::Precondition, "the container is not running"));
        };
        let entry = table.get_mut(name).ok_or_else(|| unknown(name))?;
        if entry.exit.is_some() || entry.started {
            return Err(Refusal::new(Class::Precondition, "the process was started already"));
        }
        if let Some(spawned) = begin(first, entry.pending.as_ref())? {
            entry.pid = Some(spawned.pid);
            entry.helper = Some(spawned.helper);
            entry.kept = spawned.kept;
            entry.console = spawned.console;
            entry.connect()?;
        }
        entry.started = true;
        Ok(())
    }

    /// Returns once a process has ended and its output is out.
    pub(super) fn wait(&self, name: &str) -> Result<(), Refusal> {
        let mut table = self.lock();
        while table.get(name).ok_or_else(|| unknown(name))?.exit.is_none() {
            table = self.changed.wait(table).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    /// Fails unless a process runs, with its number.
    pub(super) fn running(&self, name: &str) -> Result<Pid, Refusal> {
        let table = self.lock();
        let entry = table.get(name).ok_or_else(|| unknown(name))?;
        let finished = || Refusal::new(Class::NotFound, "process already finished");
        match (entry.exit, entry.pid) {
            (Some(_), _) => Err(finished()),
            (None, None) => Err(Refusal::new(Class::Precondition, "the process is not started")),
            (None, Some(pid)) => Ok(pid),
        }
    }

    /// Sends a signal to a process. The reaper may be a moment behind: the number is not given out again before it reaps.
    pub(super) fn kill(&self, name: &str, signal: i32) -> Result<(), Refusal> {
        let signal = init::signal_of(signal)?;
        Ok(init::send(self.running(name)?, signal)?)
    }

    /// Changes a terminal's size.
    pub(super) fn resize(&self, name: &str, width: u16, height: u16) -> Result<(), Refusal> {
        let table = self.lock();
        let entry = table.get(name).ok_or_else(|| unknown(name))?;
        let Some(console) = &entry.console else {
            return Err(Refusal::new(Class::Invalid, "the process has no terminal"));
        };
        let size = rustix::termios::Winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(rustix::termios::tcsetwinsize(console, size)?)
    }

    /// Ends a process's input.
    pub(super) fn close_input(&self, name: &str) -> Result<(), Refusal> {
        self.lock().get_mut(name).ok_or_else(|| unknown(name))?.kept.close_input();
        Ok(())
    }

    /// Ends a first process that was never started; one that runs is refused.
    pub(super) fn end_unstarted(&self) -> Result<(), Refusal> {
        let started = {
            let table = self.lock();
            let first = &table[""];
            if first.exit.is_none() && !first.started {
                first.pid.map_or(Ok(()), |pid| init::send(pid, Signal::SIGKILL))?;
            }
            first.started && first.exit.is_none()
        };
        if started {
            return Err(Refusal::new(Class::Precondition, "the process still runs: kill it first"));
        }
        self.wait("")
    }

    /// Waits until a process's output is out.
    pub(super) fn drain(&self, name: &str) {
        let output = self.lock().get_mut(name).and_then(|entry| entry.output.take());
        if let Some(output) = output {
            let _ = output.join();
        }
    }

    /// Forgets a further process that does not run.
    pub(super) fn forget(&self, name: &str) -> Result<(), Refusal> {
        let runs = {
            let table = self.lock();
            let entry = table.get(name).ok_or_else(|| unknown(name))?;
            entry.started && entry.exit.is_none()
        };
        if runs {
            return Err(Refusal::new(Class::Precondition, "the process still runs: kill it first"));
        }
        self.drain(name);
        self.lock().remove(name);
        Ok(())
    }

    /// Reaps until the container has no process left.
    pub(super) fn reap(&self) {
        loop {
            let (pid, code) = match waitpid(None::<Pid>, None) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, code.unsigned_abs()),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, 128 + (signal as i32).unsigned_abs()),
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(_) => return,
            };
            let mut table = self.lock();
            let mut ours = table.iter_mut();
            let Some((name, entry)) =
                ours.find(|(_, entry)| entry.helper.or(entry.pid) == Some(pid) && entry.exit.is_none())
            else {
                continue;
            };
            let exit = Exit::now(code);
            if name.is_empty() {
                let process = Process {
                    pid: pid.as_raw().unsigned_abs(),
                    status: Status::Stopped,
                    streams: entry.streams.clone(),
                    exit: Some(exit),
                };
                if let Err(error) = write_exit(&self.exit_file, &process) {
                    super::log(&format!("write {}: {error}", self.exit_file.display()));
                }
            }
            entry.exit = Some(exit);
            self.changed.notify_all();
        }
    }
}

fn write_exit(path: &std::path::Path, process: &Process) -> std::io::Result<()> {
    let part = path.with_extension("part");
    fs::write(&part, serde_json::to_vec(process)?)?;
    fs::rename(part, path)
}

fn unknown(name: &str) -> Refusal {
    Refusal::new(Class::NotFound, format!("no process {name:?}"))
}
