//! Peers: third-party clients that drive us, fetched by `tests/peers` into `$BUILDD_PEERS`.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::daemon::{Daemon, Ran, run};

/// A command of the peers' folder, or of the system if it came as a package.
pub fn peer(name: &str) -> Command {
    let dir = std::env::var_os("BUILDD_PEERS")
        .map_or_else(|| PathBuf::from("/var/cache/buildd-peers"), PathBuf::from);
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
