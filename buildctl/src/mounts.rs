//! Mounts: carries out on this machine what the daemon's snapshotter answered: bind and overlay mounts.
//!
//! Used by `image mount`, and by `run` to read the passwd file of an image.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use buildd_api::containerd::containerd::types::Mount;
use rustix::{
    io::Errno,
    mount::{MountFlags, UnmountFlags},
};

/// Mounts all of them at the target, one upon the other; undoes what was done if one fails.
pub(crate) fn mount_all(mounts: &[Mount], target: &Path) -> Result<()> {
    if mounts.is_empty() {
        bail!("the daemon gave nothing to mount");
    }
    for (done, mount) in mounts.iter().enumerate() {
        if let Err(e) = mount_one(mount, target) {
            for _ in 0..done {
                let _ = unmount(target);
            }
            return Err(e);
        }
    }
    Ok(())
}

/// Unmounts the topmost mount at the target.
pub(crate) fn unmount(target: &Path) -> Result<()> {
    match rustix::mount::unmount(target, UnmountFlags::NOFOLLOW) {
        Err(Errno::INVAL) => bail!("nothing is mounted there"),
        done => Ok(done?),
    }
}

fn mount_one(mount: &Mount, target: &Path) -> Result<()> {
    let (flags, data) = split_options(&mount.options);
    let failed = || format!("mount {} {} with {:?}", mount.r#type, mount.source, mount.options);
    let bind = mount.r#type == "bind" || flags.contains(MountFlags::BIND);
    if bind {
        let recursive = flags & MountFlags::REC;
        rustix::mount::mount(&*mount.source, target, c"", MountFlags::BIND | recursive, None)
            .with_context(failed)?;
        if !(flags - MountFlags::BIND - MountFlags::REC).is_empty() {
            // The first call ignores all other flags of a bind mount.
            rustix::mount::mount_remount(target, MountFlags::BIND | (flags - MountFlags::REC), c"")
                .with_context(failed)?;
        }
        return Ok(());
    }
    let data = std::ffi::CString::new(data).context("an option has a zero byte")?;
    rustix::mount::mount(&*mount.source, target, &*mount.r#type, flags, data.as_c_str()).with_context(failed)
}

/// Flags and the rest, joined with commas for the filesystem.
fn split_options(options: &[String]) -> (MountFlags, String) {
    let mut flags = MountFlags::empty();
    let mut data = Vec::new();
    for option in options {
        match option.as_str() {
            "ro" => flags |= MountFlags::RDONLY,
            "rw" | "defaults" | "" => {}
            "bind" => flags |= MountFlags::BIND,
            "rbind" => flags |= MountFlags::BIND | MountFlags::REC,
            "nosuid" => flags |= MountFlags::NOSUID,
            "nodev" => flags |= MountFlags::NODEV,
            "noexec" => flags |= MountFlags::NOEXEC,
            "noatime" => flags |= MountFlags::NOATIME,
            "relatime" => flags |= MountFlags::RELATIME,
            other => data.push(other),
        }
    }
    (flags, data.join(","))
}
