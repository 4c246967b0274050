//! Parse: a tar stream as a layer's entries, each checked before anybody acts on it.
//!
//! Both forms of a layer are made from what comes out here, and so are the files of an archive that ADD unpacks.
//!
//! # Errors
//! `LayerEntry` for what is hostile or broken, `ReadLayer` for a stream that ends early or cannot be read.
//!
//! # Sources
//! image-spec "layer"; spec archives-and-layers section 5.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io::{self, BufRead, Read},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use buildd_fs::{path::clean, sys::NO_ID};
use buildd_oci::{
    digest::{Digest, Digester},
    shown::Shown,
    tar_stream::{TarEntry, TarStream},
};

use super::{Entry, EntryKind, OPAQUE, Time, WHITEOUT, keeps_xattr};
use crate::error::{Error, Result};

/// Most entries of one layer: more would use up the disk's inodes.
const MAX_ENTRIES: u64 = 5_000_000;
/// Deepest path of one layer.
const MAX_DEPTH: usize = 2000;
/// Longest path of one layer, as kernels have it: a longer one could be unpacked, but no program could open it (TAR-29).
const MAX_PATH: usize = 4095;
/// Largest numbers of a device that the kernel takes; larger ones would wrap to another device's (TAR-10).
const MAX_DEVICE: (u32, u32) = (0xfff, 0xf_ffff);
/// First bytes and size of a well-formed `security.capability`, by its version: the kernel looks at it only when the program is run, and fails
/// that (TAR-27).
const CAPABILITIES: [(u8, usize); 2] = [(2, 20), (3, 24)];

/// Begins the names that old union mounts kept for themselves.
const UNION: &str = ".wh..wh.";

/// What became of a stream.
#[derive(Clone, Copy, Debug)]
pub struct Applied {
    /// Digest of the whole uncompressed stream.
    pub diff_id: Digest,
    /// Its bytes.
    pub size: u64,
}

/// What an entry's bytes are in the stream.
pub(super) struct Body<'a> {
    /// The bytes, holes filled with zeros.
    pub(super) data: &'a mut dyn Read,
    /// Where they begin in the stream, if they lie there as they are.
    pub(super) offset: Option<u64>,
}

/// Gives every change of a tar to `take`, and reads the stream to its end.
pub(super) fn each_change(
    stream: impl BufRead,
    take: &mut dyn FnMut(&Entry, Body<'_>) -> Result<()>,
) -> Result<Applied> {
    let mut digester = Digester::default();
    let mut hashed = Shown::new(stream, |bytes: &[u8]| {
        digester.update(bytes);
        Ok(())
    });
    let mut archive = TarStream::new(&mut hashed);
    let mut count = 0;
    while let Some(entry) = archive.next_entry().map_err(|source| Error::ReadLayer { source })? {
        count += 1;
        if count > MAX_ENTRIES {
            return Err(broken("", format!("more than {MAX_ENTRIES} entries")));
        }
        if let Some(change) = change_of(&entry)? {
            let offset = (!entry.kind().is_gnu_sparse()).then(|| archive.position());
            take(&change, Body { data: &mut archive, offset })?;
        }
    }
    // Whatever follows the end mark still belongs to the stream that the diff_id is of.
    io::copy(&mut hashed, &mut io::sink()).map_err(|source| Error::ReadLayer { source })?;
    drop(hashed);
    let size = digester.size();
    Ok(Applied { diff_id: digester.finish(), size })
}

/// An entry that is not as a layer may have it.
pub fn broken(entry: impl Into<String>, reason: impl Into<String>) -> Error {
    Error::LayerEntry { entry: entry.into(), reason: reason.into() }
}

/// An overlay shows the roots of all its layers, whatever marks one of them has: the image would not be what its maker meant.
pub(super) fn opaque_root() -> Error {
    broken(
        OPAQUE,
        "a mark in the root would hide all layers below, which an overlay cannot do: squash the image",
    )
}

/// Where an entry lies; None for what old union mounts kept for themselves.
fn place(raw: &[u8], shown: &str) -> Result<Option<PathBuf>> {
    if raw.contains(&0) {
        return Err(broken(shown, "its name has a NUL"));
    }
    let path = clean(Path::new(OsStr::from_bytes(raw)));
    if path.components().count() > MAX_DEPTH {
        return Err(broken(shown, format!("deeper than {MAX_DEPTH} folders")));
    }
    if path.as_os_str().len() > MAX_PATH {
        return Err(broken(shown, format!("a path of more than {MAX_PATH} bytes")));
    }
    let above = |mark: &str| {
        path.parent()
            .is_some_and(|parent| parent.iter().any(|part| part.as_bytes().starts_with(mark.as_bytes())))
    };
    if above(UNION) {
        return Ok(None);
    }
    if above(WHITEOUT) {
        return Err(broken(shown, "its folder has the name of a removed file: it begins with \".wh.\""));
    }
    Ok(Some(path))
}

/// The change a tar header stands for; None for what says nothing (the marks of old union mounts).
fn change_of(entry: &TarEntry) -> Result<Option<Entry>> {
    let raw = entry.path();
    let shown = String::from_utf8_lossy(&raw).into_owned();
    let Some(path) = place(&raw, &shown)? else { return Ok(None) };
    let header = entry.header();
    let field = |what: &str, value: io::Result<u64>| {
        let value = value.map_err(|e| broken(&shown, format!("its {what}: {e}")))?;
        let id = u32::try_from(value).ok().filter(|id| *id != NO_ID);
        id.ok_or_else(|| broken(&shown, format!("its {what} is out of range")))
    };
    let mut change = Entry {
        path,
        kind: EntryKind::Directory,
        mode: header.mode().map_err(|e| broken(&shown, format!("its mode: {e}")))? & 0o7777,
        uid: field("owner", entry.uid())?,
        gid: field("group", entry.gid())?,
        mtime: Time { seconds: header.mtime().unwrap_or_default().try_into().unwrap_or_default(), nanos: 0 },
        xattrs: BTreeMap::new(),
    };
    let name = change.path.file_name().map(|n| n.as_bytes().to_vec()).unwrap_or_default();
    if let Some(hidden) = name.strip_prefix(WHITEOUT.as_bytes()) {
        return whiteout(change, &name, hidden, &shown);
    }
    pax(entry, &mut change)?;
    change.kind = kind_of(entry, &shown)?;
    Ok(Some(change))
}

fn kind_of(entry: &TarEntry, shown: &str) -> Result<EntryKind> {
    let header = entry.header();
    let device = || -> Result<(u32, u32)> {
        let number =
            |n: io::Result<Option<u32>>| n.ok().flatten().ok_or_else(|| broken(shown, "its device number"));
        let (major, minor) = (number(header.device_major())?, number(header.device_minor())?);
        match major > MAX_DEVICE.0 || minor > MAX_DEVICE.1 {
            true => Err(broken(shown, format!("its device number {major}:{minor} is out of range"))),
            false => Ok((major, minor)),
        }
    };
    let link = || {
        let target = entry.link().map(|bytes| PathBuf::from(OsStr::from_bytes(&bytes)));
        target.ok_or_else(|| broken(shown, "a link to nothing"))
    };
    Ok(match entry.kind() {
        tar::EntryType::Directory => EntryKind::Directory,
        tar::EntryType::Regular | tar::EntryType::Continuous => EntryKind::File { size: entry.size() },
        tar::EntryType::GNUSparse => EntryKind::File { size: entry.size() },
        tar::EntryType::Symlink => EntryKind::Symlink(link()?),
        tar::EntryType::Link => EntryKind::Hardlink(clean(&link()?)),
        tar::EntryType::Char => match device()? {
            (0, 0) => return Err(broken(shown, "a character device 0:0 would hide what lies below")),
            (major, minor) => EntryKind::Char(major, minor),
        },
        tar::EntryType::Block => device().map(|(major, minor)| EntryKind::Block(major, minor))?,
        tar::EntryType::Fifo => EntryKind::Fifo,
        other => return Err(broken(shown, format!("entry type {:?} is not known", other.as_byte() as char))),
    })
}

fn whiteout(mut change: Entry, name: &[u8], hidden: &[u8], shown: &str) -> Result<Option<Entry>> {
    if name == OPAQUE.as_bytes() {
        change.path.pop();
        change.kind = EntryKind::Opaque;
        return Ok(Some(change));
    }
    if name.starts_with(UNION.as_bytes()) {
        return Ok(None);
    }
    if matches!(hidden, b"" | b"." | b"..") {
        return Err(broken(shown, "it would remove its own folder"));
    }
    change.path.set_file_name(OsStr::from_bytes(hidden));
    change.kind = EntryKind::Whiteout;
    Ok(Some(change))
}

/// Extended attributes and exact times from the PAX records.
fn pax(entry: &TarEntry, change: &mut Entry) -> Result<()> {
    let shown = change.path.display().to_string();
    for (key, value) in entry.records() {
        let Ok(key) = std::str::from_utf8(key) else { continue };
        if let Some(name) = key.strip_prefix("SCHILY.xattr.") {
            if name == "security.capability" && !well_formed(value) {
                return Err(broken(&shown, "its security.capability is malformed"));
            }
            if keeps_xattr(name) {
                change.xattrs.insert(name.into(), value.to_vec());
            }
        } else if key == "mtime" {
            let text = std::str::from_utf8(value).map_err(|_| broken(&shown, "its time is not text"))?;
            change.mtime = parse_time(text).ok_or_else(|| broken(&shown, "its time is not a number"))?;
        }
    }
    Ok(())
}

fn well_formed(capability: &[u8]) -> bool {
    CAPABILITIES.iter().any(|(version, size)| {
        capability.len() == *size && capability[0] <= 1 && capability[1..4] == [0, 0, *version]
    })
}

fn parse_time(text: &str) -> Option<Time> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    Some(Time { seconds: seconds.parse().ok()?, nanos: digits.parse().ok()? })
}
