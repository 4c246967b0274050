//! Doctor: what the machine offers that the worker needs, and how to mend what it lacks.
//!
//! Only looks; it changes nothing. `buildd doctor` prints the findings.

use std::{fs, path::Path};

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
    vec![privilege(), kernel(), filesystem("overlay"), filesystem("erofs"), cgroups(), seccomp(), network()]
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
        (false, "overlay") => {
            finding(name, "the kernel does not know it", Some("load the module: modprobe overlay"))
        }
        (false, _) => finding(name, "the kernel does not know it; layers are folders", None),
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
