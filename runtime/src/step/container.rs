//! Container: a step's own, made by one clone from the helper, which is small and has one thread.
//!
//! libcontainer needs a hundred times the calls: three processes that talk, every controller of control groups, a compiled filter. A RUN needs
//! one process in new namespaces that gives up what it may not have and executes; tasks, whose clients may ask for anything, stay with
//! libcontainer. The same probe looks at both (tests/it/sandbox.rs).
//!
//! # Invariants
//! The program runs only if everything before it worked: what did not is told to the helper over a socket that closes on exec.
//! The container does not outlive the helper.
//!
//! # Sources
//! spec runtime "The latency of `true` in a container"; spec attacks 6.2; clone(2).

use std::{
    convert::Infallible,
    fs::File,
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
};

use nix::{
    sched::CloneFlags,
    sys::signal::Signal,
    unistd::{self, ForkResult, Pid},
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    time::Timespec,
};

use super::{Network, StepExit, StepSpec, cgroup::Cgroup, helper::Failure};
use crate::{console, passwd, program, sys};

mod privileges;
mod root;

/// The exit code of a step whose container could not be made.
pub(super) const NOT_MADE: i32 = 125;
/// What a shell answers for a command that it cannot execute.
const NOT_EXECUTABLE: i32 = 126;

/// What a container is made of, beside the step's own description.
pub(super) struct Means<'a> {
    /// Its control groups.
    pub(super) cgroup: &'a Cgroup,
    /// The compiled filter of its system calls, if it is to have one.
    pub(super) filter: Option<Vec<u8>>,
    /// Its standard input; null if there is none. A terminal's is the terminal.
    pub(super) stdin: Option<File>,
}

/// A container whose program runs.
pub(super) struct Container {
    /// Its first process, a child of ours.
    pub(super) first: Pid,
    /// The master of its terminal, if it has one.
    pub(super) terminal: Option<OwnedFd>,
}

/// Makes a step's container and starts its program; how the step ended if that could not be done.
pub(super) fn start(step: &StepSpec, means: Means<'_>) -> Result<Result<Container, StepExit>, Failure> {
    let (report, mut told) = UnixStream::pair()?;
    let (terminal, master) = UnixStream::pair()?;
    match sys::fork_single_threaded(namespaces(step.network))? {
        ForkResult::Child => {
            drop((told, master));
            let Err(refusal) = become_program(step, means, &report, &terminal);
            let exit = StepExit { code: NOT_MADE, failure: Some(refusal.0), ..StepExit::default() };
            let text = serde_json::to_vec(&exit).expect("strings and numbers have a JSON form");
            let _ = (&report).write_all(&text);
            std::process::exit(NOT_MADE)
        }
        ForkResult::Parent { child: first } => {
            drop((report, terminal));
            // A container that could not be made sends none; its report says why.
            let terminal = step.terminal.then(|| console::receive(&master).ok()).flatten();
            let mut text = Vec::new();
            told.read_to_end(&mut text)?;
            if text.is_empty() {
                return Ok(Ok(Container { first, terminal }));
            }
            nix::sys::wait::waitpid(first, None)?;
            Ok(Err(serde_json::from_slice(&text)?))
        }
    }
}

fn namespaces(network: Network) -> CloneFlags {
    let own = match network {
        Network::Host => CloneFlags::empty(),
        Network::None => CloneFlags::CLONE_NEWNET,
    };
    own | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
}

/// Takes on everything that the container is, and executes; returns only why it could not.
fn become_program(
    step: &StepSpec,
    means: Means<'_>,
    report: &UnixStream,
    terminal: &UnixStream,
) -> Result<Infallible, Refusal> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    if is_closed(report)? {
        return Err(Refusal("the step's helper is gone".to_owned()));
    }
    means.cgroup.join()?;
    unistd::setsid()?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    rustix::system::sethostname(step.hostname.as_bytes())?;
    root::enter(step, means.cgroup)?;
    if step.terminal {
        let master = console::take_on()?;
        let name = rustix::fs::readlink("/proc/self/fd/0", Vec::new())?;
        rustix::mount::mount_bind(&*name, "/dev/console")?;
        console::send(terminal, master.as_fd())?;
    } else {
        let stdin = means.stdin.map_or_else(|| File::open("/dev/null"), Ok)?;
        rustix::stdio::dup2_stdin(stdin)?;
    }
    let cwd = Path::new(&step.cwd);
    rustix::process::chdir(cwd).map_err(|error| Refusal::at("enter the working directory", cwd, error))?;
    let environment = environment(step);
    privileges::limit(step)?;
    privileges::drop_privileges(step, means.filter.as_deref())?;
    sys::close_on_exec()?;
    let program = program::find(&step.args, cwd, &environment).map_err(Refusal)?;
    let error = program::execute(&program, &step.args, Some(environment));
    // The container's own output says it, as it would if a program of the container had tried.
    let _ = writeln!(io::stderr(), "exec {}: {}", program.display(), program::reason(error));
    std::process::exit(NOT_EXECUTABLE)
}

/// Whether the other end is gone: a parent that ended before we asked for its signal will never send it.
fn is_closed(socket: &UnixStream) -> io::Result<bool> {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut polled = [PollFd::new(socket, PollFlags::empty())];
    poll(&mut polled, Some(&now))?;
    Ok(polled[0].revents().contains(PollFlags::HUP))
}

/// The step's environment, with the home of its user if it names none.
fn environment(step: &StepSpec) -> Vec<String> {
    let mut environment = step.env.clone();
    if !environment.iter().any(|one| one.starts_with("HOME=") && one.len() > "HOME=".len()) {
        let home = passwd::home(Path::new("/"), step.user.uid);
        environment.push(format!("HOME={home}"));
    }
    environment
}

/// Why a container could not be made.
struct Refusal(String);

impl Refusal {
    fn failed(operation: impl std::fmt::Display, error: impl std::fmt::Display) -> Self {
        Self(format!("{operation}: {error}"))
    }

    fn at(operation: &str, path: &Path, error: impl Into<Self>) -> Self {
        Self(format!("{operation} {}: {}", path.display(), error.into().0))
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<rustix::io::Errno> for Refusal {
    fn from(error: rustix::io::Errno) -> Self {
        io::Error::from(error).into()
    }
}

impl From<nix::errno::Errno> for Refusal {
    fn from(error: nix::errno::Errno) -> Self {
        io::Error::from(error).into()
    }
}
