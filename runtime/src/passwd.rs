//! Users: names in a root's `/etc/passwd` and `/etc/group`, read as hostile files.
//!
//! A number needs no file. A group that is not given is the user's own; for `--chown` of a number it is that number.

use std::{fs::File, io::Read, os::fd::AsFd, path::Path};

use buildd_fs::{
    path::{open_in_root, open_root},
    sys::NO_ID,
};
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Largest passwd or group file that is read.
const MAX_FILE: u64 = 4 << 20;

/// Who runs a step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepUser {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
}

/// The user of a step: `user[:group]`, empty for root, with the groups that list the user.
pub fn step_user(root: &Path, text: &str) -> Result<StepUser> {
    if text.is_empty() {
        return Ok(StepUser::default());
    }
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    let passwd = records(root, "etc/passwd")?;
    let given = id(user);
    let entry = passwd.iter().find(|r| {
        r.first().is_some_and(|name| name == user) || given.is_some_and(|given| number(r, 2) == Some(given))
    });
    let uid = match (given, entry) {
        (_, Some(entry)) => number(entry, 2).ok_or_else(|| broken("etc/passwd", user))?,
        (Some(uid), None) => uid,
        (None, None) if is_number(user) => return Err(out_of_range("user", user)),
        (None, None) => return Err(Error::NotFound { what: "user", name: user.to_owned() }),
    };
    let groups = records(root, "etc/group")?;
    let gid = match group {
        Some(group) => find_group(&groups, group)?,
        None => entry.and_then(|entry| number(entry, 3)).unwrap_or(0),
    };
    let name = entry.and_then(|entry| entry.first());
    let member = |record: &&Vec<String>| {
        name.is_some_and(|name| {
            record.get(3).is_some_and(|list| list.split(',').any(|member| member == name))
        })
    };
    let groups = groups.iter().filter(member).filter_map(|record| number(record, 2)).collect();
    Ok(StepUser { uid, gid, groups })
}

/// The number of a user by name, and that of the user's own group.
pub fn user_ids(root: &Path, name: &str) -> Result<(u32, u32)> {
    let passwd = records(root, "etc/passwd")?;
    let entry = passwd.iter().find(|record| record.first().is_some_and(|n| n == name));
    match entry {
        Some(entry) => {
            let uid = number(entry, 2).ok_or_else(|| broken("etc/passwd", name))?;
            Ok((uid, number(entry, 3).unwrap_or(uid)))
        }
        None => Err(Error::NotFound { what: "user", name: name.to_owned() }),
    }
}

/// The home of a user, by number; the root where no line names one, as runc has it.
pub(crate) fn home(root: &Path, uid: u32) -> String {
    let passwd = records(root, "etc/passwd").unwrap_or_default();
    let entry = passwd.iter().find(|record| number(record, 2) == Some(uid));
    let home = entry.and_then(|record| record.get(5)).filter(|home| !home.is_empty());
    home.cloned().unwrap_or_else(|| "/".to_owned())
}

/// The number of a group by name.
pub fn group_id(root: &Path, name: &str) -> Result<u32> {
    find_group(&records(root, "etc/group")?, name)
}

fn find_group(groups: &[Vec<String>], name: &str) -> Result<u32> {
    if let Some(gid) = id(name) {
        return Ok(gid);
    }
    if is_number(name) {
        return Err(out_of_range("group", name));
    }
    let entry = groups.iter().find(|record| record.first().is_some_and(|n| n == name));
    match entry {
        Some(entry) => number(entry, 2).ok_or_else(|| broken("etc/group", name)),
        None => Err(Error::NotFound { what: "group", name: name.to_owned() }),
    }
}

fn number(record: &[String], field: usize) -> Option<u32> {
    record.get(field).and_then(|text| id(text))
}

/// A user or group by number: digits alone, and not the number that is none.
fn id(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().filter(|id| *id != NO_ID)
}

/// Whether a number was meant, of whatever size and sign.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn out_of_range(what: &'static str, name: &str) -> Error {
    let reason = format!("a number of one is 0 to {}", NO_ID - 1);
    Error::Invalid { what, name: name.to_owned(), reason }
}

/// A number that a definition gives for a user or group.
pub fn checked(what: &'static str, id: u32) -> Result<u32> {
    if id == NO_ID { Err(out_of_range(what, &id.to_string())) } else { Ok(id) }
}

fn broken(file: &str, name: &str) -> Error {
    Error::Invalid {
        what: "user",
        name: name.to_owned(),
        reason: format!("its line in /{file} has no number"),
    }
}

/// The lines of a colon-separated file; none if there is no such file.
fn records(root: &Path, file: &str) -> Result<Vec<Vec<String>>> {
    let fail = |source| Error::File { operation: "read", path: Path::new("/").join(file), source };
    let root = open_root(root).map_err(fail)?;
    // Not blocking: a pipe in the place of the file must not hang us.
    let opened =
        open_in_root(root.as_fd(), Path::new(file), OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty());
    let opened = match opened {
        Ok(fd) => File::from(fd),
        Err(error)
            if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
        {
            return Ok(Vec::new());
        }
        Err(error) => return Err(fail(error)),
    };
    if !opened.metadata().map_err(fail)?.is_file() {
        return Ok(Vec::new());
    }
    let mut bytes = Vec::new();
    opened.take(MAX_FILE).read_to_end(&mut bytes).map_err(fail)?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.lines().map(|line| line.split(':').map(str::to_owned).collect()).collect())
}

#[cfg(test)]
mod tests;
