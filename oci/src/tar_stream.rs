//! Tar stream: the entries of a tar that somebody else wrote, one after the other, in bounded memory.
//!
//! Image archives and layers are read through this. The `tar` crate decodes single headers; what stands before an entry (long names, PAX
//! records, the map of a sparse file) is read here, because the crate takes headers of any size into memory.
//!
//! # Invariants
//! What describes one entry has at most `MAX_DESCRIPTION` bytes, a sparse file at most `MAX_PIECES` pieces and `MAX_SPARSE` bytes; more is an
//! error before anything is allocated for it. PAX records describe the next entry, never the headers between, or readers would disagree on
//! where that entry begins. Links, folders and devices have no data, whatever their size field says.
//!
//! # Errors
//! `InvalidData` says what is wrong with a header; `UnexpectedEof`, that the stream ends inside an entry.
//!
//! # Sources
//! POSIX pax; GNU tar manual, "Basic Tar Format"; Go `archive/tar`, which the other tools around images read with.

use std::{
    collections::VecDeque,
    io::{self, BufRead, Read},
    ops::Range,
};

use tar::{EntryType, GnuExtSparseHeader, GnuSparseHeader, Header};

const BLOCK: u64 = 512;
/// Where the numbers of a header lie: mode, owner, group, size, time, device.
const NUMBERS: [Range<usize>; 7] = [100..108, 108..116, 116..124, 124..136, 136..148, 329..337, 337..345];
/// Most bytes of all headers before one entry: they are held in memory. Real ones have a few KiB, with extended attributes up to some 64.
pub const MAX_DESCRIPTION: u64 = 1 << 20;
/// Most pieces of a sparse file: its map is held in memory.
const MAX_PIECES: usize = 1 << 16;
/// Largest sparse file: its holes cost the archive nothing, but whoever unpacks it may have to write them.
const MAX_SPARSE: u64 = 64 << 30;

/// What a header says, with all that stood before it.
#[derive(Debug)]
pub struct TarEntry {
    header: Header,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    records: Records,
    size: u64,
}

impl TarEntry {
    /// The header itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What it is.
    pub fn kind(&self) -> EntryType {
        self.header.entry_type()
    }

    /// Its name, as written.
    pub fn path(&self) -> Vec<u8> {
        let long = self.long_name.as_deref().or_else(|| self.records.last(b"path"));
        long.map_or_else(|| self.header.path_bytes().into_owned(), <[u8]>::to_vec)
    }

    /// What a link names, as written.
    pub fn link(&self) -> Option<Vec<u8>> {
        let long = self.long_link.as_deref().or_else(|| self.records.last(b"linkpath"));
        long.map(<[u8]>::to_vec).or_else(|| self.header.link_name_bytes().map(std::borrow::Cow::into_owned))
    }

    /// Bytes of its content; of a sparse file, holes included.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Its owner.
    pub fn uid(&self) -> io::Result<u64> {
        self.records.number("uid")?.map_or_else(|| self.header.uid(), Ok)
    }

    /// Its group.
    pub fn gid(&self) -> io::Result<u64> {
        self.records.number("gid")?.map_or_else(|| self.header.gid(), Ok)
    }

    /// Its PAX records.
    pub fn records(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.records.iter()
    }
}

/// PAX records as they were written; `parse` has looked at every one.
#[derive(Debug, Default)]
struct Records(Vec<u8>);

impl Records {
    fn parse(bytes: Vec<u8>) -> io::Result<Self> {
        let mut rest = bytes.as_slice();
        // Compat: some writers fill the last block with NULs.
        while rest.first().is_some_and(|byte| *byte != 0) {
            (_, rest) = split_record(rest).ok_or_else(|| invalid("a PAX record is malformed"))?;
        }
        Ok(Self(bytes))
    }

    fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = self.0.as_slice();
        std::iter::from_fn(move || {
            let (record, after) = split_record(rest)?;
            rest = after;
            Some(record)
        })
    }

    /// Compat: the last of several counts, and an empty one says nothing.
    fn last(&self, key: &[u8]) -> Option<&[u8]> {
        let found = self.iter().filter(|(name, _)| *name == key).last()?.1;
        (!found.is_empty()).then_some(found)
    }

    fn number(&self, key: &str) -> io::Result<Option<u64>> {
        let Some(value) = self.last(key.as_bytes()) else { return Ok(None) };
        let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        number.map(Some).ok_or_else(|| invalid(&format!("PAX record {key:?} is not a number")))
    }
}

type Record<'a> = (&'a [u8], &'a [u8]);

/// `<length> <key>=<value>\n`, where the length counts all of it.
fn split_record(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let space = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
    let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some(((&record[..equals], &record[equals + 1..]), &bytes[length..]))
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// Zeros, then bytes of the archive.
#[derive(Debug)]
struct Segment {
    hole: u64,
    data: u64,
}

/// Reads entries; between two calls of `next`, reads the content of the entry.
#[derive(Debug)]
pub struct TarStream<R> {
    inner: Counted<R>,
    /// What is to be read of the entry.
    pieces: VecDeque<Segment>,
    /// Bytes of the archive up to the next header.
    left: u64,
}

impl<R: BufRead> TarStream<R> {
    /// The entries of an uncompressed tar.
    pub fn new(inner: R) -> Self {
        Self { inner: Counted { inner, at: 0 }, pieces: VecDeque::new(), left: 0 }
    }

    /// Bytes of the archive that were read: where the content of an entry begins, as long as none of it was.
    pub fn position(&self) -> u64 {
        self.inner.at
    }

    /// The next entry; None at the end mark, or where the stream ends without one.
    pub fn next_entry(&mut self) -> io::Result<Option<TarEntry>> {
        let (mut long_name, mut long_link, mut records) = (None, None, None);
        let mut described = 0;
        loop {
            let Some(header) = self.header()? else {
                return match described {
                    0 => Ok(None),
                    _ => Err(invalid("the archive ends after a header that describes the next entry")),
                };
            };
            let kind = header.entry_type();
            let (place, what): (&mut Option<Vec<u8>>, _) = match kind {
                EntryType::GNULongName => (&mut long_name, "long names"),
                EntryType::GNULongLink => (&mut long_link, "long link names"),
                EntryType::XHeader => (&mut records, "sets of PAX records"),
                // Compat: what a global header says is not applied, as in Go.
                EntryType::XGlobalHeader => {
                    described += self.description(&header, described)?;
                    continue;
                }
                _ => {
                    let records = Records::parse(records.unwrap_or_default())?;
                    let mut entry = TarEntry { header, long_name, long_link, records, size: 0 };
                    self.begin(&mut entry)?;
                    return Ok(Some(entry));
                }
            };
            let size = self.description(&header, described)?;
            described += size;
            let mut bytes = Vec::new();
            self.read_to_end(&mut bytes)?;
            if bytes.len() as u64 != header.entry_size()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if kind != EntryType::XHeader {
                let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
                bytes.truncate(end);
            }
            if place.replace(bytes).is_some() {
                return Err(invalid(&format!("two {what} describe one entry")));
            }
        }
    }

    /// Makes the body of a header that describes the next entry readable; what it adds to what was read before.
    fn description(&mut self, header: &Header, before: u64) -> io::Result<u64> {
        let size = header.entry_size()?;
        if before.saturating_add(size).saturating_add(BLOCK) > MAX_DESCRIPTION {
            return Err(invalid(&format!("the headers of one entry have more than {MAX_DESCRIPTION} bytes")));
        }
        self.left = size.next_multiple_of(BLOCK);
        self.pieces = VecDeque::from([Segment { hole: 0, data: size }]);
        Ok(size + BLOCK)
    }

    /// Passes over what is left of the entry, then reads a header block.
    fn header(&mut self) -> io::Result<Option<Header>> {
        self.pieces.clear();
        while self.left > 0 {
            let passed = self.inner.pass(self.left)?;
            if passed == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends inside an entry"));
            }
            self.left -= passed;
        }
        let mut header = Header::new_old();
        let mut filled = 0;
        while filled < header.as_bytes().len() {
            match self.inner.read(&mut header.as_mut_bytes()[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if header.as_bytes().iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let (before, after) = (&header.as_bytes()[..148], &header.as_bytes()[156..]);
        // The checksum's own eight bytes count as spaces.
        let sum = before.iter().chain(after).map(|byte| u32::from(*byte)).sum::<u32>() + 8 * u32::from(b' ');
        if sum != header.cksum()? {
            return Err(invalid("a header's checksum is wrong"));
        }
        for field in NUMBERS {
            // Compat: a number that is left blank is 0, as for Go and GNU tar.
            let field = &mut header.as_mut_bytes()[field];
            if field.iter().all(|byte| matches!(byte, 0 | b' ')) {
                field[0] = b'0';
            }
        }
        Ok(Some(header))
    }

    /// Makes the content of an entry readable.
    fn begin(&mut self, entry: &mut TarEntry) -> io::Result<()> {
        let kind = entry.kind();
        let bare = kind.is_dir()
            || kind.is_symlink()
            || kind.is_hard_link()
            || kind.is_character_special()
            || kind.is_block_special()
            || kind.is_fifo();
        if bare {
            return Ok(());
        }
        if entry.records().any(|(key, _)| key.starts_with(b"GNU.sparse.")) {
            return Err(invalid("a sparse file in PAX form: write the archive with --format=gnu"));
        }
        let size = entry.records.number("size")?.map_or_else(|| entry.header.entry_size(), Ok)?;
        self.left =
            size.checked_next_multiple_of(BLOCK).ok_or_else(|| invalid("an entry's size overflows"))?;
        entry.size = size;
        match kind.is_gnu_sparse() {
            true => entry.size = self.map(&entry.header, size)?,
            false => self.pieces = VecDeque::from([Segment { hole: 0, data: size }]),
        }
        Ok(())
    }

    /// Reads the map of a sparse file with `stored` bytes in the archive; its size with holes.
    fn map(&mut self, header: &Header, stored: u64) -> io::Result<u64> {
        let gnu = header.as_gnu().ok_or_else(|| invalid("a sparse file without a GNU header"))?;
        let (mut end, mut data) = (0, 0);
        let mut add = |piece: &GnuSparseHeader| -> io::Result<()> {
            if piece.is_empty() {
                return Ok(());
            }
            let (offset, length) = (piece.offset()?, piece.length()?);
            let hole = offset.checked_sub(end).ok_or_else(|| invalid("a sparse file's pieces overlap"))?;
            end = offset
                .checked_add(length)
                .filter(|end| *end <= MAX_SPARSE)
                .ok_or_else(|| invalid(&format!("a sparse file has more than {MAX_SPARSE} bytes")))?;
            data += length;
            if self.pieces.len() >= MAX_PIECES {
                return Err(invalid(&format!("a sparse file has more than {MAX_PIECES} pieces")));
            }
            self.pieces.push_back(Segment { hole, data: length });
            Ok(())
        };
        gnu.sparse.iter().try_for_each(&mut add)?;
        let mut more = gnu.is_extended();
        // A block without pieces that announces another one would cost nothing but time.
        for _ in 0..MAX_PIECES {
            if !more {
                break;
            }
            let mut block = GnuExtSparseHeader::new();
            self.inner.read_exact(block.as_mut_bytes())?;
            block.sparse.iter().try_for_each(&mut add)?;
            more = block.is_extended();
        }
        if more || data != stored || end != gnu.real_size()? {
            return Err(invalid("a sparse file's map does not fit its size"));
        }
        Ok(end)
    }
}

/// Knows how far it is.
#[derive(Debug)]
struct Counted<R> {
    inner: R,
    at: u64,
}

impl<R: BufRead> Counted<R> {
    /// Passes over some of the next `most` bytes, which stay where they are; none is the end.
    fn pass(&mut self, most: u64) -> io::Result<u64> {
        let here = loop {
            match self.inner.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?.len(),
            }
        };
        let passed = usize::try_from(most).map_or(here, |most| most.min(here));
        self.inner.consume(passed);
        self.at += passed as u64;
        Ok(passed as u64)
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.at += n as u64;
        Ok(n)
    }
}

impl<R: Read> Read for TarStream<R> {
    /// Content of the entry; ends early where the stream does.
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.pieces.front().is_some_and(|piece| (piece.hole, piece.data) == (0, 0)) {
            self.pieces.pop_front();
        }
        let Some(piece) = self.pieces.front_mut() else { return Ok(0) };
        let wanted = if piece.hole > 0 { piece.hole } else { piece.data };
        let length = usize::try_from(wanted).map_or(buf.len(), |wanted| wanted.min(buf.len()));
        if piece.hole > 0 {
            buf[..length].fill(0);
            piece.hole -= length as u64;
            return Ok(length);
        }
        let n = self.inner.read(&mut buf[..length])?;
        piece.data -= n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests;
