//! Layer file: a committed layer as one file, its tar with an EROFS index around it, mounted as it lies.
//!
//! `adopt_tar` takes a stream that came as a layer, byte for byte; `LayerFileWriter` makes the tar from entries. Both end with the index.
//! What the head says is in `head`.
//!
//! # On disk
//! ```text
//! 0       1024         4096   4096 + n
//! | head  | superblock | tar  | zeros to a block | expanded sparse files | index |
//! ```
//! Of the tar there is only what is not external data (`external`).
//!
//! # Invariants
//! The index is written by us alone, from entries that were checked: metadata from outside is never mounted.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufWriter, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    thread,
};

use buildd_fs::sys::start_writeback;
use buildd_oci::{digest::Digest, shown::Shown};

use super::{
    Applied, Entry, EntryKind, ExportOptions, LayerWriter, TarWriter,
    erofs::{BLOCK, Layout, round_up, write_index},
    external::{ExternalBytes, ExternalData, ExternalExtent},
    head::{HEAD, Head, Summing, write_head},
    parse::{broken, each_change},
    tree::{DataLocation, Tree},
};
use crate::{
    error::{Error, Result},
    write_behind::WriteBehind,
};

/// Bytes that the sparse files of one layer may have once expanded: a header can claim an exabyte.
const MAX_EXPANDED: u64 = 64 << 30;
/// Bytes that are written at once.
const BUFFER: usize = 256 << 10;

/// Writes the layer whose tar is `stream` to `path`, which must not be there yet.
pub fn adopt_tar(stream: impl BufRead, path: &Path) -> Result<Applied> {
    let mut parts = LayerBuilder::new(path)?;
    let mut out = begin(path)?;
    // What comes in large pieces is written as it lies, past the buffer.
    let copied = Shown::new(stream, |bytes: &[u8]| out.write_all(bytes));
    let applied = each_change(copied, &mut |change, body| match body.offset {
        Some(offset) => parts.tree.insert(change, DataLocation::Tar(offset)),
        None => parts.expand(change, body.data),
    })?;
    parts.end(out, applied.size)?;
    Ok(applied)
}

/// Makes the file and leaves room for its head.
fn begin(path: &Path) -> Result<BufWriter<WriteBehind>> {
    let fail = Error::file("create layer file", path);
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path);
    let begin = file.and_then(|mut file| {
        file.seek(SeekFrom::Start(HEAD))?;
        Ok(BufWriter::with_capacity(BUFFER, WriteBehind::new(file)))
    });
    begin.map_err(fail)
}

/// What is gathered while a tar goes by.
#[derive(Debug)]
struct LayerBuilder {
    path: PathBuf,
    tree: Tree,
    /// Sparse files with their holes, until the tar has ended.
    expanded: Option<File>,
    /// Where the next one begins.
    end: u64,
    /// What lies in another file.
    external: Option<ExternalData>,
}

impl LayerBuilder {
    fn new(path: &Path) -> Result<Self> {
        Ok(Self { path: path.to_owned(), tree: Tree::new(), expanded: None, end: 0, external: None })
    }

    /// Takes a sparse file.
    fn expand(&mut self, change: &Entry, data: &mut dyn Read) -> Result<()> {
        let EntryKind::File { size } = change.kind else {
            return self.tree.insert(change, DataLocation::Expanded(0));
        };
        let shown = || change.path.display().to_string();
        let end = self.end.checked_add(size).filter(|end| *end <= MAX_EXPANDED);
        let end =
            end.ok_or_else(|| broken(shown(), format!("sparse files of more than {MAX_EXPANDED} bytes")))?;
        let fail = |source| Error::Apply { entry: shown(), source };
        let mut file = match self.expanded.take() {
            Some(file) => file,
            None => tempfile::tempfile_in(self.path.parent().unwrap_or(Path::new("."))).map_err(fail)?,
        };
        file.seek(SeekFrom::Start(self.end)).map_err(fail)?;
        let copied = copy_sparse(&mut data.take(size), &mut file).map_err(fail)?;
        if copied != size {
            return Err(broken(shown(), format!("it has {copied} of {size} bytes")));
        }
        self.expanded = Some(file);
        self.tree.insert(change, DataLocation::Expanded(self.end))?;
        self.end = round_up(end, BLOCK).map_err(fail)?;
        Ok(())
    }

    /// Bytes of the tar so far that are not written, for they are external.
    fn missing(&self) -> u64 {
        self.external.as_ref().map_or(0, ExternalData::missing)
    }

    /// Writes what follows the tar, then the head.
    fn end(self, mut out: BufWriter<WriteBehind>, tar_size: u64) -> Result<()> {
        let fail = Error::file("write layer file", &self.path);
        let written = HEAD + tar_size - self.missing();
        let work = || -> io::Result<()> {
            let expanded = round_up(written, BLOCK)?;
            let gap = usize::try_from(expanded - written).expect("less than a block");
            out.write_all(&[0; 512][..gap])?;
            if let Some(mut file) = self.expanded {
                out.flush()?;
                file.seek(SeekFrom::Start(0))?;
                copy_sparse(&mut file, out.get_mut().file_mut())?;
            }
            let index = expanded + self.end;
            out.seek(SeekFrom::Start(index))?;
            let data_file = self.external.as_ref().map(ExternalData::size).transpose()?;
            let layout = Layout { tar: HEAD, expanded, index, data_file };
            let mut summing = Summing::new(out);
            let superblock = write_index(&self.tree, layout, &mut summing)?;
            let mut extents = None;
            if let Some(external) = &self.external {
                extents = Some(summing.size() + index);
                external.write(&mut summing)?;
                external.keep(&self.path)?;
            }
            let (mut out, sum) = summing.end();
            out.flush()?;
            let head = Head { tar: Some(tar_size), index, sum, extents };
            write_head(out.get_ref().file(), head, &superblock)?;
            out.get_mut().start();
            Ok(())
        };
        work().map_err(fail)
    }
}

/// Copies and leaves holes where there are zeros; `out` is a file that ends where writing begins.
fn copy_sparse(from: &mut dyn Read, out: &mut File) -> io::Result<u64> {
    let mut buffer = vec![0; 64 << 10];
    let mut total = 0;
    loop {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                total += n as u64;
                match buffer[..n].iter().all(|byte| *byte == 0) {
                    true => drop(out.seek(SeekFrom::Current(n as i64))?),
                    false => out.write_all(&buffer[..n])?,
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let end = out.stream_position()?;
    if out.metadata()?.len() < end {
        out.set_len(end)?;
    }
    Ok(total)
}

/// Makes a layer file from entries.
#[derive(Debug)]
pub struct LayerFileWriter {
    parts: Option<LayerBuilder>,
    tar: Option<TarWriter<BufWriter<WriteBehind>>>,
    path: PathBuf,
    diff_id: Option<Digest>,
}

impl LayerFileWriter {
    /// Writes to `path`, which must not be there yet.
    pub fn new(path: &Path) -> Result<Self> {
        let tar = TarWriter::new(begin(path)?, ExportOptions::default());
        Ok(Self {
            parts: Some(LayerBuilder::new(path)?),
            tar: Some(tar),
            path: path.to_owned(),
            diff_id: None,
        })
    }

    /// Whether a folder is at `path`, whose links are resolved; None if nothing was written there.
    pub fn is_folder(&self, path: &Path) -> Option<bool> {
        self.parts.as_ref()?.tree.is_folder(path)
    }

    /// The digest of its tar, once it is finished.
    pub fn diff_id(&self) -> Option<Digest> {
        self.diff_id
    }

    /// Takes an entry; with `lies`, its bytes stay where they are.
    fn take(&mut self, entry: &Entry, data: &mut dyn Read, lies: Option<ExternalBytes<'_>>) -> Result<()> {
        let (Some(parts), Some(tar)) = (&mut self.parts, &mut self.tar) else {
            return Err(broken(entry.path.display().to_string(), "its layer has ended"));
        };
        match lies {
            Some(_) => tar.entry_external(entry, data)?,
            None => tar.entry(entry, data)?,
        }
        let EntryKind::File { size } = entry.kind else {
            return parts.tree.insert(entry, DataLocation::Tar(0));
        };
        let fail = |source| Error::file("write layer file", &self.path)(source);
        let padded = round_up(size, BLOCK).map_err(fail)?;
        let at = tar.position() - padded;
        let place = match (lies, &mut parts.external) {
            (Some(lies), Some(external)) => {
                external.push(ExternalExtent { at, size, from: lies.at }).map_err(fail)?;
                DataLocation::ExternalData(lies.at)
            }
            _ => DataLocation::Tar(at - parts.missing()),
        };
        parts.tree.insert(entry, place)
    }

    /// Whether bytes may stay in `file`: a layer has one data file at most.
    fn borrows(&mut self, file: &File) -> io::Result<bool> {
        let Some(parts) = &mut self.parts else { return Ok(false) };
        match &parts.external {
            Some(external) => Ok(external.has_room() && external.is_from(file)?),
            None => {
                parts.external = Some(ExternalData::new(file)?);
                // It is to be durable with the layer. Nobody waits for a queue of the disk that is full.
                let file = file.try_clone()?;
                thread::Builder::new().name("writeback".to_owned()).spawn(move || start_writeback(&file))?;
                Ok(true)
            }
        }
    }
}

impl LayerWriter for LayerFileWriter {
    fn entry(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<()> {
        self.take(entry, data, None)
    }

    fn entry_external(&mut self, entry: &Entry, data: &mut dyn Read, lies: ExternalBytes<'_>) -> Result<()> {
        let some = matches!(entry.kind, EntryKind::File { size: 1.. });
        let stays = some && self.borrows(lies.file).map_err(Error::file("write layer file", &self.path))?;
        self.take(entry, data, stays.then_some(lies))
    }

    fn finish(&mut self) -> Result<()> {
        match (self.parts.take(), self.tar.take()) {
            (Some(parts), Some(tar)) => {
                let (diff_id, size, out) = tar.end()?;
                parts.end(out, size)?;
                self.diff_id = Some(diff_id);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
