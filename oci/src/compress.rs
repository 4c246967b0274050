//! Compression of layers and archives: found by the first bytes, undone while reading, done reproducibly.
//!
//! gzip streams carry no name and no time, so equal input and level give equal bytes.

mod blocks;
mod growth;

use std::{
    io,
    io::{BufRead, BufReader, Read, Write},
    str::FromStr,
};

pub use self::growth::{Growth, Outgrown};
use self::{
    blocks::Blocks,
    growth::{Bounded, counted},
};

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    Uncompressed,
    /// gzip (and estargz, which is gzip).
    Gzip,
    /// zstd.
    Zstd,
}

impl Compression {
    /// The name in exporter attributes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Uncompressed => "uncompressed",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// The levels that the format has.
    pub fn levels(self) -> std::ops::RangeInclusive<i32> {
        match self {
            Self::Uncompressed => 0..=0,
            Self::Gzip => 0..=9,
            Self::Zstd => 0..=22,
        }
    }

    /// The level used when nobody asks for one. Of gzip the first: pieces at it are smaller than a stream of zlib's second, and many times
    /// faster than its sixth, which saves another 1.5 % (program text and noise, 4:1).
    pub fn default_level(self) -> i32 {
        match self {
            Self::Uncompressed => 0,
            Self::Gzip => 1,
            Self::Zstd => 3,
        }
    }

    /// The compression of a stream that begins with `head` (at least 4 bytes, if it has them).
    pub fn detect(head: &[u8]) -> Self {
        if head.starts_with(&[0x1f, 0x8b]) {
            Self::Gzip
        } else if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            Self::Zstd
        } else {
            Self::Uncompressed
        }
    }
}

impl FromStr for Compression {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Uncompressed, Self::Gzip, Self::Zstd].into_iter().find(|c| c.as_str() == text).ok_or(())
    }
}

/// Memory that undoing xz may take: its format allows dictionaries of gigabytes.
const XZ_MEMORY: u64 = 256 << 20;

/// The uncompressed bytes of a stream, whatever it is compressed with; archives of ADD and of contexts may be bzip2 and xz too.
///
/// A stream that outgrows what it may become ends in an error that `Outgrown::is` knows.
pub fn reader<'a>(inner: impl Read + Send + 'a, growth: Growth) -> io::Result<Box<dyn Read + Send + 'a>> {
    buffered_reader(BufReader::with_capacity(256 << 10, inner), growth)
}

/// The same of a stream that lies in memory in pieces, which are not copied.
pub fn buffered_reader<'a>(
    inner: impl BufRead + Send + 'a,
    growth: Growth,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    let (mut buffered, packed) = counted(inner);
    let head = fill(&mut buffered)?;
    let inner: Box<dyn Read + Send + 'a> = match Compression::detect(&head) {
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(buffered)),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(buffered)?),
        Compression::Uncompressed if head.starts_with(b"BZh") => {
            Box::new(bzip2::bufread::MultiBzDecoder::new(buffered))
        }
        Compression::Uncompressed if head.starts_with(b"\xfd7zX") => {
            let decoder = liblzma::stream::Stream::new_auto_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED)
                .map_err(io::Error::other)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(buffered, decoder))
        }
        Compression::Uncompressed => return Ok(Box::new(buffered)),
    };
    Ok(Box::new(Bounded { inner, packed, growth, unpacked: 0 }))
}

/// The first bytes, without taking them; a pipe may give them one by one, so an empty buffer is the only end.
fn fill(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    loop {
        match reader.fill_buf() {
            Ok(bytes) => return Ok(bytes[..bytes.len().min(4)].to_vec()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A compressing writer; `finish` writes the end of the stream.
pub enum Writer<W: Write> {
    /// Bytes as they come.
    Uncompressed(W),
    /// gzip.
    Gzip(Blocks<W>),
    /// zstd.
    Zstd(Box<zstd::stream::write::Encoder<'static, W>>),
}

impl<W: Write> std::fmt::Debug for Writer<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl<W: Write> Writer<W> {
    /// Starts a stream; the level must be one of `Compression::levels`.
    pub fn new(inner: W, compression: Compression, level: Option<i32>) -> io::Result<Self> {
        let level = level.unwrap_or(compression.default_level());
        if !compression.levels().contains(&level) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("compression level {level}")));
        }
        Ok(match compression {
            Compression::Uncompressed => Self::Uncompressed(inner),
            Compression::Gzip => {
                let threads = std::thread::available_parallelism().map_or(1, usize::from);
                Self::Gzip(Blocks::new(inner, level, threads)?)
            }
            Compression::Zstd => Self::Zstd(Box::new(zstd::stream::write::Encoder::new(inner, level)?)),
        })
    }

    /// Ends the stream and gives the inner writer back.
    pub fn finish(self) -> io::Result<W> {
        match self {
            Self::Uncompressed(inner) => Ok(inner),
            Self::Gzip(blocks) => blocks.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Writer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Uncompressed(inner) => inner.write(bytes),
            Self::Gzip(blocks) => blocks.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Uncompressed(inner) => inner.flush(),
            Self::Gzip(blocks) => blocks.flush(),
            Self::Zstd(encoder) => encoder.flush(),
        }
    }
}

#[cfg(test)]
mod tests;
