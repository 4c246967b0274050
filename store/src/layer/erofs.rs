//! EROFS: a tree as the index of a read-only file system, whose file data lies in a tar before it.
//!
//! `LayerFileWriter` calls `write_index` once all entries are known. Pure: numbers and bytes, no files, no mounts.
//!
//! # On disk
//! ```text
//! 0      1024         4096            meta                                dirs
//! | head | superblock | tar, expanded | inodes: 64 bytes, xattrs, links   | folders, long links |      blocks of 512 bytes
//! ```
//! Inodes are the extended form (64 bytes), so that times and owners are exact; a file is one extent (`FLAT_PLAIN`), here or,
//! with numbers from the end of this file on, in a data file, whose slot follows the superblock. An inode's number is its
//! place in units of 32 bytes from `meta`; number 0 stays unused, the root has 2. A folder is blocks of sorted entries with their names.
//!
//! # Invariants
//! Every number that ends in a field is checked to fit: 32-bit block numbers bound a layer to 2 TiB.
//!
//! # Sources
//! Linux `fs/erofs/erofs_fs.h`, `Documentation/filesystems/erofs.rst`.

use std::io::{self, Write};

use super::{
    OPAQUE_XATTR,
    tree::{DataLocation, Node, NodeKind, Tree},
};

mod xattr;

/// Bytes of a block: a tar's, so that its members begin at blocks.
pub(super) const BLOCK: u64 = 512;
/// Where the superblock lies.
pub(super) const SUPERBLOCK_AT: u64 = 1024;
/// Bytes of the superblock.
pub(super) const SUPERBLOCK: usize = 128;
/// Bytes of the superblock and what tells of a data file, which follows it.
pub(super) const DESCRIBED: usize = SUPERBLOCK + DEVICE;
const DEVICE: usize = 128;
/// Where a superblock has the volume's name, and the name of one that hides nothing of what it may lie on: no whiteouts, no opaque folders.
pub(super) const NAME_AT: usize = 64;
pub(super) const PLAIN: &[u8; 5] = b"plain";
/// A feature that a kernel must know: files on further devices.
const DEVICE_TABLE: u32 = 8;
const MAGIC: u32 = 0xE0F5_E1E2;
/// Unit of inode numbers.
const SLOT: u64 = 32;
const INODE: u64 = 64;
const ROOT_NID: u16 = 2;
const FLAT_PLAIN: u16 = 0;
const FLAT_INLINE: u16 = 2;
const DIRENT: usize = 12;

/// Where the parts of a layer file lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// First byte of the tar.
    pub(super) tar: u64,
    /// First byte of the expanded data.
    pub(super) expanded: u64,
    /// First byte of the index; a multiple of `BLOCK`.
    pub(super) index: u64,
    /// Bytes of the data file, if there is one.
    pub(super) data_file: Option<u64>,
}

/// Where a node's inode and data go.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    nid: u64,
    /// Bytes of data outside the inode, and their block; of a folder and a long link.
    size: u64,
    block: u64,
    parent: usize,
    links: u32,
    inline: bool,
}

/// Writes the index to `out`, which continues at `layout.index`; returns the superblock.
pub(super) fn write_index(tree: &Tree, layout: Layout, out: &mut dyn Write) -> io::Result<[u8; DESCRIBED]> {
    let mut slots = vec![Slot::default(); tree.len()];
    let order = visit(tree, &mut slots)?;
    let inodes_end = place_inodes(tree, layout, &order, &mut slots)?;
    let mut data_end = round_up(inodes_end, BLOCK)?;
    for number in &order {
        let size = match &tree.node(*number).kind {
            NodeKind::Directory(_) => directory(tree, *number, &slots, &mut io::sink())?,
            NodeKind::Symlink(target) => target.len() as u64,
            _ => continue,
        };
        let slot = &mut slots[*number];
        slot.size = size;
        if !slot.inline {
            slot.block = data_end / BLOCK;
            data_end = round_up(data_end.checked_add(slot.size).ok_or_else(too_large)?, BLOCK)?;
        }
    }
    let mut out = Counting { inner: out, at: layout.index };
    for number in &order {
        let at = layout.index + slots[*number].nid * SLOT;
        out.pad_to(at)?;
        inode(tree.node(*number), &slots[*number], layout, data_end, &mut out)?;
    }
    for number in &order {
        let slot = slots[*number];
        match &tree.node(*number).kind {
            NodeKind::Directory(_) => {
                out.pad_to(slot.block * BLOCK)?;
                directory(tree, *number, &slots, &mut out)?;
            }
            NodeKind::Symlink(target) if !slot.inline => {
                out.pad_to(slot.block * BLOCK)?;
                out.write_all(target)?;
            }
            _ => {}
        }
    }
    out.pad_to(data_end)?;
    superblock(order.len() as u64, layout, data_end, order.iter().all(|number| is_plain(tree.node(*number))))
}

/// The nodes that the root reaches, parents first, each once; fills in parents and links.
fn visit(tree: &Tree, slots: &mut [Slot]) -> io::Result<Vec<usize>> {
    let mut order = vec![0];
    slots[0].links = 2;
    let mut next = 0;
    while next < order.len() {
        let folder = order[next];
        next += 1;
        let NodeKind::Directory(children) = &tree.node(folder).kind else { continue };
        for child in children.values() {
            if slots[*child].links == 0 {
                order.push(*child);
            }
            if matches!(tree.node(*child).kind, NodeKind::Directory(_)) {
                slots[*child].parent = folder;
                slots[*child].links = 2;
                slots[folder].links = slots[folder].links.checked_add(1).ok_or_else(too_large)?;
            } else {
                slots[*child].links = slots[*child].links.checked_add(1).ok_or_else(too_large)?;
            }
        }
    }
    Ok(order)
}

/// Gives every inode its number; returns where the last one ends.
fn place_inodes(tree: &Tree, layout: Layout, order: &[usize], slots: &mut [Slot]) -> io::Result<u64> {
    let mut at = layout.index + u64::from(ROOT_NID) * SLOT;
    for number in order {
        let node = tree.node(*number);
        let fixed = INODE + xattr::size(&node.xattrs)?;
        let mut whole = fixed;
        if let NodeKind::Symlink(target) = &node.kind {
            // The kernel takes a short link from its inode's own block.
            whole = fixed + target.len() as u64;
            slots[*number].inline = whole <= BLOCK;
        }
        if slots[*number].inline && at % BLOCK + whole > BLOCK {
            at = round_up(at, BLOCK)?;
        }
        slots[*number].nid = (at - layout.index) / SLOT;
        let taken = if slots[*number].inline { whole } else { fixed };
        at = round_up(at.checked_add(taken).ok_or_else(too_large)?, SLOT)?;
    }
    Ok(at)
}

/// What a data file has is counted from `end` on, where this file's own blocks end.
fn inode(node: &Node, slot: &Slot, layout: Layout, end: u64, out: &mut impl Write) -> io::Result<()> {
    let (kind, size, info) = match &node.kind {
        NodeKind::Directory(_) => (libc::S_IFDIR, slot.size, block_number(slot.block)?),
        NodeKind::Symlink(_) if slot.inline => (libc::S_IFLNK, slot.size, 0),
        NodeKind::Symlink(_) => (libc::S_IFLNK, slot.size, block_number(slot.block)?),
        NodeKind::File(place, size) => {
            let (base, offset) = match place {
                DataLocation::Tar(offset) => (layout.tar, *offset),
                DataLocation::Expanded(offset) => (layout.expanded, *offset),
                DataLocation::ExternalData(offset) => (end, *offset),
            };
            let at = base.checked_add(offset).ok_or_else(too_large)?;
            block_number(at.checked_add(*size).ok_or_else(too_large)? / BLOCK)?;
            (libc::S_IFREG, *size, block_number(at / BLOCK)?)
        }
        NodeKind::Char(major, minor) => (libc::S_IFCHR, 0, device(*major, *minor)?),
        NodeKind::Block(major, minor) => (libc::S_IFBLK, 0, device(*major, *minor)?),
        NodeKind::Fifo => (libc::S_IFIFO, 0, 0),
    };
    let form = 1 | (if slot.inline { FLAT_INLINE } else { FLAT_PLAIN }) << 1;
    let mode = u16::try_from(kind | (node.mode & 0o7777)).map_err(|_| too_large())?;
    let number = u32::try_from(slot.nid).map_err(|_| too_large())?;
    let mut bytes = Vec::with_capacity(64);
    bytes.extend_from_slice(&form.to_le_bytes());
    bytes.extend_from_slice(&xattr::count(&node.xattrs)?.to_le_bytes());
    bytes.extend_from_slice(&mode.to_le_bytes());
    bytes.extend_from_slice(&[0; 2]);
    bytes.extend_from_slice(&size.to_le_bytes());
    for field in [info, number, node.uid, node.gid] {
        bytes.extend_from_slice(&field.to_le_bytes());
    }
    bytes.extend_from_slice(&node.mtime.seconds.to_le_bytes());
    bytes.extend_from_slice(&node.mtime.nanos.to_le_bytes());
    bytes.extend_from_slice(&slot.links.to_le_bytes());
    bytes.extend_from_slice(&[0; 16]);
    out.write_all(&bytes)?;
    xattr::write(&node.xattrs, out)?;
    match &node.kind {
        NodeKind::Symlink(target) if slot.inline => out.write_all(target),
        _ => Ok(()),
    }
}

/// Writes a folder's blocks; returns its size, which ends with the last name.
fn directory(tree: &Tree, number: usize, slots: &[Slot], out: &mut impl Write) -> io::Result<u64> {
    let NodeKind::Directory(children) = &tree.node(number).kind else { return Ok(0) };
    let mut entries: Vec<(&[u8], usize)> = vec![(b".", number), (b"..", slots[number].parent)];
    entries.extend(children.iter().map(|(name, child)| (name.as_ref(), *child)));
    entries.sort_unstable_by_key(|(name, _)| *name);
    let mut rest = entries.as_slice();
    let mut size = 0;
    while !rest.is_empty() {
        let mut used = 0;
        let fits = |(name, _): &&(&[u8], usize)| {
            used += DIRENT + name.len();
            used as u64 <= BLOCK
        };
        let count = rest.iter().take_while(fits).count();
        let (these, others) = rest.split_at(count);
        let mut block = Vec::with_capacity(512);
        let mut name_at = DIRENT * count;
        for (name, child) in these {
            let offset = u16::try_from(name_at).map_err(|_| too_large())?;
            block.extend_from_slice(&slots[*child].nid.to_le_bytes());
            block.extend_from_slice(&offset.to_le_bytes());
            block.extend_from_slice(&[file_type(tree.node(*child)), 0]);
            name_at += name.len();
        }
        these.iter().for_each(|(name, _)| block.extend_from_slice(name));
        if !others.is_empty() {
            block.resize(512, 0);
        }
        out.write_all(&block)?;
        size += block.len() as u64;
        rest = others;
    }
    Ok(size)
}

fn file_type(node: &Node) -> u8 {
    match node.kind {
        NodeKind::File(..) => 1,
        NodeKind::Directory(_) => 2,
        NodeKind::Char(..) => 3,
        NodeKind::Block(..) => 4,
        NodeKind::Fifo => 5,
        NodeKind::Symlink(_) => 7,
    }
}

/// Whether a node hides nothing below it.
fn is_plain(node: &Node) -> bool {
    !matches!(node.kind, NodeKind::Char(0, 0)) && !node.xattrs.contains_key(OPAQUE_XATTR.as_bytes())
}

fn superblock(inodes: u64, layout: Layout, end: u64, plain: bool) -> io::Result<[u8; DESCRIBED]> {
    let mut bytes = [0; DESCRIBED];
    bytes[0..4].copy_from_slice(&MAGIC.to_le_bytes());
    bytes[12] = 9;
    bytes[14..16].copy_from_slice(&ROOT_NID.to_le_bytes());
    bytes[16..24].copy_from_slice(&inodes.to_le_bytes());
    bytes[36..40].copy_from_slice(&block_number(end / BLOCK)?.to_le_bytes());
    bytes[40..44].copy_from_slice(&block_number(layout.index / BLOCK)?.to_le_bytes());
    if plain {
        bytes[NAME_AT..NAME_AT + PLAIN.len()].copy_from_slice(PLAIN);
    }
    if let Some(data_file) = layout.data_file {
        bytes[80..84].copy_from_slice(&DEVICE_TABLE.to_le_bytes());
        bytes[86..88].copy_from_slice(&1_u16.to_le_bytes());
        let slot = SUPERBLOCK_AT as usize + SUPERBLOCK;
        bytes[88..90].copy_from_slice(&((slot / DEVICE) as u16).to_le_bytes());
        let blocks = block_number(data_file.div_ceil(BLOCK))?;
        bytes[SUPERBLOCK + 64..SUPERBLOCK + 68].copy_from_slice(&blocks.to_le_bytes());
        bytes[SUPERBLOCK + 68..SUPERBLOCK + 72].copy_from_slice(&block_number(end / BLOCK)?.to_le_bytes());
    }
    Ok(bytes)
}

/// A device number as the kernel packs it: 12 bits and 20 bits.
fn device(major: u32, minor: u32) -> io::Result<u32> {
    if major > 0xfff || minor > 0xf_ffff {
        let reason = format!("device {major}:{minor} is out of range");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    }
    Ok((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12))
}

/// Whether a node can be written at all, whatever its place.
pub(super) fn check(node: &Node) -> io::Result<()> {
    xattr::count(&node.xattrs)?;
    match node.kind {
        NodeKind::Char(major, minor) | NodeKind::Block(major, minor) => device(major, minor).map(drop),
        _ => Ok(()),
    }
}

fn block_number(block: u64) -> io::Result<u32> {
    u32::try_from(block).map_err(|_| too_large())
}

fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, "a layer file holds at most 2 TiB")
}

pub(super) fn round_up(at: u64, unit: u64) -> io::Result<u64> {
    at.checked_next_multiple_of(unit).ok_or_else(too_large)
}

/// Knows how far it is.
struct Counting<'a> {
    inner: &'a mut dyn Write,
    at: u64,
}

impl Counting<'_> {
    fn pad_to(&mut self, at: u64) -> io::Result<()> {
        while self.at < at {
            let step = usize::try_from((at - self.at).min(BLOCK)).expect("at most a block");
            self.write_all(&[0; 512][..step])?;
        }
        debug_assert_eq!(self.at, at, "the index is written in order");
        Ok(())
    }
}

impl Write for Counting<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.at += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests;
