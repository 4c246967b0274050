//! Helper: the process between daemon and container, forked from the spawner.
//!
//! It is small and has one thread until the container runs, because the container is made by forking it. It never
//! returns to its caller.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader},
    os::fd::OwnedFd,
    path::Path,
    process::ExitCode,
};

use buildd_oci::error::chain;
use nix::{
    sys::{
        signal::Signal,
        wait::{WaitStatus, waitpid},
    },
    unistd::Pid,
};
use rustix::stdio::{dup2_stderr, dup2_stdout};

use super::{
    FILTER, INPUT, Order, Security, StepExit, StepSpec,
    cgroup::{Cgroup, PARENT},
    container::{self, Container, Means, NOT_MADE},
    terminal::{Size, Terminal},
};
use crate::pidfd::Pidfd;

pub(super) type Failure = Box<dyn std::error::Error>;

/// Runs the step that standard input describes; `folder` takes what it leaves behind. `life` is closed when there is no more to be had of it.
pub(super) fn helper_main(folder: &Path, life: OwnedFd) -> ExitCode {
    let mut groups = None;
    let exit = run(folder, &mut groups).unwrap_or_else(|error| StepExit {
        code: NOT_MADE,
        failure: Some(chain(error.as_ref())),
        ..StepExit::default()
    });
    let (part, whole) = (folder.join("exit.part"), folder.join("exit.json"));
    let text = serde_json::to_vec(&exit).expect("strings and numbers have a JSON form");
    let told = fs::write(&part, text).and_then(|()| fs::rename(&part, &whole)).and_then(|()| hang_up(life));
    // What takes long of it delays nobody now.
    drop(groups);
    if told.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Closes all at whose end the daemon sees that the step is over.
fn hang_up(life: OwnedFd) -> io::Result<()> {
    let nobody = OpenOptions::new().write(true).open("/dev/null")?;
    dup2_stdout(&nobody)?;
    dup2_stderr(&nobody)?;
    drop(life);
    Ok(())
}

fn run(folder: &Path, groups: &mut Option<Cgroup>) -> Result<StepExit, Failure> {
    let mut input = BufReader::new(std::io::stdin());
    let mut line = String::new();
    input.read_line(&mut line)?;
    let step: StepSpec = serde_json::from_str(&line)?;
    let id = folder.file_name().and_then(|name| name.to_str()).ok_or("the step's folder has no name")?;
    let parent = if step.cgroup_parent.is_empty() { PARENT } else { &step.cgroup_parent };
    let cgroup = &*groups.insert(Cgroup::create(&format!("{parent}/step-{id}"), &step)?);
    let filter = match step.security {
        Security::Sandbox => Some(fs::read(folder.with_file_name(FILTER))?),
        Security::Insecure => None,
    };
    let stdin = step.stdin.then(|| owners(&folder.join(INPUT))).transpose()?;
    let (typed, stdin) = if step.terminal { (stdin, None) } else { (None, stdin) };
    match container::start(&step, Means { cgroup, filter, stdin })? {
        Ok(Container { first, terminal }) => {
            let terminal = terminal.map(|master| Terminal::start(master, typed)).transpose()?;
            started(first, input, terminal, cgroup)
        }
        Err(exit) => Ok(exit),
    }
}

/// The reading end of the owner's pipe. An owner who has said all may have closed it already: we are a writer too while it
/// is opened, or poll(2) would never tell its end.
fn owners(path: &Path) -> io::Result<File> {
    let _writer = OpenOptions::new().read(true).write(true).open(path)?;
    File::open(path)
}

fn started(
    first: Pid,
    input: impl BufRead + Send + 'static,
    terminal: Option<Terminal>,
    cgroup: &Cgroup,
) -> Result<StepExit, Failure> {
    let size = terminal.as_ref().map(Terminal::size).transpose()?;
    // Orders may come after its end, when its number is somebody else's.
    let process = Pidfd::open(first)?;
    std::thread::spawn(move || obey(input, &process, size.as_ref()));
    let mut exit = loop {
        match waitpid(first, None) {
            Ok(WaitStatus::Exited(_, code)) => break StepExit { code, ..StepExit::default() },
            Ok(WaitStatus::Signaled(_, signal, _)) => {
                break StepExit {
                    code: 128 + signal as i32,
                    signal: Some(signal as i32),
                    ..StepExit::default()
                };
            }
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    };
    if let Some(terminal) = terminal {
        terminal.finish();
    }
    exit.out_of_memory = cgroup.oom_kills() > 0;
    Ok(exit)
}

/// Carries out the owner's orders; when there can be none any more, the container ends.
fn obey(input: impl BufRead, first: &Pidfd, size: Option<&Size>) {
    for line in input.lines() {
        match line.ok().and_then(|line| serde_json::from_str(&line).ok()) {
            Some(Order::Signal(number)) => {
                if let Ok(signal) = Signal::try_from(number) {
                    let _ = first.send(signal);
                }
            }
            Some(Order::Resize { rows, columns }) => {
                if let Some(size) = size {
                    size.set(rows, columns);
                }
            }
            None => break,
        }
    }
    let _ = first.send(Signal::SIGKILL);
}
