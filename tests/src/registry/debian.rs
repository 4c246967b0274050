//! Debian's docker-registry: somebody else's registry, in a process of its own, on a loopback port.

use std::{
    fs::File,
    net::{TcpListener, TcpStream},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{machine_wide::machine_wide, peers::peer};

/// How long it may take to listen: a liveness deadline, not a measurement.
const DEADLINE: Duration = Duration::from_secs(30);

/// A running docker-registry, gone when dropped.
#[derive(Debug)]
pub struct DockerRegistry {
    child: Child,
    authority: String,
    dir: TempDir,
}

impl DockerRegistry {
    /// Speaks plain HTTP, asks for nothing and keeps what it gets until it is dropped.
    pub fn start() -> Self {
        Self::with("")
    }

    /// The same with more lines of configuration; `DIR` in them is its own folder.
    pub fn with(more: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("buildd-registry-").tempdir().expect("a folder");
        // Until it listens, the port may be given to who asks next.
        let _port = machine_wide("loopback ports");
        let authority = {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
            listener.local_addr().expect("an address").to_string()
        };
        let root = dir.path().display().to_string();
        let config = format!(
            "version: 0.1\nlog:\n  level: warn\nstorage:\n  filesystem:\n    rootdirectory: {root}/data\n  delete:\n    \
             enabled: true\nhttp:\n  addr: {authority}\n{}",
            more.replace("DIR", &root)
        );
        let path = dir.path().join("config.yml");
        std::fs::write(&path, config).expect("write a configuration");
        let log = File::create(dir.path().join("log")).expect("a log file");
        let child = peer("docker-registry")
            .arg("serve")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second descriptor"))
            .stderr(log)
            .spawn()
            .expect("start docker-registry");
        let mut registry = Self { child, authority, dir };
        registry.wait();
        registry
    }

    fn wait(&mut self) {
        let start = Instant::now();
        while TcpStream::connect(&self.authority).is_err() {
            let left = self.child.try_wait().expect("wait for docker-registry");
            assert!(left.is_none(), "docker-registry left:\n{}", self.log());
            assert!(start.elapsed() < DEADLINE, "docker-registry does not listen:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// `127.0.0.1:<port>`.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
