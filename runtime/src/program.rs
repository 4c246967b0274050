//! Program: finds what a container's first process executes, and executes it.
//!
//! Runs in the container itself, after its root and user are in place: what the container sees is what is looked at. Used by steps and by
//! tasks. Messages are those that docker's users know, and their words decide between the exit codes 126 and 127.
//!
//! # Sources
//! runc `libcontainer/init_linux.go` and Go's `os/exec.LookPath`, for the messages.

use std::{
    convert::Infallible,
    ffi::CString,
    io::Write,
    path::{Path, PathBuf},
};

use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use nix::{errno::Errno, sys::signal::Signal, unistd};
use oci_spec::runtime::{Process, Spec};

/// Where a name without a slash is looked for if the container's environment has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What a shell answers for a command that it cannot execute.
const NOT_EXECUTABLE: i32 = 126;

/// Executes the program that the spec names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Program;

impl Executor for Program {
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        let process = spec.process().as_ref().ok_or_else(|| missing().to_owned());
        process.and_then(find_of).map(drop).map_err(ExecutorValidationError::ArgValidationError)
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let process = spec.process().as_ref().ok_or_else(|| ExecutorError::Other(missing().into()))?;
        let program = find_of(process).map_err(ExecutorError::Other)?;
        // The container must not go on without the process that reaps and reports it.
        let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
        let error = execute(&program, process.args().as_deref().unwrap_or_default(), None);
        // The container has started already: its own output is the only place left to say it.
        let _ = writeln!(std::io::stderr(), "exec {}: {}", program.display(), reason(error));
        std::process::exit(NOT_EXECUTABLE);
    }
}

fn missing() -> &'static str {
    "the container has no process"
}

/// Executes a program with these arguments, in this environment or in our own; returns only if that failed.
pub(crate) fn execute(program: &Path, args: &[String], environment: Option<Vec<String>>) -> Errno {
    let text = |text: &String| CString::new(text.as_bytes()).map_err(|_| Errno::EINVAL);
    let executed = || -> Result<Infallible, Errno> {
        let path = CString::new(program.as_os_str().as_encoded_bytes()).map_err(|_| Errno::EINVAL)?;
        let args = args.iter().map(text).collect::<Result<Vec<_>, _>>()?;
        let environment = environment.map(|all| all.iter().map(text).collect::<Result<Vec<_>, _>>());
        let environment = environment.transpose()?;
        crate::sys::default_signals();
        match environment {
            Some(environment) => unistd::execve(&path, &args, &environment),
            None => unistd::execv(&path, &args),
        }
    };
    let Err(error) = executed();
    error
}

/// The path of a process's program in the container, or why there is none to execute.
pub(crate) fn find_of(process: &Process) -> Result<PathBuf, String> {
    let (args, environment) = (process.args().as_deref(), process.env().as_deref());
    find(args.unwrap_or_default(), process.cwd(), environment.unwrap_or_default())
}

/// The path of the program that these arguments begin with, or why there is none to execute.
pub(crate) fn find(args: &[String], cwd: &Path, environment: &[String]) -> Result<PathBuf, String> {
    let name = args.first().filter(|name| !name.is_empty());
    let name = name.ok_or("the container has no command")?;
    if name.contains('/') {
        let path = cwd.join(name);
        return match executable(&path) {
            Ok(()) => Ok(path),
            Err(Errno::ENOENT) => {
                Err(format!("exec: {name:?}: stat {}: no such file or directory", path.display()))
            }
            Err(error) => Err(format!("exec: {name:?}: {}", reason(error))),
        };
    }
    let path = environment.iter().rev().find_map(|one| one.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    let mut refused = None;
    for folder in path.split(':').filter(|folder| !folder.is_empty()) {
        let candidate = cwd.join(folder).join(name);
        match executable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(error) => refused = Some(error),
        }
    }
    match refused {
        Some(error) => Err(format!("exec: {name:?}: {}", reason(error))),
        None => Err(format!("exec: {name:?}: executable file not found in $PATH")),
    }
}

fn executable(path: &Path) -> Result<(), Errno> {
    let of_io = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or_default());
    if std::fs::metadata(path).map_err(of_io)?.is_dir() {
        return Err(Errno::EISDIR);
    }
    unistd::access(path, unistd::AccessFlags::X_OK)
}

/// What an error is called where the user of a container reads it.
pub(crate) fn reason(error: Errno) -> String {
    error.desc().to_lowercase()
}
