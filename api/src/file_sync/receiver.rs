//! Receiver: the end that wants the files.
//!
//! The caller feeds every packet to [`Receiver::receive`], makes what it says, sends what [`Receiver::request`] returns for the files it
//! wants, and when [`Receiver::is_complete`] sends `fin()` and reads on until [`Received::Finished`].
//!
//! # Invariants
//!
//! What `receive` returns has been checked: an entry's path is clean, in order and below an announced folder, its kind is known, a hard
//! link names an announced file, data belongs to a file that was asked for and is not ended.

use std::collections::HashSet;

use super::{Error, Kind, Packet, PathOrder, Stat, order::PATH_BYTES, remote};
use crate::buildkit::fsutil::types::packet::PacketType;

/// Entries of one tree: stops a list without end from filling memory.
pub const MAX_ENTRIES: usize = 4_000_000;
/// Bytes of one tree: stops a file without end from filling the disk before anyone looks.
pub const MAX_TREE_BYTES: u64 = 1 << 40;
/// Extended attributes of one entry, names and values together, as Linux bounds them.
pub const MAX_XATTR_BYTES: usize = 128 * 1024;

/// What a packet meant.
#[derive(Debug, Clone, PartialEq)]
pub enum Received {
    /// The next entry. A regular file without a link name may be requested by its id, at once or later.
    Entry {
        /// Its index.
        id: u32,
        /// What it is.
        kind: Kind,
        /// Its description, checked.
        stat: Stat,
    },
    /// The list is complete.
    EndOfEntries,
    /// The next bytes of a requested file.
    Data {
        /// The file.
        id: u32,
        /// The bytes.
        data: Vec<u8>,
    },
    /// A requested file is complete.
    EndOfFile {
        /// The file.
        id: u32,
    },
    /// The sender confirmed our `fin()`; nothing follows.
    Finished,
}

/// What was announced, asked for and received so far.
#[derive(Debug, Default)]
pub struct Receiver {
    order: PathOrder,
    /// Whether the entry of this index may still be requested.
    requestable: Vec<bool>,
    files: HashSet<String>,
    open: HashSet<u32>,
    bytes: u64,
    listed: bool,
}

impl Receiver {
    /// The packet that asks for a file's contents.
    pub fn request(&mut self, id: u32) -> Result<Packet, Error> {
        let known = usize::try_from(id).ok().and_then(|index| self.requestable.get_mut(index));
        if !known.is_some_and(std::mem::take) {
            return Err(Error::BadId { id, what: "request", why: "is no file or was asked for before" });
        }
        self.open.insert(id);
        Ok(Packet { id, ..super::packet(PacketType::PacketReq) })
    }

    /// Whether the list and all requested files have come.
    pub fn is_complete(&self) -> bool {
        self.listed && self.open.is_empty()
    }

    /// Takes the next packet.
    pub fn receive(&mut self, packet: Packet) -> Result<Received, Error> {
        match PacketType::try_from(packet.r#type) {
            Ok(PacketType::PacketStat) if !self.listed => match packet.stat {
                Some(stat) => self.entry(stat),
                None => {
                    self.listed = true;
                    Ok(Received::EndOfEntries)
                }
            },
            Ok(PacketType::PacketData) => self.data(packet.id, packet.data),
            Ok(PacketType::PacketFin) if self.is_complete() => Ok(Received::Finished),
            Ok(PacketType::PacketErr) => Err(remote(&packet)),
            _ => Err(Error::Unexpected { kind: packet.r#type }),
        }
    }

    fn entry(&mut self, stat: Stat) -> Result<Received, Error> {
        if self.requestable.len() >= MAX_ENTRIES {
            return Err(Error::TooMuch { limit: MAX_ENTRIES as u64, what: "entries" });
        }
        let kind = Kind::of_go(stat.mode)
            .ok_or_else(|| Error::BadMode { path: stat.path.clone(), mode: stat.mode })?;
        self.order.next(&stat.path, kind == Kind::Directory)?;
        check_stat(&stat, kind)?;
        let hard_link = kind == Kind::File && !stat.linkname.is_empty();
        if hard_link && !self.files.contains(&stat.linkname) {
            return Err(Error::BadLink { path: stat.path, target: stat.linkname });
        }
        if kind == Kind::File {
            self.files.insert(stat.path.clone());
        }
        let id = u32::try_from(self.requestable.len())
            .map_err(|_| Error::TooMuch { limit: MAX_ENTRIES as u64, what: "entries" })?;
        self.requestable.push(kind == Kind::File && !hard_link);
        Ok(Received::Entry { id, kind, stat })
    }

    fn data(&mut self, id: u32, data: Vec<u8>) -> Result<Received, Error> {
        if !self.open.contains(&id) {
            return Err(Error::BadId { id, what: "data", why: "was not asked for" });
        }
        if data.is_empty() {
            self.open.remove(&id);
            return Ok(Received::EndOfFile { id });
        }
        self.bytes += data.len() as u64;
        if self.bytes > MAX_TREE_BYTES {
            return Err(Error::TooMuch { limit: MAX_TREE_BYTES, what: "bytes" });
        }
        Ok(Received::Data { id, data })
    }
}

fn check_stat(stat: &Stat, kind: Kind) -> Result<(), Error> {
    let bad = |what| Err(Error::BadStat { path: stat.path.clone(), what });
    if stat.size < 0 {
        return bad("size");
    }
    let symlink = kind == Kind::Symlink;
    if stat.linkname.len() > PATH_BYTES || stat.linkname.contains('\0') || symlink && stat.linkname.is_empty()
    {
        return bad("link name");
    }
    if stat.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > MAX_XATTR_BYTES
        || stat.xattrs.keys().any(|name| name.is_empty() || name.contains('\0'))
    {
        return bad("extended attribute");
    }
    if u32::try_from(stat.devmajor).is_err() || u32::try_from(stat.devminor).is_err() {
        return bad("device number");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
