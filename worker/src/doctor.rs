//! Doctor: what the machine offers that the worker needs, and how to mend what it lacks.
//!
//! `examine` only looks. `try_step` runs real steps that look for what is open in their sandbox, and leaves nothing; `buildd doctor` prints the
//! findings of both. `prove` does it for a daemon that is asked for its worker: without it none calls itself sandboxed.

use std::{fs, path::Path};

use buildd_oci::error::chain;
use buildd_runtime::{
    probe::sandbox,
    step::{Executor, Network, abandoned_groups},
};
use buildd_store::layer::{LayerFormat, probe as try_form};

use crate::error::{Error, Result};

/// One thing about the machine.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What was looked at.
    pub subject: &'static str,
    /// How it is.
    pub fact: String,
    /// How to mend it, if it must be.
    pub remedy: Option<String>,
}

/// Everything there is to know.
pub fn examine() -> Vec<Finding> {
    vec![
        privilege(),
        kernel(),
        filesystem("overlay"),
        layer_form(),
        cgroups(),
        left_groups(),
        seccomp(),
        network(),
    ]
}

fn finding(subject: &'static str, fact: impl Into<String>, remedy: Option<&str>) -> Finding {
    Finding { subject, fact: fact.into(), remedy: remedy.map(str::to_owned) }
}

fn privilege() -> Finding {
    match rustix::process::geteuid().is_root() {
        true => finding("user", "root", None),
        false => finding("user", "not root", Some("buildd needs root for now")),
    }
}

fn kernel() -> Finding {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    // overlayfs takes its layers one by one (`lowerdir+`) since then.
    let remedy = (version < (6, 5)).then_some("Linux 6.5 or later is needed");
    finding("kernel", release, remedy)
}

fn filesystem(name: &'static str) -> Finding {
    let list = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    match (list.lines().any(|line| line.split_whitespace().last() == Some(name)), name) {
        (true, _) => finding(name, "the kernel knows it", None),
        (false, _) => finding(name, "the kernel does not know it", Some("load the module: modprobe overlay")),
    }
}

/// Tried out in the folder for temporary files; what it makes there goes again.
fn layer_form() -> Finding {
    match try_form(LayerFormat::Auto, &std::env::temp_dir()) {
        Ok(probed) => finding("layers", probed.as_str(), None),
        Err(error) => finding("layers", error.to_string(), None),
    }
}

fn cgroups() -> Finding {
    let has = |path: &str| Path::new(path).exists();
    if has("/sys/fs/cgroup/cgroup.controllers") {
        return finding("cgroups", "version 2", None);
    }
    match has("/sys/fs/cgroup/pids") && has("/sys/fs/cgroup/memory") {
        true => finding("cgroups", "version 1, with pids and memory", None),
        false => finding("cgroups", "no pids or memory controller", Some("mount the cgroup hierarchy")),
    }
}

/// A minute after their step these were still in use, or whoever removes them was killed.
fn left_groups() -> Finding {
    let left = abandoned_groups();
    let Some(first) = left.first() else { return finding("old groups", "none", None) };
    let (count, first) = (left.len(), first.display());
    let fact =
        format!("{count} of steps that are over, {first} is one: the next start of buildd removes them");
    finding("old groups", fact, None)
}

fn seccomp() -> Finding {
    match fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail") {
        Ok(actions) if actions.contains("errno") => finding("seccomp", "filters work", None),
        _ => finding("seccomp", "no filters", Some("a kernel with CONFIG_SECCOMP_FILTER is needed")),
    }
}

fn network() -> Finding {
    finding("network", "steps share the host's network; RUN --network=none has none", None)
}

/// Runs the probe as a step would be run, on each network, and once beyond the limit of memory. `exe` is the daemon's binary.
pub async fn try_step(exe: &Path) -> Vec<Finding> {
    let remedy = "see what the lines above lack, and run it as root, outside of another container";
    let dir = match tempfile::tempdir().map_err(Error::file("create a temporary folder in", "/tmp")) {
        Ok(dir) => dir,
        Err(error) => return vec![finding("sandbox", error.to_string(), Some(remedy))],
    };
    match prove_all(exe, dir.path()).await {
        Ok(lacks) if lacks.is_empty() => {
            vec![finding("sandbox", "steps are contained: the probe finds nothing open", None)]
        }
        Ok(lacks) => lacks.into_iter().map(|lack| finding("sandbox", lack, Some(remedy))).collect(),
        Err(error) => vec![finding("sandbox", chain(&error), Some(remedy))],
    }
}

async fn prove_all(exe: &Path, scratch: &Path) -> Result<Vec<String>> {
    let executor = Executor::new(scratch, exe)?;
    let mut lacks = Vec::new();
    for network in [Network::None, Network::Host] {
        let found = sandbox::prove(&executor, exe, network).await?;
        lacks.extend(found.into_iter().filter(|lack| !lacks.contains(lack)).collect::<Vec<_>>());
    }
    lacks.extend(sandbox::prove_memory(&executor, exe).await?);
    Ok(lacks)
}

/// Runs the probe with the daemon's own executor, which knows from then on whether its steps are contained; done once. Whatever lacks is told in
/// the log.
pub async fn prove(executor: &Executor, exe: &Path, network: Network) {
    let look = async {
        match sandbox::prove(executor, exe, network).await {
            Ok(lacks) => {
                for lack in &lacks {
                    tracing::warn!(
                        "this worker is not sandboxed: {lack}; `buildd doctor` says how to mend it"
                    );
                }
                lacks.is_empty()
            }
            Err(error) => {
                tracing::warn!("this worker is not sandboxed: {}", chain(&error));
                false
            }
        }
    };
    executor.prove(look).await;
}
