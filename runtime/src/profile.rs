//! Spec: the OCI runtime configuration of a step, sandboxed by default.
//!
//! Capabilities, masks and filter are those of spec attacks 6.2, default column.

use std::path::PathBuf;

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Capability, LinuxBuilder, LinuxCapabilitiesBuilder, LinuxDevice, LinuxDeviceBuilder, LinuxDeviceCgroup,
    LinuxDeviceCgroupBuilder, LinuxDeviceType, LinuxMemoryBuilder, LinuxNamespace, LinuxNamespaceBuilder,
    LinuxNamespaceType, LinuxPidsBuilder, LinuxResourcesBuilder, Mount, MountBuilder, PosixRlimit,
    PosixRlimitBuilder, PosixRlimitType, ProcessBuilder, RootBuilder, Spec, SpecBuilder, UserBuilder,
};

use crate::{
    device::DeviceNode,
    step::{Network, Security, StepMountKind, StepSpec, StepUser},
};

pub(crate) mod seccomp;

/// What a root process in a step may do: the usual fourteen without raw sockets and audit records.
const CAPABILITIES: [Capability; 12] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fsetid,
    Capability::Fowner,
    Capability::Mknod,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setfcap,
    Capability::Setpcap,
    Capability::NetBindService,
    Capability::SysChroot,
    Capability::Kill,
];

/// The same as the kernel shows them.
pub(crate) const CAPABILITY_BITS: u64 = 0x8804_05fb;

/// Kernel interfaces that tell about the host or reach it.
pub(crate) const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
/// Kernel interfaces that may be read only.
pub(crate) const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
/// Files a process may have open: the soft limit stays low for programs that loop over all of them.
const OPEN_FILES: (u64, u64) = (1024, 1_048_576);

/// The configuration of a step; `cgroup` is its path below each hierarchy, `files` the hard limit that we may give.
pub(crate) fn of_step(step: &StepSpec, cgroup: &str, files: u64) -> Result<Spec, OciSpecError> {
    let insecure = step.security == Security::Insecure;
    let mut capabilities = LinuxCapabilitiesBuilder::default();
    let set: std::collections::HashSet<Capability> =
        if insecure { all_capabilities() } else { CAPABILITIES.into_iter().collect() };
    capabilities = capabilities.bounding(set.clone()).permitted(set.clone()).effective(set.clone());
    capabilities = match insecure {
        true => capabilities.inheritable(set.clone()).ambient(set),
        false => capabilities
            .inheritable(std::collections::HashSet::new())
            .ambient(std::collections::HashSet::new()),
    };
    let user = UserBuilder::default()
        .uid(step.user.uid)
        .gid(step.user.gid)
        .additional_gids(step.user.groups.clone())
        .build()?;
    let mut process = ProcessBuilder::default()
        .terminal(step.terminal)
        .user(user)
        .args(step.args.clone())
        .env(step.env.clone())
        .cwd(PathBuf::from(&step.cwd))
        .capabilities(capabilities.build()?)
        .rlimits(rlimits(step, files)?)
        .build()?;
    // Absent, not false: libcontainer then loads the filter while it still has the capability to do so.
    process.set_no_new_privileges(None);
    let mut linux = LinuxBuilder::default()
        .namespaces(namespaces(step)?)
        .cgroups_path(PathBuf::from(cgroup))
        .resources(
            LinuxResourcesBuilder::default()
                .pids(LinuxPidsBuilder::default().limit(step.limits.pids).build()?)
                .memory(LinuxMemoryBuilder::default().limit(step.limits.memory).build()?)
                .devices(device_rules(&step.devices)?)
                .build()?,
        )
        .devices(step.devices.iter().map(|node| device(node, &step.user)).collect::<Result<Vec<_>, _>>()?)
        .masked_paths(Vec::new())
        .readonly_paths(Vec::new());
    if !insecure {
        linux = linux
            .masked_paths(MASKED.map(str::to_owned).to_vec())
            .readonly_paths(READ_ONLY.map(str::to_owned).to_vec())
            .seccomp(seccomp::profile()?);
    }
    SpecBuilder::default()
        .version("1.0.2")
        .process(process)
        .root(RootBuilder::default().path(step.rootfs.clone()).readonly(false).build()?)
        .hostname(step.hostname.clone())
        .mounts(mounts(step)?)
        .linux(linux.build()?)
        .build()
}

/// No device but those of the step and, which libcontainer adds, the usual ones; nodes alone open nothing where a control group of devices is.
fn device_rules(nodes: &[DeviceNode]) -> Result<Vec<LinuxDeviceCgroup>, OciSpecError> {
    let rule = || LinuxDeviceCgroupBuilder::default().access("rwm");
    let mut rules = vec![rule().allow(false).build()?];
    for node in nodes.iter().filter(|node| node.kind != 'p') {
        let rule = rule().allow(true).typ(device_type(node)).major(node.major).minor(node.minor);
        rules.push(rule.build()?);
    }
    Ok(rules)
}

fn device_type(node: &DeviceNode) -> LinuxDeviceType {
    match node.kind {
        'b' => LinuxDeviceType::B,
        'p' => LinuxDeviceType::P,
        _ => LinuxDeviceType::C,
    }
}

fn device(node: &DeviceNode, user: &StepUser) -> Result<LinuxDevice, OciSpecError> {
    LinuxDeviceBuilder::default()
        .typ(device_type(node))
        .path(node.path.clone())
        .major(node.major)
        .minor(node.minor)
        .file_mode(node.mode)
        .uid(node.uid.unwrap_or(user.uid))
        .gid(node.gid.unwrap_or(user.gid))
        .build()
}

fn all_capabilities() -> std::collections::HashSet<Capability> {
    use Capability as C;
    [
        C::AuditControl,
        C::AuditRead,
        C::AuditWrite,
        C::BlockSuspend,
        C::Bpf,
        C::CheckpointRestore,
        C::Chown,
        C::DacOverride,
        C::DacReadSearch,
        C::Fowner,
        C::Fsetid,
        C::IpcLock,
        C::IpcOwner,
        C::Kill,
        C::Lease,
        C::LinuxImmutable,
        C::MacAdmin,
        C::MacOverride,
        C::Mknod,
        C::NetAdmin,
        C::NetBindService,
        C::NetBroadcast,
        C::NetRaw,
        C::Perfmon,
        C::Setgid,
        C::Setfcap,
        C::Setpcap,
        C::Setuid,
        C::SysAdmin,
        C::SysBoot,
        C::SysChroot,
        C::SysModule,
        C::SysNice,
        C::SysPacct,
        C::SysPtrace,
        C::SysRawio,
        C::SysTime,
        C::SysTtyConfig,
        C::Syslog,
        C::WakeAlarm,
    ]
    .into_iter()
    .collect()
}

fn namespaces(step: &StepSpec) -> Result<Vec<LinuxNamespace>, OciSpecError> {
    let mut kinds = vec![
        LinuxNamespaceType::Pid,
        LinuxNamespaceType::Ipc,
        LinuxNamespaceType::Uts,
        LinuxNamespaceType::Mount,
    ];
    if step.network == Network::None {
        kinds.push(LinuxNamespaceType::Network);
    }
    kinds.into_iter().map(|kind| LinuxNamespaceBuilder::default().typ(kind).build()).collect()
}

fn rlimits(step: &StepSpec, files: u64) -> Result<Vec<PosixRlimit>, OciSpecError> {
    let limit = |kind, soft, hard| PosixRlimitBuilder::default().typ(kind).soft(soft).hard(hard).build();
    let hard = OPEN_FILES.1.min(files);
    let mut limits = vec![
        limit(PosixRlimitType::RlimitNofile, OPEN_FILES.0.min(hard), hard)?,
        limit(PosixRlimitType::RlimitCore, 0, 0)?,
    ];
    for asked in &step.ulimits {
        let kind = match asked.name.as_str() {
            "nofile" => PosixRlimitType::RlimitNofile,
            "nproc" => PosixRlimitType::RlimitNproc,
            "core" => PosixRlimitType::RlimitCore,
            "memlock" => PosixRlimitType::RlimitMemlock,
            "stack" => PosixRlimitType::RlimitStack,
            "fsize" => PosixRlimitType::RlimitFsize,
            "cpu" => PosixRlimitType::RlimitCpu,
            "data" => PosixRlimitType::RlimitData,
            "locks" => PosixRlimitType::RlimitLocks,
            "msgqueue" => PosixRlimitType::RlimitMsgqueue,
            "nice" => PosixRlimitType::RlimitNice,
            "rss" => PosixRlimitType::RlimitRss,
            "rtprio" => PosixRlimitType::RlimitRtprio,
            "rttime" => PosixRlimitType::RlimitRttime,
            "sigpending" => PosixRlimitType::RlimitSigpending,
            // Of a definition that nobody checked; the frontend refuses it by name.
            _ => continue,
        };
        limits.retain(|present| present.typ() != kind);
        limits.push(limit(kind, asked.soft, asked.hard)?);
    }
    Ok(limits)
}

fn mount(kind: &str, source: &str, target: &str, options: &[&str]) -> Result<Mount, OciSpecError> {
    MountBuilder::default()
        .typ(kind)
        .source(source)
        .destination(target)
        .options(options.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>())
        .build()
}

fn mounts(step: &StepSpec) -> Result<Vec<Mount>, OciSpecError> {
    let shm = format!("size={}", step.shm_size);
    let sys = if step.security == Security::Insecure { "rw" } else { "ro" };
    // A network namespace that is not ours cannot get a sysfs of its own: the host's is bound instead. Without what is mounted below it:
    // read-only does not reach the cgroups there, by which a step could lift its own limits and stop others (RUN-14).
    let bind = if step.security == Security::Insecure { "rbind" } else { "bind" };
    let sysfs = match step.network {
        Network::None => mount("sysfs", "sysfs", "/sys", &["nosuid", "noexec", "nodev", sys])?,
        Network::Host => mount("none", "/sys", "/sys", &[bind, "nosuid", "noexec", "nodev", sys])?,
    };
    let mut mounts = vec![
        mount("proc", "proc", "/proc", &["nosuid", "noexec", "nodev"])?,
        mount("tmpfs", "tmpfs", "/dev", &["nosuid", "strictatime", "mode=755", "size=65536k"])?,
        mount(
            "devpts",
            "devpts",
            "/dev/pts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        )?,
        mount("tmpfs", "shm", "/dev/shm", &["nosuid", "noexec", "nodev", "mode=1777", &shm])?,
        mount("mqueue", "mqueue", "/dev/mqueue", &["nosuid", "noexec", "nodev"])?,
        sysfs,
    ];
    for asked in &step.mounts {
        let target = asked.target.to_string_lossy();
        mounts.push(match &asked.kind {
            StepMountKind::Bind { source, writable, nodev } => {
                let mut options = vec!["rbind", "rprivate", if *writable { "rw" } else { "ro" }];
                if *nodev {
                    options.extend(["nosuid", "nodev"]);
                }
                mount("none", &source.to_string_lossy(), &target, &options)?
            }
            StepMountKind::Tmpfs { size } => {
                let size = size.map(|size| format!("size={size}"));
                let mut options = vec!["nosuid", "nodev", "mode=1777"];
                options.extend(size.as_deref());
                mount("tmpfs", "tmpfs", &target, &options)?
            }
        });
    }
    Ok(mounts)
}
