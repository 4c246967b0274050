//! User: `USER[:GROUP]` of an image or a flag, by name or number, as numbers.
//!
//! Names are looked up in the image's own /etc/passwd and /etc/group, read below its root so that no link in it leads out.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use buildd_api::containerd::containerd::types::Mount;
use buildd_fs::path::{open_in_root, open_root};
use rustix::fs::{Mode, OFlags};

use crate::mounts;

/// What is read of a passwd or group file.
const FILE_BYTES: u64 = 4 << 20;

/// Who a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
    pub(super) home: String,
}

/// Finds the user in the image that these mounts show.
pub(super) fn resolve(wanted: &str, rootfs: &[Mount]) -> Result<User> {
    if matches!(wanted, "" | "0" | "root" | "0:0" | "root:root") {
        return Ok(User { uid: 0, gid: 0, groups: Vec::new(), home: "/root".to_owned() });
    }
    let dir = tempfile::Builder::new().prefix("buildctl-").tempdir().context("make a temporary folder")?;
    mounts::mount_all(rootfs, dir.path())?;
    let read = read_file(dir.path(), "etc/passwd").and_then(|p| Ok((p, read_file(dir.path(), "etc/group")?)));
    let unmounted = mounts::unmount(dir.path());
    let (passwd, group) = read.context("read the image's users")?;
    unmounted.context("unmount the image")?;
    find(wanted, &passwd, &group)
}

/// A file below the root; empty if it is not there.
fn read_file(root: &Path, path: &str) -> io::Result<String> {
    use std::os::fd::AsFd as _;
    let root = open_root(root)?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match open_in_root(root.as_fd(), Path::new(path), flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        Err(e) => return Err(e),
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn find(wanted: &str, passwd: &str, group: &str) -> Result<User> {
    let (name, group_name) =
        wanted.split_once(':').map_or((wanted, None), |(user, group)| (user, Some(group)));
    let number = name.parse::<u32>().ok();
    let mut lines = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let entry = lines.find(|fields| {
        fields.first() == Some(&name)
            || number.is_some() && fields.get(2).and_then(|uid| uid.parse().ok()) == number
    });
    let field = |at: usize| entry.as_ref().and_then(|fields| fields.get(at)).copied();
    let Some(uid) = field(2).and_then(|uid| uid.parse().ok()).or(number) else {
        bail!("no user {name} in /etc/passwd");
    };
    let own_name = field(0).unwrap_or(name).to_owned();
    let own_gid = field(3).and_then(|gid| gid.parse().ok()).unwrap_or(0);
    let home = field(5).filter(|home| !home.is_empty()).unwrap_or("/").to_owned();
    let gid = match group_name {
        Some(name) => find_group(name, group)?,
        None => own_gid,
    };
    // A group that was named stands alone, as docker has it.
    let groups = if group_name.is_some() { Vec::new() } else { groups_of(&own_name, group, gid) };
    Ok(User { uid, gid, groups, home })
}

fn find_group(name: &str, group: &str) -> Result<u32> {
    let entry = group
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.first() == Some(&name));
    let number =
        entry.and_then(|fields| fields.get(2).and_then(|gid| gid.parse().ok())).or_else(|| name.parse().ok());
    number.with_context(|| format!("no group {name} in /etc/group"))
}

fn groups_of(user: &str, group: &str, own: u32) -> Vec<u32> {
    let member = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        let gid = fields.get(2)?.parse().ok()?;
        fields.get(3)?.split(',').any(|name| name == user).then_some(gid)
    };
    group.lines().filter_map(member).filter(|gid| *gid != own).collect()
}

#[cfg(test)]
mod tests;
