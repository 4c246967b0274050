//! Xattr: extended attributes as they stand behind an inode.
//!
//! A header of 12 bytes, then entries: length of the name, number of its prefix, length of the value, name without prefix, value; each filled
//! up to four bytes. The inode says how long it all is, in fours.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

type Xattrs = BTreeMap<Box<[u8]>, Vec<u8>>;

const HEADER: u64 = 12;
const ENTRY: u64 = 4;
/// Prefixes and the numbers that stand for them.
const PREFIXES: [(&[u8], u8); 3] = [(b"user.", 1), (b"trusted.", 4), (b"security.", 6)];

/// Bytes behind the inode.
pub(super) fn size(xattrs: &Xattrs) -> io::Result<u64> {
    if xattrs.is_empty() {
        return Ok(0);
    }
    let mut total = HEADER;
    for (name, value) in xattrs {
        let (_, _, rest) = split(name, value)?;
        total += (ENTRY + rest.len() as u64 + value.len() as u64).next_multiple_of(4);
    }
    Ok(total)
}

/// The inode's field for that size.
pub(super) fn count(xattrs: &Xattrs) -> io::Result<u16> {
    match size(xattrs)? {
        0 => Ok(0),
        size => u16::try_from((size - HEADER) / 4 + 1).map_err(|_| too_long()),
    }
}

/// Writes them.
pub(super) fn write(xattrs: &Xattrs, out: &mut impl Write) -> io::Result<()> {
    if xattrs.is_empty() {
        return Ok(());
    }
    out.write_all(&[0; HEADER as usize])?;
    for (name, value) in xattrs {
        let (prefix, length, rest) = split(name, value)?;
        let name_length = u8::try_from(rest.len()).map_err(|_| too_long())?;
        out.write_all(&[name_length, prefix])?;
        out.write_all(&length.to_le_bytes())?;
        out.write_all(rest)?;
        out.write_all(value)?;
        let over = (rest.len() + value.len()) % 4;
        out.write_all(&[0; 4][..(4 - over) % 4])?;
    }
    Ok(())
}

/// The number of a name's prefix, the value's length, and the rest of the name.
fn split<'a>(name: &'a [u8], value: &[u8]) -> io::Result<(u8, u16, &'a [u8])> {
    let length = u16::try_from(value.len()).map_err(|_| too_long())?;
    let found = PREFIXES.iter().find_map(|(prefix, number)| Some((*number, name.strip_prefix(*prefix)?)));
    match found {
        Some((number, rest)) if !rest.is_empty() && rest.len() <= 255 => Ok((number, length, rest)),
        _ => {
            let shown = String::from_utf8_lossy(name);
            Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("extended attribute {shown:?} has no place here"),
            ))
        }
    }
}

fn too_long() -> io::Error {
    let reason = "extended attributes of one file are longer than 256 KiB, or one of them than 64 KiB";
    io::Error::new(io::ErrorKind::InvalidInput, reason)
}
