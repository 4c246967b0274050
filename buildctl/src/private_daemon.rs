//! Private daemon: a `buildd` beside our own binary, started when nothing answers on the default socket.
//!
//! It leaves by itself after some idle minutes and logs to `<state>/buildd.log`.
//!
//! # Concurrency
//!
//! Of several starters the holder of `<state>/start.lock` starts the daemon; the others wait for the lock and find the socket answering.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use tokio::net::UnixStream;
use tonic::transport::Channel;

use crate::connection::{Address, open};

/// The state folder of the default daemon.
const STATE: &str = "/run/buildd";
/// Seconds without work after which a private daemon leaves.
const IDLE_SECONDS: &str = "300";
/// How long a starting daemon may take: it may have to recover its root after a crash.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// How often a starting daemon is asked.
const POLL: Duration = Duration::from_millis(5);
/// How much of a failed daemon's log is shown.
const LOG_LINES: usize = 10;

/// The default socket.
pub(crate) fn default_socket() -> PathBuf {
    Path::new(STATE).join("buildd.sock")
}

/// Connects to the default socket, after starting a daemon if nobody answers there.
pub(crate) async fn connect_or_start() -> Result<Channel> {
    let socket = default_socket();
    if UnixStream::connect(&socket).await.is_err() {
        if !rustix::process::geteuid().is_root() {
            bail!(
                "no daemon answers at {}, and starting one needs root for now: use sudo, or --addr for another daemon",
                socket.display()
            );
        }
        start(&socket).await?;
    }
    open(&Address::Unix(socket)).await
}

async fn start(socket: &Path) -> Result<()> {
    let state = Path::new(STATE);
    fs::create_dir_all(state).with_context(|| format!("make the state folder {STATE}"))?;
    let path = state.join("start.lock");
    let lock = File::options()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("open {}", path.display()))?;
    let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock))
        .await?
        .with_context(|| format!("lock {}", path.display()))?;
    if UnixStream::connect(socket).await.is_ok() {
        return Ok(());
    }
    let child = spawn(socket, state)?;
    let started = wait(child, socket, state).await;
    drop(lock);
    started
}

fn spawn(socket: &Path, state: &Path) -> Result<Child> {
    let own = std::env::current_exe().context("find our own binary")?;
    let daemon = own.with_file_name("buildd");
    let log = File::options()
        .create(true)
        .append(true)
        .open(state.join("buildd.log"))
        .context("open the daemon's log")?;
    let errors = log.try_clone().context("share the daemon's log")?;
    Command::new(&daemon)
        .arg("--addr")
        .arg(format!("unix://{}", socket.display()))
        .args(["--idle-timeout", IDLE_SECONDS])
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn()
        .with_context(|| format!("start the daemon {}", daemon.display()))
}

async fn wait(mut child: Child, socket: &Path, state: &Path) -> Result<()> {
    let start = Instant::now();
    loop {
        if UnixStream::connect(socket).await.is_ok() {
            return Ok(());
        }
        let left = child.try_wait().context("wait for the daemon")?;
        if let Some(status) = left {
            bail!("the daemon left at once ({status}):\n{}", log_tail(state));
        }
        if start.elapsed() > START_DEADLINE {
            bail!("the daemon opened no socket in {} s:\n{}", START_DEADLINE.as_secs(), log_tail(state));
        }
        tokio::time::sleep(POLL).await;
    }
}

fn log_tail(state: &Path) -> String {
    let path = state.join("buildd.log");
    let text = fs::read(&path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let tail = &lines[lines.len().saturating_sub(LOG_LINES)..];
    format!("{}\n(from {})", tail.join("\n"), path.display())
}
