//! Sender: the end that has the files.
//!
//! The caller walks its tree, sends what [`Sender::announce`] returns for each entry, then [`Sender::end`]; meanwhile it feeds
//! every packet received to [`Sender::receive`] and does what it says.

use super::{Error, Kind, Packet, PathOrder, Stat, end_of_entries, entry, remote};
use crate::buildkit::fsutil::types::packet::PacketType;

/// What the receiver wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requested {
    /// The contents of the entry with this index: send its data, then the end of the file.
    File(u32),
    /// Nothing more: answer with `fin()` and close.
    Finish,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    NoFile,
    File,
    Requested,
}

/// What was announced and asked for so far.
#[derive(Debug, Default)]
pub struct Sender {
    order: PathOrder,
    entries: Vec<Entry>,
}

impl Sender {
    /// The packet that announces the next entry; its id is the number of entries before it.
    pub fn announce(&mut self, stat: Stat) -> Result<Packet, Error> {
        let kind = Kind::of_go(stat.mode)
            .ok_or_else(|| Error::BadMode { path: stat.path.clone(), mode: stat.mode })?;
        self.order.next(&stat.path, kind == Kind::Directory)?;
        let file = kind == Kind::File && stat.linkname.is_empty();
        self.entries.push(if file { Entry::File } else { Entry::NoFile });
        Ok(entry(stat))
    }

    /// The packet that ends the list.
    pub fn end(&self) -> Packet {
        end_of_entries()
    }

    /// What a packet of the receiver asks for.
    pub fn receive(&mut self, packet: &Packet) -> Result<Requested, Error> {
        match PacketType::try_from(packet.r#type) {
            Ok(PacketType::PacketReq) => {
                let refuse = |why| Error::BadId { id: packet.id, what: "request", why };
                let index = usize::try_from(packet.id).map_err(|_| refuse("is unknown"))?;
                let entry = self.entries.get_mut(index).ok_or_else(|| refuse("is unknown"))?;
                match std::mem::replace(entry, Entry::Requested) {
                    Entry::File => Ok(Requested::File(packet.id)),
                    Entry::Requested => Err(refuse("was asked for before")),
                    Entry::NoFile => Err(refuse("is no regular file")),
                }
            }
            Ok(PacketType::PacketFin) => Ok(Requested::Finish),
            Ok(PacketType::PacketErr) => Err(remote(packet)),
            _ => Err(Error::Unexpected { kind: packet.r#type }),
        }
    }
}

#[cfg(test)]
mod tests;
