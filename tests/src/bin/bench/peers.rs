//! Peers: containerd 2, which ours is measured against, with folders of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use buildd_tests::{
    daemon::{Ran, run},
    peers::peer,
};

/// containerd 2, with folders of its own.
#[derive(Debug)]
pub(super) struct Containerd {
    child: Child,
    dir: PathBuf,
}

impl Containerd {
    /// Starts it and waits until it answers.
    pub(super) fn start(dir: &Path) -> Self {
        fs::create_dir_all(dir).expect("a folder");
        let config = dir.join("config.toml");
        let part = |name: &str| dir.join(name).display().to_string();
        let plugins = "disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.cri.v1.runtime\", \"io.containerd.cri.v1.images\"]";
        let head =
            format!("version = 3\nroot = {:?}\nstate = {:?}\n{plugins}\n", part("root"), part("state"));
        fs::write(&config, format!("{head}[grpc]\naddress = {:?}\n", part("sock"))).expect("a configuration");
        let log = fs::File::create(dir.join("log")).expect("a log");
        let child =
            peer("containerd2").arg("--config").arg(&config).stdout(Stdio::null()).stderr(log).spawn();
        let server = Self { child: child.expect("start containerd2"), dir: dir.to_owned() };
        let began = Instant::now();
        while server.ctr(&["version"]).code != Some(0) {
            assert!(
                began.elapsed() < Duration::from_secs(30),
                "containerd2 does not answer: see {}",
                part("log")
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }

    /// Runs its own client to the end.
    pub(super) fn ctr(&self, args: &[&str]) -> Ran {
        run(&mut self.command(args))
    }

    /// Its process.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A command of its own client, aimed at it.
    pub(super) fn command(&self, args: &[&str]) -> Command {
        let mut command = peer("ctr2");
        let bin = std::env::var("BUILDD_PEERS").unwrap_or_else(|_| "/var/cache/buildd-peers".to_owned());
        let path = format!("{bin}/bin:{}", std::env::var("PATH").unwrap_or_default());
        command.env("PATH", path).arg("--address").arg(self.dir.join("sock")).args(args);
        command
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
