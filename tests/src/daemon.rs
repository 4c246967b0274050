//! Daemon: one `buildd` process with its own root, state and socket, gone when dropped.
//!
//! The binaries are those beside the test binary (`target/release`), built by `tests/run` beforehand.

use std::{
    fs::File,
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long something that must happen may take: a liveness deadline, not a measurement.
const DEADLINE: Duration = Duration::from_secs(30);

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    child: Option<Child>,
    dir: TempDir,
    variables: Vec<(String, String)>,
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Ran {
    /// The exit code; None if a signal ended it.
    pub code: Option<i32>,
    /// Standard output as text.
    pub stdout: String,
    /// Standard error as text.
    pub stderr: String,
}

impl Ran {
    /// The same, after asserting that the command succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// The same, after asserting that it failed with `code` and that standard error has every one of `texts`.
    #[track_caller]
    pub fn fails(self, code: i32, texts: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        for text in texts {
            assert!(self.stderr.contains(text), "no {text:?} in stderr:\n{}", self.stderr);
        }
        self
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// The folder of the release binaries.
pub fn binaries() -> PathBuf {
    let test = std::env::current_exe().expect("a test binary has a path");
    // A test lies in target/<profile>/deps, the bench beside the binaries.
    let near = test.parent().expect("it lies in a folder");
    let dir = if near.ends_with("deps") { near.parent().unwrap_or(near) } else { near }.to_owned();
    let daemon = dir.join("buildd");
    assert!(
        daemon.exists(),
        "{} is missing: run `cargo build --release -p buildd -p buildctl`",
        daemon.display()
    );
    dir
}

impl Daemon {
    /// Starts a daemon in a new temporary folder.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a daemon with more flags.
    pub fn start_with(flags: &[&str]) -> Self {
        Self::start_in(&[], flags)
    }

    /// Starts a daemon with more flags and variables of the environment.
    pub fn start_in(variables: &[(&str, &str)], flags: &[&str]) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests mount and start containers: run them as root"
        );
        let dir = tempfile::Builder::new().prefix("buildd-it-").tempdir().expect("a temporary folder");
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut daemon = Self { child: None, dir, variables: variables.collect() };
        daemon.spawn(flags);
        daemon
    }

    /// Starts the process (again) on the same folders and waits for its socket.
    pub fn spawn(&mut self, flags: &[&str]) {
        let log = File::options().create(true).append(true).open(self.path("log")).expect("a log file");
        let child = self
            .command("buildd")
            .arg("--addr")
            .arg(self.address())
            .arg("--root")
            .arg(self.path("root"))
            .arg("--state")
            .arg(self.path("state"))
            .args(flags)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second descriptor"))
            .stderr(log)
            .spawn()
            .expect("start buildd");
        self.child = Some(child);
        let start = Instant::now();
        while UnixStream::connect(self.path("sock")).is_err() {
            let child = self.child.as_mut().expect("just started");
            if let Some(status) = child.try_wait().expect("wait for buildd") {
                panic!("buildd left with {status}:\n{}", self.log());
            }
            assert!(start.elapsed() < DEADLINE, "buildd opened no socket:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A path inside this daemon's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The address clients take.
    pub fn address(&self) -> String {
        format!("unix://{}", self.path("sock").display())
    }

    /// What the daemon logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// The daemon's process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("running").id()
    }

    /// A command of ours, aimed at this daemon.
    pub fn command(&self, name: &str) -> Command {
        let mut command = Command::new(binaries().join(name));
        command.env("BUILDKIT_HOST", self.address()).env_remove("NO_COLOR");
        command
    }

    /// Runs `buildctl` to its end.
    pub fn buildctl(&self, args: &[&str]) -> Ran {
        let mut command = self.command("buildctl");
        command.args(args).stdin(Stdio::null());
        run(&mut command)
    }

    /// Runs `buildd fsck` on its root to its end; but to be refused, the daemon must have ended.
    pub fn fsck(&self, flags: &[&str]) -> Ran {
        let mut command = Command::new(binaries().join("buildd"));
        run(command.arg("fsck").arg("--root").arg(self.path("root")).args(flags).stdin(Stdio::null()))
    }

    /// Sends a signal and waits for the end; the exit code, None if a signal ended it.
    pub fn stop(&mut self, signal: Signal) -> Option<i32> {
        let mut child = self.child.take()?;
        let pid = Pid::from_child(&child);
        if child.try_wait().expect("wait for buildd").is_none() {
            kill_process(pid, signal).expect("signal our own child");
        }
        let start = Instant::now();
        loop {
            if let Some(status) = child.try_wait().expect("wait for buildd") {
                return status.code();
            }
            assert!(start.elapsed() < DEADLINE, "buildd does not leave:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("log of buildd:\n{}", self.log());
        }
        self.stop(Signal::TERM);
    }
}

/// Waits for something that must happen.
#[track_caller]
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < DEADLINE, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Ran {
    command.output().unwrap_or_else(|e| panic!("start {command:?}: {e}")).into()
}
