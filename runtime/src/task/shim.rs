//! Shim: the process above one container. It makes it, reaps it, holds its streams, and answers the daemon; it outlives the daemon.
//!
//! `buildd shim FOLDER` reads `task.json` there, mounts the root, makes the container, listens at `shim.sock`, and says on standard output
//! that it is ready or why not. It ends when the daemon has the task deleted.
//!
//! # Concurrency
//! One thread until the container is made, because that forks. Then one that accepts, one a connection, one that reaps. All state is the
//! `Processes` under one lock, which nobody holds while the container is asked for something; `changed` wakes who waits for an end.
//!
//! # Invariants
//! Only the reaper waits for processes, so an exit is seen once. `exit.json` is on disk before the end is told. The container's processes
//! die with the shim (`PR_SET_PDEATHSIG`), and with its first process (pid namespace).

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::Arc,
};

use processes::Processes;
use starting::Starting;

use super::protocol::{Address, Class, EXIT, MAX_MESSAGE, Process, ROOTFS, Reply, Request, TASK, TaskSpec};

pub(super) mod exec;
mod init;
mod processes;
mod starting;
mod streams;

/// Why something was not done.
#[derive(Debug)]
struct Refusal {
    class: Class,
    reason: String,
}

impl Refusal {
    fn new(class: Class, reason: impl Into<String>) -> Self {
        Self { class, reason: reason.into() }
    }
}

impl<E: std::error::Error> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self { class: Class::Unknown, reason: buildd_oci::error::chain(&error) }
    }
}

/// What all threads share.
struct Shim {
    folder: PathBuf,
    container: init::Init,
    processes: Processes,
}

/// Runs the task that `folder` describes, to its deletion.
pub fn shim_main(folder: &Path) -> ExitCode {
    match prepare(folder) {
        Ok((shim, listener, process)) => {
            greet(&Reply::Process(process)).map_or(ExitCode::FAILURE, |()| serve(&Arc::new(shim), &listener))
        }
        Err(Refusal { class, reason }) => {
            let _ = greet(&Reply::Failed { class, reason });
            ExitCode::FAILURE
        }
    }
}

/// A line in `shim.log`, which is standard error here.
fn log(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

fn greet(reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    io::stdout().write_all(&line)
}

fn prepare(folder: &Path) -> Result<(Shim, UnixListener, Process), Refusal> {
    nix::unistd::setsid()?;
    nix::sys::prctl::set_child_subreaper(true)?;
    let task: TaskSpec = serde_json::from_slice(&std::fs::read(folder.join(TASK))?)?;
    let (container, first) = init::create(folder, &task)?;
    let listener = Address::of(folder)?.listen()?;
    let processes = Processes::new(folder.join(EXIT), first);
    let process = processes.state("", false)?;
    Ok((Shim { folder: folder.to_owned(), container, processes }, listener, process))
}

fn serve(shim: &Arc<Shim>, listener: &UnixListener) -> ExitCode {
    let reaping = Arc::clone(shim);
    std::thread::spawn(move || reaping.processes.reap());
    if let Err(Refusal { reason, .. }) = shim.processes.start_streams() {
        log(&format!("copy the container's streams: {reason}"));
    }
    for stream in listener.incoming() {
        let (shim, Ok(stream)) = (Arc::clone(shim), stream) else { continue };
        std::thread::spawn(move || {
            if let Err(error) = shim.answer(&stream) {
                log(&format!("answer the daemon: {error}"));
            }
        });
    }
    ExitCode::SUCCESS
}

impl Shim {
    fn answer(&self, mut stream: &UnixStream) -> io::Result<()> {
        let mut line = String::new();
        BufReader::new(stream.take(MAX_MESSAGE)).read_line(&mut line)?;
        let request: Request = serde_json::from_str(&line)?;
        let last = matches!(&request, Request::Delete { exec } if exec.is_empty());
        let done = self.handle(request);
        let last = last && done.is_ok();
        let reply = done.unwrap_or_else(|Refusal { class, reason }| Reply::Failed { class, reason });
        let mut line = serde_json::to_vec(&reply)?;
        line.push(b'\n');
        let written = stream.write_all(&line);
        if last {
            // The task is gone: nothing is left to answer for.
            std::process::exit(0);
        }
        written
    }

    fn handle(&self, request: Request) -> Result<Reply, Refusal> {
        let processes = &self.processes;
        match request {
            Request::State { exec } => self.state(&exec),
            Request::Start { exec } => {
                self.start(&exec)?;
                self.state(&exec)
            }
            Request::Wait { exec } => {
                let exit = Some(processes.wait(&exec)?);
                let process = processes.state(&exec, self.container.paused())?;
                Ok(Reply::Process(Process { exit, ..process }))
            }
            Request::Kill { exec, signal, all } => {
                if all {
                    processes.check_running("")?;
                    return self.container.kill_all(signal).map(|()| Reply::Done);
                }
                processes.kill(&exec, signal).map(|()| Reply::Done)
            }
            Request::Exec { exec, process, streams } => {
                processes.add(exec, process, streams).map(|()| Reply::Done)
            }
            Request::Resize { exec, width, height } => {
                processes.resize(&exec, width, height).map(|()| Reply::Done)
            }
            Request::CloseStdin { exec } => processes.close_input(&exec).map(|()| Reply::Done),
            Request::Pause => processes.pause(|| self.container.pause()).map(|()| Reply::Done),
            Request::Resume => self.container.resume().map(|()| Reply::Done),
            Request::Pids => self.container.pids().map(Reply::Pids),
            Request::Delete { exec } if exec.is_empty() => self.delete(),
            Request::Delete { exec } => {
                let last = self.state(&exec)?;
                processes.forget(&exec).map(|()| last)
            }
        }
    }

    fn start(&self, exec: &str) -> Result<(), Refusal> {
        let mut starting = Starting::begin(&self.processes, exec)?;
        let spawned = match starting.of(self.container.paused())? {
            (_, None) => {
                self.container.start()?;
                None
            }
            (first, Some(pending)) => {
                let launch = |command: &mut Command| starting.launch(command);
                Some(exec::spawn(first, &self.container, &pending, launch)?)
            }
        };
        starting.done(spawned)
    }

    fn state(&self, exec: &str) -> Result<Reply, Refusal> {
        Ok(Reply::Process(self.processes.state(exec, self.container.paused())?))
    }

    /// Removes the container; one that was never started is killed first.
    fn delete(&self) -> Result<Reply, Refusal> {
        self.processes.end_unstarted()?;
        let last = self.state("")?;
        self.processes.drain("");
        self.container.delete()?;
        let root = self.folder.join(ROOTFS);
        match buildd_fs::mounts::unmount(&root) {
            Err(error) if error.kind() != io::ErrorKind::InvalidInput => Err(error.into()),
            _ => Ok(last),
        }
    }
}
