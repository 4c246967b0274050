//! Stats: the description of one entry, from a file's metadata and back to numbers a receiver can use.
//!
//! The walker of a sender makes them; nothing here touches the file.

use std::{
    fs::Metadata,
    os::unix::fs::MetadataExt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{Stat, mode};

const NANOS: i64 = 1_000_000_000;

/// The stat of an entry: `link` is the target of a symbolic link, or the first name of a further hard link.
pub fn from_metadata(path: &str, metadata: &Metadata, link: Option<&str>) -> Stat {
    let go_mode = mode::go_from_unix(metadata.mode());
    let kind = mode::Kind::of_go(go_mode);
    let device = matches!(kind, Some(mode::Kind::Block | mode::Kind::Character));
    let rdev = metadata.rdev();
    Stat {
        path: path.to_owned(),
        mode: go_mode,
        uid: metadata.uid(),
        gid: metadata.gid(),
        size: match (kind, link) {
            (Some(mode::Kind::File), None) => i64::try_from(metadata.size()).unwrap_or(i64::MAX),
            (Some(mode::Kind::Symlink), Some(link)) => i64::try_from(link.len()).unwrap_or_default(),
            _ => 0,
        },
        mod_time: metadata.mtime().saturating_mul(NANOS).saturating_add(metadata.mtime_nsec()),
        linkname: link.unwrap_or_default().to_owned(),
        devmajor: if device { i64::from(rustix::fs::major(rdev)) } else { 0 },
        devminor: if device { i64::from(rustix::fs::minor(rdev)) } else { 0 },
        ..Stat::default()
    }
}

/// Makes a modification time that is later than `epoch`, in seconds since 1970, this one.
pub fn bound_time(stat: &mut Stat, epoch: i64) {
    stat.mod_time = stat.mod_time.min(epoch.saturating_mul(NANOS));
}

/// The modification time of a stat.
pub fn modified(stat: &Stat) -> SystemTime {
    let magnitude = Duration::from_nanos(stat.mod_time.unsigned_abs());
    if stat.mod_time < 0 { UNIX_EPOCH - magnitude } else { UNIX_EPOCH + magnitude }
}

/// The modification time as seconds and nanoseconds, the latter never negative.
pub fn modified_parts(stat: &Stat) -> (i64, u32) {
    let nanos = stat.mod_time.rem_euclid(NANOS);
    (stat.mod_time.div_euclid(NANOS), u32::try_from(nanos).unwrap_or_default())
}
