//! Loose: a layer file without a tar, for files whose bytes come in any order: a client's, as it sends them.
//!
//! A place is reserved when a file is announced, and written as its bytes come. Such a layer is mounted like any other; if an export wants its
//! tar, that is made from the tree.
//!
//! # On disk
//! ```text
//! 0      1024         4096
//! | head | superblock | files, each from a block on | index |
//! ```

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Seek, SeekFrom},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::{
    Entry,
    erofs::{BLOCK, Layout, round_up, write_index},
    external::ExternalBytes,
    head::{HEAD, Head, Summing, is_loose, write_head},
    tree::{DataLocation, Tree},
};
use crate::error::{Error, Result};

/// Where the bytes of a file lie in a layer file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// First byte, counted from the begin of the file data.
    pub at: u64,
    /// Bytes.
    pub size: u64,
}

/// Bytes of an earlier layer file that follow each other there and here.
#[derive(Clone, Copy, Debug)]
struct Run {
    from: u64,
    to: u64,
    size: u64,
}

/// Writes a layer file without a tar.
#[derive(Debug)]
pub struct LooseFileWriter {
    path: PathBuf,
    file: File,
    tree: Tree,
    /// Where the next file begins, counted from the begin of the file data.
    end: u64,
    /// An earlier layer file, and what is still to be copied from it.
    earlier: Option<(File, Option<Run>)>,
}

impl LooseFileWriter {
    /// Writes to `path`, which must not be there yet; files may be taken over from the layer file `earlier`.
    pub fn new(path: &Path, earlier: Option<&Path>) -> Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path);
        let file = file.map_err(Error::file("create layer file", path))?;
        let open = |path: &Path| {
            // Collected meanwhile: then the bytes must come again.
            let missing = |_| Error::NotFound { what: "earlier layer", name: path.display().to_string() };
            File::open(path).map(|file| (file, None)).map_err(missing)
        };
        let earlier = earlier.map(open).transpose()?;
        Ok(Self { path: path.to_owned(), file, tree: Tree::new(), end: 0, earlier })
    }

    /// Takes an entry; of a file with bytes, which lie at `at`.
    pub fn entry(&mut self, entry: &Entry, at: Option<Extent>) -> Result<()> {
        self.tree.insert(entry, DataLocation::Expanded(at.map_or(0, |extent| extent.at)))
    }

    /// Reserves a place for so many bytes.
    pub fn reserve(&mut self, size: u64) -> Result<Extent> {
        let at = self.end;
        let end = at.checked_add(size).ok_or_else(|| io::Error::from(io::ErrorKind::FileTooLarge));
        self.end =
            end.and_then(|end| round_up(end, BLOCK)).map_err(Error::file("write layer file", &self.path))?;
        Ok(Extent { at, size })
    }

    /// Writes into a reserved place; the caller stays inside it.
    pub fn write_at(&self, at: u64, data: &[u8]) -> Result<()> {
        self.file.write_all_at(data, HEAD + at).map_err(Error::file("write layer file", &self.path))
    }

    /// Moves bytes to a place further behind.
    pub fn copy_within(&self, from: Extent, to: u64) -> Result<()> {
        copy(&self.file, HEAD + from.at, &self.file, HEAD + to, from.size)
            .map_err(Error::file("write layer file", &self.path))
    }

    /// Takes over a file of the earlier layer file.
    pub fn reuse(&mut self, extent: Extent) -> Result<Extent> {
        let here = self.reserve(extent.size)?;
        let run = Run { from: extent.at, to: here.at, size: extent.size };
        let Some((_, waiting)) = &mut self.earlier else {
            return Err(Error::NotFound { what: "earlier layer", name: self.path.display().to_string() });
        };
        let follows = |last: &Run| {
            let next = last.size.next_multiple_of(BLOCK);
            (run.from, run.to) == (last.from + next, last.to + next)
        };
        match waiting {
            // They follow each other there and here: one copy does for both.
            Some(last) if follows(last) => last.size = run.to - last.to + run.size,
            _ => {
                let before = waiting.replace(run);
                self.copy_run(before)?;
            }
        }
        Ok(here)
    }

    fn copy_run(&self, run: Option<Run>) -> Result<()> {
        let (Some(run), Some((earlier, _))) = (run, &self.earlier) else { return Ok(()) };
        copy(earlier, HEAD + run.from, &self.file, HEAD + run.to, run.size)
            .map_err(Error::file("write layer file", &self.path))
    }

    /// Ends the layer: from now on it can be mounted.
    pub fn finish(&mut self) -> Result<()> {
        let waiting = self.earlier.as_mut().and_then(|(_, waiting)| waiting.take());
        self.copy_run(waiting)?;
        let work = || -> io::Result<()> {
            let index = HEAD + self.end;
            let mut out = BufWriter::with_capacity(1 << 20, &self.file);
            out.seek(SeekFrom::Start(index))?;
            let layout = Layout { tar: HEAD, expanded: HEAD, index, data_file: None };
            let mut summing = Summing::new(out);
            let superblock = write_index(&self.tree, layout, &mut summing)?;
            let (mut out, sum) = summing.end();
            io::Write::flush(&mut out)?;
            write_head(&self.file, Head { index, sum, ..Head::default() }, &superblock)
        };
        work().map_err(Error::file("write layer file", &self.path))
    }
}

/// A layer file without a tar, to be read where its files lie.
#[derive(Debug)]
pub struct LooseFile(File);

impl LooseFile {
    /// Opens it; None if it is no such file.
    pub fn open(path: &Path) -> Result<Option<Self>> {
        let open = || {
            let file = File::open(path)?;
            let loose = file.metadata()?.is_file() && is_loose(&file)?;
            Ok(loose.then_some(Self(file)))
        };
        open().map_err(Error::file("open layer file", path))
    }

    /// The same place, for whoever leaves the bytes there.
    pub fn external(&self, at: u64) -> ExternalBytes<'_> {
        ExternalBytes { file: &self.0, at: HEAD + at }
    }

    /// Reads what lies at `at`, counted from the begin of the file data.
    pub fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(into, HEAD + at)
    }
}

/// Copies inside the kernel.
fn copy(from: &File, mut at: u64, into: &File, mut to: u64, size: u64) -> io::Result<()> {
    let mut left = size;
    while left > 0 {
        let want = usize::try_from(left).unwrap_or(usize::MAX);
        match rustix::fs::copy_file_range(from, Some(&mut at), into, Some(&mut to), want) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => left -= n as u64,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
