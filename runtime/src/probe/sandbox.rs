//! Sandbox: whether a step on this machine is contained as it should be, found out by a step that looks.
//!
//! `prove` runs the probe in a throwaway container, once for each network, and names everything that is not as it must be; the daemon calls its
//! worker sandboxed only if there is nothing. `buildd doctor` prints the list.
//!
//! # Invariants
//! Nothing is mounted outside of the container: its root is a folder of empty folders and links, removed afterwards, and safe to be removed by
//! anybody at any time.
//!
//! # Sources
//! spec attacks 6.3.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Mutex,
};

use super::{Facts, LOOK, PROBE, TAKE_MEMORY, THREADS, own_namespaces};
use crate::{
    error::{Error, Result},
    mount::{StepMount, StepMountKind},
    passwd::StepUser,
    profile::CAPABILITIES,
    step::{Executor, Network, Output, Security, StepExit, StepLimits, StepSpec},
};

/// Processes that the probe may have: few, so that the limit is soon found.
const PROCESSES: i64 = 16;
/// Bytes of memory that it may have.
const MEMORY: i64 = 128 << 20;
/// Folders of the machine that the probe needs to run: our own binary's libraries.
const LIBRARIES: [&str; 6] = ["usr", "bin", "lib", "lib32", "lib64", "libx32"];
/// Where the probe finds our binary.
const BINARY: &str = "/dev/buildd";
/// Most bytes of output that are kept.
const MAX_OUTPUT: usize = 64 << 10;

/// What lacks for a step to be contained; empty if it is. `exe` is the daemon's binary.
pub async fn prove(executor: &Executor, exe: &Path, network: Network) -> Result<Vec<String>> {
    let root = root(executor.folder())?;
    let (exit, output) = run(executor, exe, root.path(), network, LOOK).await?;
    if let Some(failure) = failed(&exit) {
        return Ok(vec![format!("the probe did not run: {failure}")]);
    }
    let facts: Facts = serde_json::from_slice(&output).map_err(|error| Error::Invalid {
        what: "answer of the probe",
        name: String::from_utf8_lossy(&output).chars().take(200).collect(),
        reason: error.to_string(),
    })?;
    Ok(judge(&facts, &own_namespaces(&["pid", "ipc", "uts", "mnt", "net"]), network))
}

/// Whether a step that takes more memory than it may have is ended, and that is told.
pub async fn prove_memory(executor: &Executor, exe: &Path) -> Result<Vec<String>> {
    let root = root(executor.folder())?;
    let (exit, _) = run(executor, exe, root.path(), Network::None, TAKE_MEMORY).await?;
    let lacks = match (exit.out_of_memory, failed(&exit)) {
        (true, _) => None,
        (false, None) => Some("a step takes more memory than its limit".to_owned()),
        (false, Some(failure)) => Some(format!("a step without memory is not told of: {failure}")),
    };
    Ok(lacks.into_iter().collect())
}

fn failed(exit: &StepExit) -> Option<String> {
    let code = (exit.code != 0).then(|| format!("exit code {}", exit.code));
    exit.failure.clone().or(code)
}

/// A root with nothing in it but places for mounts.
fn root(scratch: &Path) -> Result<tempfile::TempDir> {
    let dir = tempfile::Builder::new()
        .prefix("probe-")
        .tempdir_in(scratch)
        .map_err(Error::file("create a folder in", scratch))?;
    let fill = || -> io::Result<()> {
        for name in LIBRARIES {
            let (host, here) = (Path::new("/").join(name), dir.path().join(name));
            match fs::read_link(&host) {
                Ok(target) => std::os::unix::fs::symlink(target, here)?,
                Err(_) if host.is_dir() => fs::create_dir(here)?,
                Err(_) => {}
            }
        }
        ["proc", "sys", "dev", "tmp"].iter().try_for_each(|name| fs::create_dir(dir.path().join(name)))
    };
    fill().map_err(Error::file("fill folder", dir.path()))?;
    Ok(dir)
}

async fn run(
    executor: &Executor,
    exe: &Path,
    root: &Path,
    network: Network,
    what: &str,
) -> Result<(StepExit, Vec<u8>)> {
    let show = |source: PathBuf, target: &Path| StepMount {
        target: target.to_owned(),
        kind: StepMountKind::Bind { source, writable: false, nodev: true },
    };
    let libraries = LIBRARIES.iter().map(|name| Path::new("/").join(name));
    let libraries = libraries.filter(|path| path.is_dir() && !path.is_symlink());
    let spec = StepSpec {
        devices: Vec::new(),
        cgroup_parent: String::new(),
        rootfs: root.to_owned(),
        args: [BINARY, PROBE, what].map(str::to_owned).into(),
        env: Vec::new(),
        cwd: "/".to_owned(),
        user: StepUser::default(),
        hostname: "probe".to_owned(),
        stdin: false,
        terminal: false,
        mounts: libraries
            .map(|path| show(path.clone(), &path))
            .chain([show(exe.to_owned(), Path::new(BINARY))])
            .collect(),
        network,
        security: Security::Sandbox,
        ulimits: Vec::new(),
        shm_size: 1 << 20,
        limits: StepLimits::new(PROCESSES, MEMORY),
    };
    let said = Said::default();
    let (exit, ()) = executor.run(&spec, &said, ()).await?;
    Ok((exit, said.0.into_inner().unwrap_or_default()))
}

/// What the probe printed.
#[derive(Default)]
struct Said(Mutex<Vec<u8>>);

#[async_trait::async_trait]
impl Output for Said {
    async fn take(&self, stream: u32, bytes: &[u8]) {
        if stream == 1
            && let Ok(mut said) = self.0.lock()
            && said.len() < MAX_OUTPUT
        {
            said.extend_from_slice(bytes);
        }
    }
}

/// Everything that is not as it must be; `outside` are the daemon's namespaces.
fn judge(facts: &Facts, outside: &BTreeMap<String, String>, network: Network) -> Vec<String> {
    let field = |name: &str| facts.status.get(name).map_or("", String::as_str);
    let mut lacks = Vec::new();
    if field("Seccomp") != "2" {
        lacks.push(format!("no seccomp filter: Seccomp is {:?}, not 2", field("Seccomp")));
    }
    let full = ["CapBnd", "CapPrm", "CapEff"].map(|set| (set, CAPABILITIES.bits()));
    for (set, expected) in full.into_iter().chain([("CapInh", 0), ("CapAmb", 0)]) {
        if u64::from_str_radix(field(set), 16) != Ok(expected) {
            lacks.push(format!("capabilities: {set} is {:?}, not {expected:016x}", field(set)));
        }
    }
    if facts.descriptors != [0, 1, 2] {
        lacks.push(format!("open files: the step has {:?}, not 0, 1 and 2", facts.descriptors));
    }
    for (paths, what) in [
        (&facts.readable, "can be read and must be masked"),
        (&facts.writable, "is on a mount that can be written to"),
        (&facts.bare, "has no mount over it"),
    ] {
        lacks.extend(paths.iter().map(|path| format!("{path} {what}")));
    }
    lacks.extend(facts.allowed.iter().map(|what| format!("{what} is not refused")));
    for (name, own) in outside {
        let shared = facts.namespaces.get(name) == Some(own);
        let wanted = name == "net" && network == Network::Host;
        if !facts.namespaces.contains_key(name) || shared != wanted {
            lacks.push(format!(
                "namespaces: {name} is {}",
                if shared { "the host's" } else { "not the host's" }
            ));
        }
    }
    if facts.processes != 1 {
        lacks.push(format!("processes: the step sees {}, not itself alone", facts.processes));
    }
    if facts.threads == 0 || facts.threads >= THREADS {
        lacks.push(format!("no limit of processes: {} threads could be started", facts.threads));
    }
    lacks
}

#[cfg(test)]
mod tests;
