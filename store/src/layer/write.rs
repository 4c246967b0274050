//! Write: a layer's entries as a tar, the same bytes for the same entries.
//!
//! PAX headers appear only where the old fields do not suffice; times are whole seconds, names of owners are left out,
//! folders end in a slash. Whiteouts and opaque folders take their names from image-spec.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::{self, Read, Write},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::Path,
};

use buildd_oci::digest::{Digest, Digester};

use super::{Entry, EntryKind, OPAQUE, WHITEOUT, large, read_directory};
use crate::error::{Error, Result};

/// Longest name and link in an old header; longer ones go into PAX records.
const MAX_NAME: usize = 100;
/// Largest number of seven octal digits, the width of owner and group.
const MAX_ID: u32 = 0o7_777_777;

/// How a layer is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExportOptions {
    /// No time in the layer is later than this (SOURCE_DATE_EPOCH), in seconds since 1970.
    pub epoch: Option<i64>,
}

/// Writes the layer in `root` (directory form) and returns its diff_id and size.
pub fn write_tar(root: &Path, out: &mut dyn Write, options: ExportOptions) -> Result<(Digest, u64)> {
    let mut writer = TarWriter::new(out, options);
    read_directory(root, &mut |entry, data| writer.entry(entry, data))?;
    writer.finish()
}

/// Writes entries as a tar and hashes it on the way.
pub struct TarWriter<W> {
    out: W,
    digester: Digester,
    options: ExportOptions,
    /// Whether the bytes of the file at hand lie elsewhere.
    lies: bool,
}

impl<W> std::fmt::Debug for TarWriter<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TarWriter").field("options", &self.options).finish_non_exhaustive()
    }
}

impl<W: Write> TarWriter<W> {
    /// Starts a tar.
    pub fn new(out: W, options: ExportOptions) -> Self {
        Self { out, digester: Digester::default(), options, lies: false }
    }

    /// Writes one entry.
    pub fn entry(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<()> {
        let fail = |source| Error::WriteLayer { entry: entry.path.display().to_string(), source };
        let mut name = entry.path.clone().into_os_string().into_vec();
        match &entry.kind {
            EntryKind::Whiteout => {
                let file = entry.path.file_name().unwrap_or_default().as_bytes();
                let mut hidden = entry.path.parent().unwrap_or(Path::new("")).as_os_str().as_bytes().to_vec();
                if !hidden.is_empty() {
                    hidden.push(b'/');
                }
                hidden.extend_from_slice(WHITEOUT.as_bytes());
                hidden.extend_from_slice(file);
                return self.mark(hidden).map_err(fail);
            }
            EntryKind::Opaque => {
                let folder = entry.path.join(OPAQUE);
                return self.mark(folder.into_os_string().into_vec()).map_err(fail);
            }
            EntryKind::Directory | EntryKind::OpaqueDirectory => name.push(b'/'),
            _ => {}
        }
        let taken =
            entry.path.file_name().is_some_and(|file| file.as_bytes().starts_with(WHITEOUT.as_bytes()));
        if taken {
            return Err(Error::LayerEntry {
                entry: entry.path.display().to_string(),
                reason: "a name beginning with \".wh.\" means a removed file in an image: rename it"
                    .to_owned(),
            });
        }
        self.write_entry(&name, entry, data).map_err(fail)?;
        if entry.kind == EntryKind::OpaqueDirectory {
            name.extend_from_slice(OPAQUE.as_bytes());
            self.mark(name).map_err(fail)?;
        }
        Ok(())
    }

    /// Writes an entry whose bytes lie elsewhere: they and the zeros behind them are hashed, and not written.
    pub(super) fn entry_external(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<()> {
        self.lies = true;
        let written = self.entry(entry, data);
        self.lies = false;
        written
    }

    /// Bytes so far, those that lie elsewhere among them.
    pub(super) fn position(&self) -> u64 {
        self.digester.size()
    }

    /// Writes the end mark; the digest and size of all.
    pub fn finish(self) -> Result<(Digest, u64)> {
        let (diff_id, size, _) = self.end()?;
        Ok((diff_id, size))
    }

    /// The same; also returns what it was written to.
    pub(super) fn end(mut self) -> Result<(Digest, u64, W)> {
        self.put(&[0; 1024]).map_err(|source| Error::WriteLayer { entry: "the end".to_owned(), source })?;
        let size = self.digester.size();
        Ok((self.digester.finish(), size, self.out))
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.digester.update(bytes);
        self.out.write_all(bytes)
    }

    /// The same with bytes of a file, and with what follows them up to a block.
    fn body(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.lies {
            return self.put(bytes);
        }
        self.digester.update(bytes);
        Ok(())
    }

    /// An empty file that stands for a removal.
    fn mark(&mut self, name: Vec<u8>) -> io::Result<()> {
        let mut entry = Entry::directory(OsString::from_vec(name.clone()).into());
        entry.kind = EntryKind::File { size: 0 };
        entry.mode = 0;
        self.write_entry(&name, &entry, &mut io::empty())
    }

    fn write_entry(&mut self, name: &[u8], entry: &Entry, data: &mut dyn Read) -> io::Result<()> {
        let mut pax: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let mut header = tar::Header::new_ustar();
        let link = match &entry.kind {
            EntryKind::Symlink(target) | EntryKind::Hardlink(target) => Some(target.as_os_str().as_bytes()),
            _ => None,
        };
        let (kind, size) = match &entry.kind {
            EntryKind::Directory | EntryKind::OpaqueDirectory => (tar::EntryType::Directory, 0),
            EntryKind::File { size } => (tar::EntryType::Regular, *size),
            EntryKind::Symlink(_) => (tar::EntryType::Symlink, 0),
            EntryKind::Hardlink(_) => (tar::EntryType::Link, 0),
            EntryKind::Char(..) => (tar::EntryType::Char, 0),
            EntryKind::Block(..) => (tar::EntryType::Block, 0),
            EntryKind::Fifo => (tar::EntryType::Fifo, 0),
            EntryKind::Whiteout | EntryKind::Opaque => return Err(io::ErrorKind::InvalidInput.into()),
        };
        header.set_entry_type(kind);
        header.set_mode(entry.mode);
        header.set_size(size);
        if let EntryKind::Char(major, minor) | EntryKind::Block(major, minor) = entry.kind {
            header.set_device_major(major)?;
            header.set_device_minor(minor)?;
        }
        let mtime = self.options.epoch.map_or(entry.mtime.seconds, |epoch| entry.mtime.seconds.min(epoch));
        match u64::try_from(mtime) {
            Ok(seconds) => header.set_mtime(seconds),
            Err(_) => {
                header.set_mtime(0);
                pax.insert(b"mtime".to_vec(), mtime.to_string().into_bytes());
            }
        }
        for (key, id) in [("uid", entry.uid), ("gid", entry.gid)] {
            let small = u64::from(if id > MAX_ID { 0 } else { id });
            if key == "uid" {
                header.set_uid(small)
            } else {
                header.set_gid(small)
            }
            if id > MAX_ID {
                pax.insert(key.as_bytes().to_vec(), id.to_string().into_bytes());
            }
        }
        let fields = header.as_old_mut();
        fill(&mut fields.name, b"path", name, &mut pax);
        if let Some(link) = link {
            fill(&mut fields.linkname, b"linkpath", link, &mut pax);
        }
        for (key, value) in &entry.xattrs {
            pax.insert([b"SCHILY.xattr.", key.as_bytes()].concat(), value.clone());
        }
        if !pax.is_empty() {
            self.records(&pax)?;
        }
        header.set_cksum();
        self.put(header.as_bytes())?;
        self.data(size, data)
    }

    fn data(&mut self, size: u64, data: &mut dyn Read) -> io::Result<()> {
        if size >= large::LARGE {
            let digester = std::mem::take(&mut self.digester);
            let (digester, copied) = match self.lies {
                true => large::copy(data, size, &mut io::sink(), digester),
                false => large::copy(data, size, &mut self.out, digester),
            };
            self.digester = digester;
            copied?;
            return self.body(padding(size));
        }
        let mut left = size;
        let mut buffer = vec![0; usize::try_from(size).unwrap_or(usize::MAX).min(128 << 10)];
        while left > 0 {
            let want = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let count = read_some(data, &mut buffer[..want])?;
            self.body(&buffer[..count])?;
            left -= count as u64;
        }
        self.body(padding(size))
    }

    fn records(&mut self, pax: &BTreeMap<Vec<u8>, Vec<u8>>) -> io::Result<()> {
        let mut body = Vec::new();
        for (key, value) in pax {
            // The length counts itself: "LEN KEY=VALUE\n".
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            body.extend_from_slice(format!("{length} ").as_bytes());
            body.extend_from_slice(key);
            body.push(b'=');
            body.extend_from_slice(value);
            body.push(b'\n');
        }
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::XHeader);
        header.set_path("PaxHeaders.0/x")?;
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(body.len() as u64);
        header.set_cksum();
        self.put(header.as_bytes())?;
        self.put(&body)?;
        self.put(padding(body.len() as u64))
    }
}

/// The zeros that follow so many bytes up to a block.
fn padding(size: u64) -> &'static [u8] {
    let over = usize::try_from(size % 512).expect("below 512");
    if over > 0 { &[0; 512][over..] } else { &[] }
}

/// Reads at least one byte.
fn read_some(data: &mut dyn Read, into: &mut [u8]) -> io::Result<usize> {
    loop {
        match data.read(into) {
            Ok(0) => return Err(shorter()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// A file has fewer bytes than its entry says.
pub(super) fn shorter() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter")
}

/// Puts text into a fixed field, or the whole of it into a PAX record if it does not fit or is not ASCII.
fn fill(field: &mut [u8; MAX_NAME], key: &[u8], text: &[u8], pax: &mut BTreeMap<Vec<u8>, Vec<u8>>) {
    let fits = text.len().min(MAX_NAME);
    field[..fits].copy_from_slice(&text[..fits]);
    if text.len() > MAX_NAME || !text.is_ascii() {
        pax.insert(key.to_vec(), text.to_vec());
    }
}
