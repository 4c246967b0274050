//! Spec: the OCI runtime spec of a container, from the image's config and the flags.
//!
//! What is not asked for is kept out: docker's default capabilities without NET_RAW and AUDIT_WRITE, no device but the usual, masked and
//! read-only kernel files.
//!
//! # Sources
//!
//! runtime-spec 1.1; moby `oci/defaults.go`.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use buildd_oci::config::RunConfig;
use serde_json::{Value, json};

use super::{RunArgs, user::User};

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const CAPABILITIES: [&str; 12] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
const READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
/// Files of this machine that a container on its network needs for names.
const NAME_FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// What a spec is made from.
pub(super) struct Request<'a> {
    pub(super) args: &'a RunArgs,
    pub(super) id: &'a str,
    pub(super) config: &'a RunConfig,
    pub(super) user: &'a User,
    pub(super) terminal: bool,
}

/// The spec as JSON.
pub(super) fn spec(request: &Request<'_>) -> Result<Value> {
    let Request { args, id, config, user, terminal } = request;
    let cwd = match (&args.workdir, config.working_dir.as_str()) {
        (Some(dir), _) if !dir.starts_with('/') => bail!("the working folder {dir} is not absolute"),
        (Some(dir), _) => dir.clone(),
        (None, "") => "/".to_owned(),
        (None, dir) => dir.to_owned(),
    };
    let mut namespaces: Vec<Value> =
        ["pid", "ipc", "uts", "mount", "cgroup"].iter().map(|kind| json!({"type": kind})).collect();
    if args.net == "none" {
        namespaces.push(json!({"type": "network"}));
    }
    Ok(json!({
        "ociVersion": "1.1.0",
        "process": {
            "terminal": terminal,
            "user": {"uid": user.uid, "gid": user.gid, "additionalGids": user.groups},
            "args": command(args, config)?,
            "env": environment(args, config, user, *terminal),
            "cwd": cwd,
            "capabilities": {
                "bounding": CAPABILITIES,
                "effective": if user.uid == 0 { CAPABILITIES.as_slice() } else { &[] },
                "permitted": if user.uid == 0 { CAPABILITIES.as_slice() } else { &[] },
            },
            "noNewPrivileges": false,
        },
        "root": {"path": "rootfs", "readonly": false},
        // The daemon knows the usual filter; a spec has no other word for it than the whole list.
        "annotations": {"io.buildd.seccomp": "default"},
        "hostname": id.chars().take(12).collect::<String>(),
        "mounts": mounts(args)?,
        "linux": {
            "cgroupsPath": format!("/buildd/{id}"),
            "namespaces": namespaces,
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "maskedPaths": MASKED,
            "readonlyPaths": READONLY,
        },
    }))
}

/// Entrypoint and arguments: a new entrypoint drops the image's command.
fn command(args: &RunArgs, config: &RunConfig) -> Result<Vec<String>> {
    let mut command: Vec<String> = match &args.entrypoint {
        Some(entrypoint) if entrypoint.is_empty() => Vec::new(),
        Some(entrypoint) => vec![entrypoint.clone()],
        None => config.entrypoint.clone().unwrap_or_default(),
    };
    if !args.command.is_empty() {
        command.extend(args.command.iter().cloned());
    } else if args.entrypoint.is_none() {
        command.extend(config.cmd.clone().unwrap_or_default());
    }
    if command.is_empty() {
        bail!("the image has no command: give one after its name");
    }
    Ok(command)
}

fn environment(args: &RunArgs, config: &RunConfig, user: &User, terminal: bool) -> Vec<String> {
    let mut all: Vec<String> = vec![PATH.to_owned()];
    let mut set = |text: String| {
        let key = text.split('=').next().unwrap_or_default().to_owned() + "=";
        all.retain(|one| !one.starts_with(&key));
        all.push(text);
    };
    set(format!("HOME={}", user.home));
    if terminal {
        set("TERM=xterm".to_owned());
    }
    for text in config.env.iter().flatten() {
        set(text.clone());
    }
    for text in &args.env {
        if text.contains('=') {
            set(text.clone());
        } else if let Ok(value) = std::env::var(text) {
            set(format!("{text}={value}"));
        }
    }
    all
}

fn mounts(args: &RunArgs) -> Result<Vec<Value>> {
    let mount = |target: &str, kind: &str, source: &str, options: &[&str]| json!({"destination": target, "type": kind, "source": source, "options": options});
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
    ];
    if args.net == "host" {
        for file in NAME_FILES.iter().filter(|file| Path::new(file).exists()) {
            mounts.push(mount(file, "bind", file, &["rbind", "rprivate", "ro"]));
        }
    }
    for text in &args.volume {
        let (source, target, access) = volume(text)?;
        mounts.push(mount(&target, "bind", &source, &["rbind", "rprivate", access]));
    }
    Ok(mounts)
}

/// `SOURCE:TARGET[:ro|rw]`; the source must be there.
fn volume(text: &str) -> Result<(String, String, &'static str)> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, access) = match parts.as_slice() {
        [source, target] | [source, target, "rw"] => (*source, *target, "rw"),
        [source, target, "ro"] => (*source, *target, "ro"),
        _ => bail!("-v {text:?} is not SOURCE:TARGET[:ro]"),
    };
    if !target.starts_with('/') {
        bail!("-v {text:?}: {target} is not absolute");
    }
    let source = Path::new(source).canonicalize().with_context(|| format!("-v {text:?}: find {source}"))?;
    let source = source.to_str().with_context(|| format!("-v {text:?}: not UTF-8"))?;
    Ok((source.to_owned(), target.to_owned(), access))
}

#[cfg(test)]
mod tests;
