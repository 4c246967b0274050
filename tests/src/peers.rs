//! Peers: third-party clients that drive us, fetched by `tests/peers` into `$BUILDD_PEERS`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    daemon::{Daemon, Ran, run},
    fixture::text,
};

/// The peers' folder.
pub fn peers() -> PathBuf {
    std::env::var_os("BUILDD_PEERS").map_or_else(|| PathBuf::from("/var/cache/buildd-peers"), PathBuf::from)
}

/// A command of the peers' folder, or of the system if it came as a package.
pub fn peer(name: &str) -> Command {
    let dir = peers();
    let own = dir.join("bin").join(name);
    if own.exists() {
        return Command::new(own);
    }
    let found = std::env::var_os("PATH")
        .and_then(|path| std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.exists()));
    match found {
        Some(path) => Command::new(path),
        None => panic!("{name} is missing: run `tests/peers {}`", dir.display()),
    }
}

/// Runs containerd's `ctr` on a daemon, to its end.
pub fn ctr(daemon: &Daemon, args: &[&str]) -> Ran {
    run(peer("ctr2").arg("--address").arg(daemon.path("sock")).args(args).stdin(Stdio::null()))
}

/// buildah, with a store of its own.
#[derive(Debug)]
pub struct Buildah {
    dir: PathBuf,
}

impl Buildah {
    /// Makes its store in the folder `dir`, with the docker archive `base` in it.
    pub fn new(dir: &Path, base: &Path) -> Self {
        fs::create_dir_all(dir).expect("a folder");
        let policy = r#"{"default":[{"type":"insecureAcceptAnything"}]}"#;
        fs::write(dir.join("policy.json"), policy).expect("a policy");
        let buildah = Self { dir: dir.to_owned() };
        run(buildah.trusting("pull").arg(format!("docker-archive:{}", text(base)))).ok();
        buildah
    }

    /// A command of it, aimed at its own folders.
    pub fn command(&self, verb: &str) -> Command {
        let mut command = peer("buildah");
        let at = |name: &str| self.dir.join(name);
        command.arg("--root").arg(at("root")).arg("--runroot").arg(at("run"));
        command.args(["--storage-driver", "overlay", verb]);
        command
    }

    /// A command that reads or writes images elsewhere, and asks nobody to have signed them.
    pub fn trusting(&self, verb: &str) -> Command {
        let mut command = self.command(verb);
        command.arg("--signature-policy").arg(self.dir.join("policy.json"));
        command
    }
}

impl Drop for Buildah {
    /// What it mounted would stay mounted, and its folder with it.
    fn drop(&mut self) {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let places = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        let own: Vec<&str> = places.filter(|place| Path::new(place).starts_with(&self.dir)).collect();
        for place in own.into_iter().rev() {
            run(Command::new("umount").arg("--lazy").arg(place));
        }
    }
}
