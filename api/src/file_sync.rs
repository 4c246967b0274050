//! File sync: the packets by which one end of a session describes a tree and the other fetches its files.
//!
//! The daemon receives build contexts with [`Receiver`] and sends `type=local` results with [`Sender`]; `buildctl` is the other
//! end of both. Both are pure state machines: packets go in, decisions come out, and the caller does all reading and writing.
//!
//! # Wire
//!
//! ```text
//! sender                                     receiver
//!   STAT(entry 0), STAT(entry 1), ..           (an entry's id is its index among the STATs)
//!   STAT(empty)  the list ends
//!                                   <-- REQ(id)   for each regular file wanted, at any time after its STAT
//!   DATA(id, bytes).. DATA(id, empty)  -->
//!                                   <-- FIN       when all requested files are there
//!   FIN -->
//! ```
//!
//! Either end may send ERR(text) and leave.
//!
//! # Invariants
//!
//! Everything received is hostile: paths are relative, clean and in strict order below announced folders, links lead to announced
//! files, and counts and sizes are bounded.
//!
//! # Sources
//!
//! tonistiigi/fsutil: `send.go`, `receive.go`, `validator.go`, `types/{wire,stat}.proto`.

pub mod mode;
pub mod order;
pub mod receiver;
pub mod sender;
pub mod stat;

use crate::buildkit::fsutil::types::packet::PacketType;

pub use crate::buildkit::fsutil::types::{Packet, Stat};
pub use mode::Kind;
pub use order::PathOrder;
pub use receiver::{Received, Receiver};
pub use sender::{Requested, Sender};

/// Bytes of one DATA packet, as BuildKit sends them.
pub const CHUNK_BYTES: usize = 32 * 1024;

/// What was wrong with a packet or a tree.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// A path was absolute, unclean or too long.
    #[error("file sync: {path:?} is not a clean relative path")]
    BadPath {
        /// The path, cut to a printable length.
        path: String,
    },
    /// A path came out of order.
    #[error("file sync: {path:?} comes out of order, after {previous:?}")]
    OutOfOrder {
        /// The path.
        path: String,
        /// The path before it.
        previous: String,
    },
    /// A path came before the folder it lies in.
    #[error("file sync: {path:?} lies in a folder that was not announced")]
    NoParent {
        /// The path.
        path: String,
    },
    /// The mode bits name no kind of file, or two.
    #[error("file sync: {path:?} has the unknown mode {mode:#o}")]
    BadMode {
        /// The path.
        path: String,
        /// The mode as received.
        mode: u32,
    },
    /// A hard link to something that was not announced as a file.
    #[error("file sync: invalid link {path:?} to unknown path {target:?}")]
    BadLink {
        /// The path.
        path: String,
        /// Where it leads.
        target: String,
    },
    /// A size below zero or attributes beyond the limits.
    #[error("file sync: {path:?} has a bad {what}")]
    BadStat {
        /// The path.
        path: String,
        /// Which field.
        what: &'static str,
    },
    /// More entries or bytes than one tree may have.
    #[error("file sync: more than {limit} {what}")]
    TooMuch {
        /// The limit.
        limit: u64,
        /// Of what.
        what: &'static str,
    },
    /// An id that is unknown, not a file, asked for twice or not asked for.
    #[error("file sync: {what} of entry {id} that {why}")]
    BadId {
        /// The id.
        id: u32,
        /// Request or data.
        what: &'static str,
        /// The reason.
        why: &'static str,
    },
    /// A packet that may not come now.
    #[error("file sync: unexpected packet of type {kind}")]
    Unexpected {
        /// The packet's type number.
        kind: i32,
    },
    /// The other end gave up.
    #[error("file sync: the other end failed: {message}")]
    Remote {
        /// Its words.
        message: String,
    },
}

fn packet(kind: PacketType) -> Packet {
    Packet { r#type: kind as i32, ..Packet::default() }
}

/// The packet that ends the list of entries.
pub fn end_of_entries() -> Packet {
    packet(PacketType::PacketStat)
}

/// The packet that announces one entry.
pub fn entry(stat: Stat) -> Packet {
    Packet { stat: Some(stat), ..packet(PacketType::PacketStat) }
}

/// A piece of a file, at most [`CHUNK_BYTES`] and not empty: an empty one would end the file.
pub fn data(id: u32, data: Vec<u8>) -> Packet {
    debug_assert!(!data.is_empty(), "an empty piece ends the file");
    Packet { id, data, ..packet(PacketType::PacketData) }
}

/// The packet that ends a file.
pub fn end_of_file(id: u32) -> Packet {
    Packet { id, ..packet(PacketType::PacketData) }
}

/// The packet by which the receiver says that it has everything, and the sender that it heard so.
pub fn fin() -> Packet {
    packet(PacketType::PacketFin)
}

/// The packet of an end that gives up.
pub fn failure(message: &str) -> Packet {
    Packet { data: message.as_bytes().to_vec(), ..packet(PacketType::PacketErr) }
}

fn remote(packet: &Packet) -> Error {
    /// What is kept of the other end's words.
    const MESSAGE_BYTES: usize = 4096;
    let end = packet.data.len().min(MESSAGE_BYTES);
    Error::Remote { message: String::from_utf8_lossy(&packet.data[..end]).into_owned() }
}
