//! Probe: what a step finds when it looks around, told as one line of JSON by a program of ours that runs as the step.
//!
//! `sandbox` starts it in a throwaway container and judges what it says. It tries what a hostile RUN would try and leaves nothing behind; it
//! decides nothing.
//!
//! # Sources
//! spec attacks 2.6 and 6.3.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process::ExitCode,
    sync::mpsc,
};

use rustix::{
    fs::{FileType, Mode, StatVfsMountFlags},
    mount::MountFlags,
    net::{AddressFamily, SocketType},
};
use serde::{Deserialize, Serialize};

use crate::profile::{MASKED, READ_ONLY};

pub mod sandbox;

/// The hidden subcommand that a binary must hand to `probe_main`.
pub const PROBE: &str = "step-probe";
/// The argument that lets the probe look around.
pub(crate) const LOOK: &str = "look";
/// The argument that lets the probe take more memory than it may have.
pub(crate) const TAKE_MEMORY: &str = "take-memory";
/// Most threads that the probe starts to find the limit.
pub(crate) const THREADS: usize = 64;
/// Bytes that it takes to find the limit of memory.
const MEMORY: usize = 256 << 20;
/// Address families that steps have no use for: packets, cryptography, virtual machines.
const FAMILIES: [(&str, u16); 3] = [("AF_PACKET", 17), ("AF_ALG", 38), ("AF_VSOCK", 40)];

/// What the probe found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Facts {
    /// The fields of `/proc/self/status`.
    pub(crate) status: BTreeMap<String, String>,
    /// Its open descriptors.
    pub(crate) descriptors: Vec<u32>,
    /// Masked paths that show something.
    pub(crate) readable: Vec<String>,
    /// Read-only paths, `/sys` and what is mounted below it among them, where the mount is writable.
    pub(crate) writable: Vec<String>,
    /// Masked and read-only paths that exist and are no mount of their own.
    pub(crate) bare: Vec<String>,
    /// Things that must be refused and were not.
    pub(crate) allowed: Vec<String>,
    /// Its namespaces, as links tell them.
    pub(crate) namespaces: BTreeMap<String, String>,
    /// Processes that it sees.
    pub(crate) processes: usize,
    /// Threads that it could start before there was a limit.
    pub(crate) threads: usize,
}

/// Looks around, or takes memory, as `what` says.
pub fn probe_main(what: &Path) -> ExitCode {
    if what == Path::new(TAKE_MEMORY) {
        // Every page is written to, or the kernel would give none.
        let taken = vec![1_u8; MEMORY];
        return if std::hint::black_box(&taken)[MEMORY / 2] == 1 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
    }
    let facts = serde_json::to_string(&look()).expect("strings and numbers have a JSON form");
    match writeln!(std::io::stdout(), "{facts}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn look() -> Facts {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points: Vec<&str> = mounts.lines().filter_map(|line| line.split(' ').nth(4)).collect();
    let exists = |path: &&str| Path::new(path).symlink_metadata().is_ok();
    let guarded = MASKED.iter().chain(&READ_ONLY).copied().filter(exists);
    let below_sys = points.iter().copied().filter(|point| Path::new(point).starts_with("/sys"));
    let read_only = READ_ONLY.iter().copied().filter(exists).chain(["/sys"]).chain(below_sys);
    Facts {
        status: status(),
        descriptors: descriptors(),
        readable: MASKED.iter().copied().filter(|path| shows(Path::new(path))).map(str::to_owned).collect(),
        writable: read_only.filter(|path| writable(path)).map(str::to_owned).collect(),
        bare: guarded.filter(|path| !points.contains(path)).map(str::to_owned).collect(),
        allowed: allowed(),
        namespaces: namespaces(),
        processes: numbers("/proc").len(),
        threads: threads(),
    }
}

fn status() -> BTreeMap<String, String> {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

/// The entries of a folder that are numbers.
fn numbers(folder: &str) -> Vec<u32> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut numbers: Vec<u32> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}

/// Without the one that lists them: it is closed again.
fn descriptors() -> Vec<u32> {
    let listed = numbers("/proc/self/fd");
    listed.into_iter().filter(|fd| fs::read_link(format!("/proc/self/fd/{fd}")).is_ok()).collect()
}

/// Whether there is anything to read of a file or in a folder.
fn shows(path: &Path) -> bool {
    match fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_some(),
        // A kernel file may wait for something to tell.
        Err(_) => OpenOptions::new()
            .read(true)
            .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
            .open(path)
            .is_ok_and(|mut file| file.read(&mut [0; 1]).is_ok_and(|read| read > 0)),
    }
}

/// A folder or file on a mount that takes changes; a file without a byte that is the null device takes none.
fn writable(path: &str) -> bool {
    let is_null = fs::metadata(path)
        .is_ok_and(|meta| std::os::unix::fs::FileTypeExt::is_char_device(&meta.file_type()));
    !is_null && rustix::fs::statvfs(path).is_ok_and(|found| !found.f_flag.contains(StatVfsMountFlags::RDONLY))
}

fn allowed() -> Vec<String> {
    let mut allowed = Vec::new();
    let mut tried = |what: &str, worked: bool| {
        if worked {
            allowed.push(what.to_owned());
        }
    };
    for (name, number) in FAMILIES {
        let family = AddressFamily::from_raw(number);
        let kinds = [SocketType::DGRAM, SocketType::STREAM, SocketType::RAW, SocketType::SEQPACKET];
        let made = kinds.into_iter().any(|kind| rustix::net::socket(family, kind, None).is_ok());
        tried(&format!("a socket of {name}"), made);
    }
    for path in ["/proc/sys/kernel/core_pattern", "/proc/sys/kernel/domainname", "/proc/sysrq-trigger"] {
        tried(&format!("writing to {path}"), OpenOptions::new().write(true).open(path).is_ok());
    }
    let mounted = rustix::mount::mount("tmpfs", "/tmp", "tmpfs", MountFlags::empty(), None);
    tried("a mount", mounted.is_ok());
    use nix::sched::{CloneFlags, unshare};
    for (name, flag) in [("user", CloneFlags::CLONE_NEWUSER), ("mount", CloneFlags::CLONE_NEWNS)] {
        tried(&format!("a new {name} namespace"), unshare(flag).is_ok());
    }
    tried("entering a namespace", enters());
    let disk = Path::new("/dev/shm/disk");
    let made = rustix::fs::mknodat(
        rustix::fs::CWD,
        disk,
        FileType::BlockDevice,
        Mode::RUSR,
        rustix::fs::makedev(8, 0),
    );
    // Made it may be; what it stands for must not answer, be it there or not.
    let refused = |error: std::io::Error| !matches!(error.raw_os_error(), Some(1 | 13));
    tried("a block device", made.is_ok() && File::open(disk).err().is_none_or(refused));
    let _ = fs::remove_file(disk);
    allowed
}

fn enters() -> bool {
    let own = File::open("/proc/self/ns/uts");
    own.is_ok_and(|own| nix::sched::setns(own, nix::sched::CloneFlags::CLONE_NEWUTS).is_ok())
}

fn namespaces() -> BTreeMap<String, String> {
    own_namespaces(["pid", "ipc", "uts", "mnt", "net"].as_slice())
}

/// What `/proc/self/ns` says of these.
pub(crate) fn own_namespaces(names: &[&str]) -> BTreeMap<String, String> {
    let link = |name: &&str| {
        let target = fs::read_link(format!("/proc/self/ns/{name}")).ok()?;
        Some(((*name).to_owned(), target.to_string_lossy().into_owned()))
    };
    names.iter().filter_map(link).collect()
}

/// Starts threads that wait, until one is refused.
fn threads() -> usize {
    let mut waiting = Vec::new();
    for _ in 0..THREADS {
        let (end, ended) = mpsc::channel::<()>();
        let wait = move || ended.recv().is_ok();
        match std::thread::Builder::new().stack_size(64 << 10).spawn(wait) {
            Ok(thread) => waiting.push((end, thread)),
            Err(_) => break,
        }
    }
    let started = waiting.len();
    for (end, thread) in waiting {
        drop(end);
        let _ = thread.join();
    }
    started
}
