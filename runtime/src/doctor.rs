//! Doctor: what the machine offers that the worker needs, and how to mend what it lacks.
//!
//! `examine` only looks. `try_step` runs a real step on a read-only view of this machine's root, and leaves nothing. `buildd doctor` prints
//! the findings.

use std::{fs, path::Path};

use buildd_fs::mounts::{self, Mount};

use crate::{
    error::{Error, Result},
    layer::{LayerForm, probe},
    step::{Executor, Network, Output, Security, StepExit, StepLimits, StepSpec, StepUser},
};

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
    vec![privilege(), kernel(), filesystem("overlay"), layer_form(), cgroups(), seccomp(), network()]
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
    match probe(LayerForm::Auto, &std::env::temp_dir()) {
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

fn seccomp() -> Finding {
    match fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail") {
        Ok(actions) if actions.contains("errno") => finding("seccomp", "filters work", None),
        _ => finding("seccomp", "no filters", Some("a kernel with CONFIG_SECCOMP_FILTER is needed")),
    }
}

fn network() -> Finding {
    finding("network", "steps share the host's network; RUN --network=none has none", None)
}

/// Runs `true` as a step would be: namespaces, cgroups, mounts, filter and all. `exe` is the daemon's binary.
pub async fn try_step(exe: &Path) -> Finding {
    match step(exe).await {
        Ok(StepExit { code: 0, failure: None, .. }) => finding("step", "a sandboxed process runs", None),
        Ok(exit) => {
            let why = exit.failure.unwrap_or_else(|| format!("exit code {}", exit.code));
            finding("step", why, Some("see what the lines above lack; `buildd --debug` logs more"))
        }
        Err(error) => {
            finding("step", error.to_string(), Some("run it as root, outside of another container"))
        }
    }
}

async fn step(exe: &Path) -> Result<StepExit> {
    let dir = tempfile::tempdir().map_err(Error::file("create a temporary folder in", "/tmp"))?;
    let root = dir.path().join("root");
    fs::create_dir(&root).map_err(Error::file("create folder", &root))?;
    let options = vec!["bind".to_owned(), "ro".to_owned()];
    let host = Mount { kind: "bind".to_owned(), source: "/".to_owned(), options };
    mounts::mount_all(&[host], &root).map_err(|error| {
        let source = std::io::Error::other(error);
        Error::Mount { what: "this machine's root", target: root.clone(), source }
    })?;
    let spec = StepSpec {
        devices: Vec::new(),
        cgroup_parent: String::new(),
        rootfs: root.clone(),
        args: vec!["/bin/true".to_owned()],
        env: vec!["PATH=/usr/bin:/bin".to_owned()],
        cwd: "/".to_owned(),
        user: StepUser::default(),
        hostname: "doctor".to_owned(),
        stdin: false,
        terminal: false,
        mounts: Vec::new(),
        network: Network::None,
        security: Security::Sandbox,
        ulimits: Vec::new(),
        shm_size: 1 << 20,
        limits: StepLimits { pids: 16, memory: 64 << 20 },
    };
    let ran = Executor::new(dir.path(), exe)?.run(&spec, &Nowhere).await;
    let unmounted = mounts::unmount(&root);
    let exit = ran?;
    unmounted.map_err(|source| Error::Mount { what: "nothing any more", target: root, source })?;
    Ok(exit)
}

struct Nowhere;

#[async_trait::async_trait]
impl Output for Nowhere {
    async fn take(&self, _: u32, _: &[u8]) {}
}
