//! Processes: the table of a container's processes that a client knows by name, and the one place that reaps.
//!
//! # Concurrency
//! One lock, under which nothing waits for the container: a process that is being started is marked (`Stage::Starting`), and started outside.
//! What the reaper waits for is known to the table before it can end: helpers are started, and reaped, under the lock.
//!
//! # Invariants
//! A process is signalled by its pidfd, never by its number. An end is told after the start that it follows. No exec is started in a container
//! that is paused or being paused, where it would never answer.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fs, io,
    os::fd::OwnedFd,
    path::PathBuf,
    process::Command,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};

use nix::{sys::signal::Signal, unistd::Pid};
use rustix::process::{WaitOptions, waitpid};

use super::{
    super::protocol::{Class, Exit, Process, Status, Streams},
    Refusal, init,
    streams::{self, Kept},
};
use crate::{pidfd::Pidfd, sys};

/// Further processes that a client may name at once: an endless list would fill the shim.
const MAX_EXECS: usize = 1000;
/// How long a process's output may take to reach a client that reads it, once the process is to be forgotten (containerd waits as long).
const DRAIN: Duration = Duration::from_secs(10);
/// How long starts that have begun may hold up a pause.
const STARTS: Duration = Duration::from_secs(10);

/// The first process of a container.
pub(super) struct First {
    pub(super) pid: Pid,
    pub(super) process: Pidfd,
    pub(super) streams: Streams,
    pub(super) kept: Kept,
    pub(super) console: Option<OwnedFd>,
}

/// What a further process is to be.
#[derive(Clone)]
pub(super) struct Pending {
    pub(super) process: serde_json::Value,
    pub(super) streams: Streams,
}

/// A further process that was started.
pub(super) struct Spawned {
    /// Its number.
    pub(super) pid: Pid,
    /// The process in the container.
    pub(super) process: Pidfd,
    pub(super) kept: Kept,
    pub(super) console: Option<OwnedFd>,
}

/// How far a process has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// It waits to be started, for the first time or after a start that failed.
    #[default]
    Created,
    /// It is being started.
    Starting,
    /// It was started.
    Started,
}

#[derive(Default)]
struct Entry {
    pid: Option<Pid>,
    process: Option<Pidfd>,
    /// Its parent, which ends with its exit code; our child. None of the first process, which is our child itself.
    helper: Option<Pid>,
    pending: Option<Pending>,
    stage: Stage,
    /// How often it could not be started.
    failures: usize,
    exit: Option<Exit>,
    streams: Streams,
    kept: Kept,
    console: Option<OwnedFd>,
    /// Ends when the terminal's output is copied.
    output: Option<Receiver<Infallible>>,
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

    /// Its end, once that may be told.
    fn told(&self) -> Option<Exit> {
        self.exit.filter(|_| self.stage != Stage::Starting)
    }
}

/// What is known.
struct Table {
    entries: BTreeMap<String, Entry>,
    /// How many processes are being started.
    starting: usize,
    /// Whether the container is being paused.
    pausing: bool,
}

impl Table {
    fn entry(&mut self, name: &str) -> Result<&mut Entry, Refusal> {
        self.entries.get_mut(name).ok_or_else(|| unknown(name))
    }
}

/// The table.
pub(super) struct Processes {
    exit_file: PathBuf,
    table: Mutex<Table>,
    changed: Condvar,
}

impl Processes {
    /// A table with a container's first process.
    pub(super) fn new(exit_file: PathBuf, first: First) -> Self {
        let First { pid, process, streams, kept, console } = first;
        let entry =
            Entry { pid: Some(pid), process: Some(process), streams, kept, console, ..Entry::default() };
        let entries = BTreeMap::from([(String::new(), entry)]);
        let table = Mutex::new(Table { entries, starting: 0, pausing: false });
        Self { exit_file, table, changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects the first process's streams.
    pub(super) fn start_streams(&self) -> Result<(), Refusal> {
        self.lock().entry("")?.connect()
    }

    /// Where a process stands.
    pub(super) fn state(&self, name: &str, paused: bool) -> Result<Process, Refusal> {
        let mut table = self.lock();
        let entry = table.entry(name)?;
        let exit = entry.told();
        let status = match (exit, entry.stage) {
            (Some(_), _) => Status::Stopped,
            (None, Stage::Created | Stage::Starting) => Status::Created,
            (None, Stage::Started) if paused => Status::Paused,
            (None, Stage::Started) => Status::Running,
        };
        let pid = entry.pid.map_or(0, |pid| pid.as_raw().unsigned_abs());
        Ok(Process { pid, status, streams: entry.streams.clone(), exit })
    }

    /// Takes the name of a further process.
    pub(super) fn add(
        &self,
        name: String,
        process: serde_json::Value,
        streams: Streams,
    ) -> Result<(), Refusal> {
        let mut table = self.lock();
        let taken = table.entries.contains_key(&name);
        if taken || name.is_empty() {
            return Err(Refusal::new(Class::AlreadyExists, format!("process {name:?} already exists")));
        }
        let first = table.entry("")?;
        if first.exit.is_some() || first.stage != Stage::Started {
            return Err(not_running());
        }
        if table.entries.len() > MAX_EXECS {
            return Err(Refusal::new(
                Class::Precondition,
                format!("{MAX_EXECS} processes are known already"),
            ));
        }
        let pending = Some(Pending { process, streams: streams.clone() });
        table.entries.insert(name, Entry { pending, streams, ..Entry::default() });
        Ok(())
    }

    /// Begins the start of a process: the container's first one, and what a further one is to be.
    pub(super) fn begin(&self, name: &str) -> Result<(Pid, Option<Pending>), Refusal> {
        let mut table = self.lock();
        let Entry { pid: Some(first), exit: None, .. } = *table.entry("")? else {
            return Err(not_running());
        };
        let pausing = table.pausing;
        let entry = table.entry(name)?;
        if entry.exit.is_some() || entry.stage != Stage::Created {
            return Err(Refusal::new(Class::Precondition, "the process was started already"));
        }
        if pausing && entry.pending.is_some() {
            return Err(paused());
        }
        entry.stage = Stage::Starting;
        let pending = entry.pending.clone();
        table.starting += 1;
        Ok((first, pending))
    }

    /// Starts the helper of a process that is being started.
    pub(super) fn launch(&self, name: &str, command: &mut Command) -> io::Result<()> {
        let mut table = self.lock();
        let entry = table.entries.get_mut(name).ok_or(io::ErrorKind::NotFound)?;
        let child = command.spawn()?;
        entry.helper = Some(Pid::from_raw(child.id().cast_signed()));
        Ok(())
    }

    /// Ends the start of a process.
    pub(super) fn started(&self, name: &str, spawned: Option<Spawned>) -> Result<(), Refusal> {
        let mut table = self.lock();
        let entry = table.entry(name)?;
        if let Some(Spawned { pid, process, kept, console }) = spawned {
            (entry.pid, entry.process) = (Some(pid), Some(process));
            (entry.kept, entry.console) = (kept, console);
            entry.connect()?;
        }
        entry.stage = Stage::Started;
        self.ended_start(table);
        Ok(())
    }

    /// Undoes the start of a process, which may be tried again. Whoever waits for its end learns that there is none, if it was tried at all.
    pub(super) fn not_started(&self, name: &str, was_tried: bool) {
        let mut table = self.lock();
        if let Ok(entry) = table.entry(name) {
            entry.stage = Stage::Created;
            entry.failures += usize::from(was_tried);
            // Of a further process: the helper is nobody's now. The first one may have ended of itself.
            if entry.pending.is_some() {
                let _ = entry.process.as_ref().map(|process| process.send(Signal::SIGKILL));
                (entry.pid, entry.process, entry.helper, entry.exit) = (None, None, None, None);
                (entry.kept, entry.console) = (Kept::default(), None);
            }
        }
        self.ended_start(table);
    }

    fn ended_start(&self, mut table: MutexGuard<'_, Table>) {
        table.starting -= 1;
        self.changed.notify_all();
    }

    /// Pauses the container by `pause`, when no process is being started: none is meanwhile.
    pub(super) fn pause(&self, pause: impl FnOnce() -> Result<(), Refusal>) -> Result<(), Refusal> {
        let mut table = self.lock();
        if table.pausing {
            return Err(Refusal::new(Class::Precondition, "the container is being paused"));
        }
        table.pausing = true;
        let waited = self.changed.wait_timeout_while(table, STARTS, |table| table.starting > 0);
        let (table, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        drop(table);
        let done = match waited.timed_out() {
            true => Err(Refusal::new(Class::Precondition, "a process is being started")),
            false => pause(),
        };
        self.lock().pausing = false;
        done
    }

    /// Returns once a process has ended, with how; or could not be started, which counts as 0, as in containerd.
    pub(super) fn wait(&self, name: &str) -> Result<Exit, Refusal> {
        let mut table = self.lock();
        let failures = table.entry(name)?.failures;
        loop {
            let entry = table.entry(name)?;
            if let Some(exit) = entry.told() {
                return Ok(exit);
            }
            if entry.failures > failures || (entry.failures > 0 && entry.stage == Stage::Created) {
                return Ok(Exit::now(0));
            }
            table = self.changed.wait(table).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Fails unless a process runs, with what it is signalled by.
    fn running(entry: &Entry) -> Result<&Pidfd, Refusal> {
        match (entry.told(), &entry.process) {
            (Some(_), _) => Err(Refusal::new(Class::NotFound, "process already finished")),
            (None, None) => Err(Refusal::new(Class::Precondition, "the process is not started")),
            (None, Some(process)) => Ok(process),
        }
    }

    /// Fails unless a process runs.
    pub(super) fn check_running(&self, name: &str) -> Result<(), Refusal> {
        Self::running(self.lock().entry(name)?).map(drop)
    }

    /// Sends a signal to a process.
    pub(super) fn kill(&self, name: &str, signal: i32) -> Result<(), Refusal> {
        let signal = init::signal_of(signal)?;
        Ok(Self::running(self.lock().entry(name)?)?.send(signal)?)
    }

    /// Changes a terminal's size.
    pub(super) fn resize(&self, name: &str, width: u16, height: u16) -> Result<(), Refusal> {
        let mut table = self.lock();
        let entry = table.entry(name)?;
        let Some(console) = &entry.console else {
            return Err(Refusal::new(Class::Invalid, "the process has no terminal"));
        };
        let size = rustix::termios::Winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(rustix::termios::tcsetwinsize(console, size)?)
    }

    /// Ends a process's input.
    pub(super) fn close_input(&self, name: &str) -> Result<(), Refusal> {
        self.lock().entry(name)?.kept.close_input();
        Ok(())
    }

    /// Ends a first process that was never started; one that runs is refused.
    pub(super) fn end_unstarted(&self) -> Result<(), Refusal> {
        {
            let mut table = self.lock();
            let first = table.entry("")?;
            match (first.told(), first.stage, &first.process) {
                (Some(_), ..) => return Ok(()),
                (None, Stage::Created, Some(process)) => process.send(Signal::SIGKILL)?,
                (None, ..) => return Err(still_runs()),
            }
        }
        let mut table = self.lock();
        while table.entry("")?.told().is_none() {
            table = self.changed.wait(table).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    /// Waits until a process's output is out, as far as somebody reads it.
    pub(super) fn drain(&self, name: &str) {
        let output = {
            let mut table = self.lock();
            let Ok(entry) = table.entry(name) else { return };
            // What only we could read, nobody will.
            entry.kept.close_outputs();
            entry.output.take()
        };
        if output.is_some_and(|output| output.recv_timeout(DRAIN) == Err(RecvTimeoutError::Timeout)) {
            super::log(&format!("process {name:?}: its client reads no output: the rest of it is lost"));
        }
    }

    /// Forgets a further process that does not run.
    pub(super) fn forget(&self, name: &str) -> Result<(), Refusal> {
        {
            let mut table = self.lock();
            let entry = table.entry(name)?;
            if entry.stage != Stage::Created && entry.told().is_none() {
                return Err(still_runs());
            }
        }
        self.drain(name);
        self.lock().entries.remove(name);
        self.changed.notify_all();
        Ok(())
    }

    /// Reaps until the container has no process left.
    pub(super) fn reap(&self) {
        loop {
            // Its number is not given out again before it is reaped, which is under the lock.
            let pid = match sys::next_ended_child() {
                Ok(pid) => pid,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            let mut table = self.lock();
            let Ok(Some((_, status))) = waitpid(Some(pid), WaitOptions::NOHANG) else { continue };
            let code = match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => code.unsigned_abs(),
                (None, signal) => 128 + signal.unwrap_or_default().unsigned_abs(),
            };
            let pid = Pid::from_raw(pid.as_raw_nonzero().get());
            self.record(&mut table, pid, code);
        }
    }

    /// Writes down that a child of ours has ended.
    fn record(&self, table: &mut Table, pid: Pid, code: u32) {
        let ours = |entry: &Entry| entry.helper.or(entry.pid) == Some(pid) && entry.exit.is_none();
        let Some((name, entry)) = table.entries.iter_mut().find(|(_, entry)| ours(entry)) else { return };
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

fn not_running() -> Refusal {
    Refusal::new(Class::Precondition, "the container is not running")
}

fn still_runs() -> Refusal {
    Refusal::new(Class::Precondition, "the process still runs: kill it first")
}

/// Why no exec is started.
pub(super) fn paused() -> Refusal {
    Refusal::new(Class::Precondition, "cannot exec in a paused container: resume it first")
}

fn write_exit(path: &std::path::Path, process: &Process) -> std::io::Result<()> {
    let part = path.with_extension("part");
    fs::write(&part, serde_json::to_vec(process)?)?;
    fs::rename(part, path)
}

fn unknown(name: &str) -> Refusal {
    Refusal::new(Class::NotFound, format!("no process {name:?}"))
}

#[cfg(test)]
mod tests;
