//! Root: what a step's first process sees as its files: the step's root, the kernel's file systems, devices, and what the step mounts.
//!
//! Everything is mounted on descriptors of places inside the root, so no link of an image leads a mount elsewhere, and the host's tree goes out of
//! sight in one call.
//!
//! # Invariants
//! `enter` is called in mount, PID and UTS namespaces of the step's own. Masks come last: nothing is mounted over or under them (`stubs::allowed`).
//!
//! # Sources
//! spec attacks 6.2; runtime-spec `config-linux.md`, "Default Devices" and "Default Filesystems"; pivot_root(2), for `pivot_root(".", ".")`.

use std::{
    fs, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use buildd_fs::path::{Follow, make_folders, open_in_root, open_root, resolve};
use rustix::{
    fs::{CWD, FileType, Mode, OFlags},
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
        UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount_bind_recursive,
        mount_change, move_mount, open_tree, unmount,
    },
    process::{fchdir, pivot_root},
};

use crate::{
    device::DeviceNode,
    mount::{StepMount, StepMountKind},
    profile::{MASKED, READ_ONLY},
    step::{Network, Security, StepSpec, cgroup::Cgroup, container::Refusal},
    sys,
};

/// Nothing in it counts as a device, gives its owner's rights, or is executed.
const INERT: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID
    .union(MountAttrFlags::MOUNT_ATTR_NODEV)
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);
const READ: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_RDONLY;
/// The usual device files with their numbers.
const NODES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
/// The usual links in `/dev`.
const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
    ("core", "/proc/kcore"),
];

/// Makes the step's root the root of the calling process, and of its namespace.
pub(super) fn enter(step: &StepSpec, cgroup: &Cgroup) -> Result<(), Refusal> {
    let root = &step.rootfs;
    // What the host unmounts goes here too, and nothing goes back.
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    mount_bind_recursive(root, root).map_err(|error| Refusal::at("mount", root, error))?;
    let inside = open_root(root).map_err(|error| Refusal::at("open", root, error))?;
    let place = |what: OwnedFd, target: &Path| {
        put(root, inside.as_fd(), what, target).map_err(|error| Refusal::at("mount on", target, error))
    };
    place(new("proc", &[], INERT)?, Path::new("/proc"))?;
    place(devices(step)?, Path::new("/dev"))?;
    place(terminals()?, Path::new("/dev/pts"))?;
    place(memory("shm", Some(step.shm_size), INERT)?, Path::new("/dev/shm"))?;
    place(new("mqueue", &[], INERT)?, Path::new("/dev/mqueue"))?;
    place(kernel(step)?, Path::new("/sys"))?;
    if step.security == Security::Sandbox {
        limits(cgroup, &place)?;
    }
    for mount in &step.mounts {
        let what = asked(mount).map_err(|error| Refusal::at("mount on", &mount.target, error))?;
        place(what, &mount.target)?;
    }
    fchdir(&inside)?;
    pivot_root(".", ".").map_err(|error| Refusal::at("enter", root, error))?;
    unmount(".", UnmountFlags::DETACH)?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    rustix::process::chdir("/")?;
    step.devices.iter().try_for_each(|node| {
        make_device(node, step).map_err(|error| Refusal::at("make device", &node.path, error))
    })?;
    match step.security {
        Security::Sandbox => mask(),
        Security::Insecure => Ok(()),
    }
}

/// A new mount that is nowhere yet.
fn new(kind: &str, options: &[(&str, &str)], attributes: MountAttrFlags) -> Result<OwnedFd, Refusal> {
    let made = || -> rustix::io::Result<OwnedFd> {
        let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
        for (name, value) in options {
            fsconfig_set_string(&context, *name, *value)?;
        }
        fsconfig_create(&context)?;
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    };
    made().map_err(|error| Refusal::failed(format!("make a mount of {kind}"), error))
}

/// A tmpfs that everybody may write to; of half the memory if no size is given.
fn memory(source: &str, size: Option<u64>, attributes: MountAttrFlags) -> Result<OwnedFd, Refusal> {
    let size = size.map(|size| size.to_string());
    let mut options = vec![("source", source), ("mode", "1777")];
    options.extend(size.as_deref().map(|size| ("size", size)));
    new("tmpfs", &options, attributes)
}

fn terminals() -> Result<OwnedFd, Refusal> {
    let options = [("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")];
    new("devpts", &options, MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC)
}

/// `/dev` with the usual files.
fn devices(step: &StepSpec) -> Result<OwnedFd, Refusal> {
    let options = [("mode", "755"), ("size", "65536k")];
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_STRICTATIME;
    let dev = new("tmpfs", &options, attributes)?;
    let fill = || -> rustix::io::Result<()> {
        for (name, major, minor) in NODES {
            node(dev.as_fd(), Path::new(name), FileType::CharacterDevice, 0o666, (major, minor))?;
        }
        for (name, target) in LINKS {
            rustix::fs::symlinkat(target, &dev, name)?;
        }
        for name in ["pts", "shm", "mqueue"] {
            rustix::fs::mkdirat(&dev, name, Mode::from_raw_mode(0o755))?;
        }
        if step.terminal {
            node(dev.as_fd(), Path::new("console"), FileType::RegularFile, 0o600, (0, 0))?;
        }
        Ok(())
    };
    fill().map_err(|error| Refusal::failed("fill /dev", error))?;
    Ok(dev)
}

/// Makes a device file with exactly these permissions.
fn node(
    folder: BorrowedFd<'_>,
    name: &Path,
    kind: FileType,
    mode: u32,
    (major, minor): (u32, u32),
) -> rustix::io::Result<()> {
    let mode = Mode::from_raw_mode(mode);
    rustix::fs::mknodat(folder, name, kind, mode, rustix::fs::makedev(major, minor))?;
    rustix::fs::chmodat(folder, name, mode, rustix::fs::AtFlags::empty())
}

/// The kernel's objects. A network namespace that is not ours cannot get a sysfs of its own: the host's is shown instead. Without what is
/// mounted below it, unless the step may do anything: there are the control groups, by which a step could lift its own limits (RUN-14).
fn kernel(step: &StepSpec) -> Result<OwnedFd, Refusal> {
    let insecure = step.security == Security::Insecure;
    let attributes = if insecure { INERT } else { INERT | READ };
    if step.network == Network::None {
        return new("sysfs", &[], attributes);
    }
    let path = Path::new("/sys");
    let tree = copy_of(path, insecure).and_then(|tree| {
        sys::set_mount_attributes(&tree, attributes, false)?;
        Ok(tree)
    });
    tree.map_err(|error| Refusal::at("show", path, error))
}

/// What is at a path, as a mount of its own that is nowhere yet; if asked for with all that is mounted in it.
fn copy_of(path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let depth = if recursive { OpenTreeFlags::AT_RECURSIVE } else { OpenTreeFlags::empty() };
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    Ok(open_tree(CWD, path, clone | depth)?)
}

/// Attaches a mount over what is at a path.
fn cover(path: &Path, what: &OwnedFd) -> io::Result<()> {
    Ok(move_mount(what, "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// The step's own control groups, to be read: programs that size themselves by their limits look there.
fn limits(cgroup: &Cgroup, place: &impl Fn(OwnedFd, &Path) -> Result<(), Refusal>) -> Result<(), Refusal> {
    let trees = Path::new("/sys/fs/cgroup");
    let several = cgroup.folders().all(|(_, tree)| !tree.is_empty());
    if several {
        let room = new("tmpfs", &[("mode", "755")], INERT)?;
        for (_, tree) in cgroup.folders() {
            rustix::fs::mkdirat(&room, tree, Mode::from_raw_mode(0o755))?;
        }
        sys::set_mount_attributes(&room, READ, false)?;
        place(room, trees)?;
    }
    for (folder, tree) in cgroup.folders() {
        let shown =
            open_tree(CWD, folder, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
        sys::set_mount_attributes(&shown, INERT | READ, false)?;
        place(shown, &trees.join(tree))?;
    }
    Ok(())
}

/// A mount of the step's own.
fn asked(mount: &StepMount) -> Result<OwnedFd, Refusal> {
    match &mount.kind {
        StepMountKind::Bind { source, writable, nodev } => {
            let tree = copy_of(source, true)?;
            let mut attributes = MountAttrFlags::empty();
            if !writable {
                attributes |= READ;
            }
            if *nodev {
                attributes |= MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
            }
            sys::set_mount_attributes(&tree, attributes, true)?;
            Ok(tree)
        }
        StepMountKind::Tmpfs { size } => {
            memory("tmpfs", *size, MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV)
        }
    }
}

/// Attaches a mount at a path in the root, which is made if it is not there.
fn put(root: &Path, inside: BorrowedFd<'_>, what: OwnedFd, target: &Path) -> io::Result<()> {
    let folder = FileType::from_raw_mode(rustix::fs::fstat(&what)?.st_mode) == FileType::Directory;
    let place = match open_in_root(inside, target, OFlags::PATH, Mode::empty()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => make_place(root, inside, target, folder)?,
        place => place?,
    };
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(&what, "", &place, "", flags)?)
}

fn make_place(root: &Path, inside: BorrowedFd<'_>, target: &Path, folder: bool) -> io::Result<OwnedFd> {
    let found = resolve(root, target, Follow::All)?;
    if folder {
        return make_folders(inside, &found);
    }
    make_folders(inside, found.parent().unwrap_or(Path::new("")))?;
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NOCTTY | OFlags::NONBLOCK;
    open_in_root(inside, &found, flags, Mode::from_raw_mode(0o644))?;
    open_in_root(inside, &found, OFlags::PATH, Mode::empty())
}

/// Makes a device file of the step's own, in its root.
fn make_device(device: &DeviceNode, step: &StepSpec) -> io::Result<()> {
    let inside = open_root(Path::new("/"))?;
    let found = resolve(Path::new("/"), &device.path, Follow::All)?;
    let (Some(parent), Some(name)) = (found.parent(), found.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let folder = make_folders(inside.as_fd(), parent)?;
    let kind = match device.kind {
        'b' => FileType::BlockDevice,
        'p' => FileType::Fifo,
        _ => FileType::CharacterDevice,
    };
    let number =
        |number: i64| u32::try_from(number).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    let numbers = (number(device.major)?, number(device.minor)?);
    node(folder.as_fd(), Path::new(name), kind, device.mode, numbers)?;
    let uid = rustix::fs::Uid::from_raw(device.uid.unwrap_or(step.user.uid));
    let gid = rustix::fs::Gid::from_raw(device.gid.unwrap_or(step.user.gid));
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    Ok(rustix::fs::chownat(&folder, name, Some(uid), Some(gid), flags)?)
}

/// Hides what tells about the host, and guards what would change it.
fn mask() -> Result<(), Refusal> {
    for path in READ_ONLY.map(Path::new) {
        guard(path).map_err(|error| Refusal::at("guard", path, error))?;
    }
    for path in MASKED.map(Path::new) {
        hide(path).map_err(|error| Refusal::at("hide", path, error))?;
    }
    Ok(())
}

fn guard(path: &Path) -> io::Result<()> {
    let tree = match copy_of(path, true) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        tree => tree?,
    };
    sys::set_mount_attributes(&tree, INERT | READ, true)?;
    cover(path, &tree)
}

fn hide(path: &Path) -> Result<(), Refusal> {
    let what = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
        Ok(meta) if meta.is_dir() => new("tmpfs", &[("nr_inodes", "1")], INERT | READ)?,
        Ok(_) => copy_of(Path::new("/dev/null"), false)?,
    };
    Ok(cover(path, &what)?)
}
