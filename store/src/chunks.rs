//! Pieces: a stream that goes from thread to thread, so that hashing, decompressing and writing are done at once.
//!
//! ```text
//! network or archive -> hash, store the blob -> pieces -> decompress -> pieces -> hash as diff_id, write the layer
//! ```
//!
//! Queues are short: the slowest thread sets the pace, and memory stays small.

use std::{
    collections::VecDeque,
    io::{self, BufRead, BufReader, Read, Write},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use buildd_oci::compress::{self, Growth};
use bytes::{Buf as _, Bytes, BytesMut};

use crate::error::{Error, Result};

/// Pieces between two threads.
pub const QUEUE: usize = 8;
/// Bytes of a piece that we cut ourselves.
pub(crate) const PIECE: usize = 256 << 10;

/// A piece, or why there is none.
pub type Piece = io::Result<Bytes>;

/// A queue between two threads; who sends learns by an error that nobody reads any more.
pub fn queue() -> (SyncSender<Piece>, Pieces) {
    let (sender, queue) = sync_channel(QUEUE);
    (sender, Pieces { queue, piece: Bytes::new() })
}

/// Reads in pieces what comes from a file.
pub fn of<R: Read>(file: R) -> BufReader<R> {
    BufReader::with_capacity(PIECE, file)
}

/// Reads what another thread sends; its end is the end.
#[derive(Debug)]
pub struct Pieces {
    queue: Receiver<Piece>,
    piece: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Pieces {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.piece.is_empty() {
            match self.queue.recv() {
                Ok(piece) => self.piece = piece?,
                Err(_) => break,
            }
        }
        Ok(&self.piece)
    }

    fn consume(&mut self, count: usize) {
        self.piece.advance(count);
        if self.piece.is_empty() {
            // Whoever sent it may fill it again.
            self.piece = Bytes::new();
        }
    }
}

impl Iterator for Pieces {
    type Item = Piece;

    /// The next piece as it was sent, or what is left of one that was begun to read.
    fn next(&mut self) -> Option<Piece> {
        match std::mem::take(&mut self.piece) {
            piece if piece.is_empty() => self.queue.recv().ok(),
            piece => Some(Ok(piece)),
        }
    }
}

/// The sending end of a queue of pieces; sending blocks while it is full.
pub trait PieceQueue {
    /// Sends one; an error: nobody reads any more.
    fn send(&self, piece: Piece) -> io::Result<()>;
}

impl PieceQueue for SyncSender<Piece> {
    fn send(&self, piece: Piece) -> io::Result<()> {
        SyncSender::send(self, piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// For a reader that is async.
impl PieceQueue for tokio::sync::mpsc::Sender<Piece> {
    fn send(&self, piece: Piece) -> io::Result<()> {
        self.blocking_send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// Writes what the reader of a queue gets.
#[derive(Debug)]
pub struct Sending<Q: PieceQueue = SyncSender<Piece>> {
    queue: Q,
    piece: BytesMut,
    filled: usize,
    sent: VecDeque<Bytes>,
}

/// Lets `write` write what the reader of `queue` gets, who learns if it fails. None if the reader went away before: it knows why.
pub fn written<T, E: From<Error>, Q: PieceQueue>(
    queue: Q,
    write: impl FnOnce(&mut Sending<Q>) -> Result<T, E>,
) -> Result<Option<T>, E> {
    let mut sending = Sending { queue, piece: BytesMut::new(), filled: 0, sent: VecDeque::new() };
    let done = write(&mut sending).and_then(|done| {
        let flushed = sending.flush().map(|()| done);
        flushed.map_err(|source| Error::WriteLayer { entry: "the end".to_owned(), source }.into())
    });
    match done {
        Ok(done) => Ok(Some(done)),
        Err(error) => match sending.queue.send(Err(io::ErrorKind::BrokenPipe.into())) {
            Ok(()) => Err(error),
            Err(_) => Ok(None),
        },
    }
}

impl<Q: PieceQueue> Drop for Sending<Q> {
    /// A writer that panics has not written all: a reader takes a queue that just ends for whole.
    fn drop(&mut self) {
        if thread::panicking() {
            let _ = self.queue.send(Err(io::Error::other("whoever wrote it panicked")));
        }
    }
}

impl<Q: PieceQueue> Write for Sending<Q> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.filled == self.piece.len() {
            self.flush()?;
            self.piece = empty(&mut self.sent);
        }
        let count = bytes.len().min(self.piece.len() - self.filled);
        self.piece[self.filled..][..count].copy_from_slice(&bytes[..count]);
        self.filled += count;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.filled == 0 {
            return Ok(());
        }
        let mut piece = std::mem::take(&mut self.piece);
        piece.truncate(std::mem::take(&mut self.filled));
        let piece = piece.freeze();
        self.sent.push_back(piece.clone());
        self.queue.send(Ok(piece))
    }
}

/// Lets `work` read what `blob` is when it is not compressed, while a thread decompresses ahead of it.
pub(crate) fn decompressed<T>(
    blob: impl BufRead + Send,
    growth: Growth,
    work: impl FnOnce(&mut dyn BufRead) -> Result<T>,
) -> Result<T> {
    let mut data = compress::buffered_reader(blob, growth).map_err(|source| Error::ReadLayer { source })?;
    let (ahead, mut pieces) = queue();
    thread::scope(|scope| {
        scope.spawn(move || run_ahead(&mut data, &ahead));
        let done = work(&mut pieces);
        // Whoever is ahead must not wait for a reader that is gone.
        drop(pieces);
        done
    })
}

/// Sends all that `data` has and how it ended, until nobody wants more.
fn run_ahead(data: &mut dyn Read, ahead: &SyncSender<Piece>) {
    let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
    if let Err(error) = each(data, |piece| ahead.send(Ok(piece.clone())).map_err(gone)) {
        let _ = ahead.send(Err(error));
    }
}

/// Reads `data` to its end, piece by piece, and returns its size. Whoever takes a piece may keep it.
pub(crate) fn each(data: &mut dyn Read, mut take: impl FnMut(&Bytes) -> io::Result<()>) -> io::Result<u64> {
    let (mut size, mut taken) = (0, VecDeque::new());
    loop {
        let mut piece = empty(&mut taken);
        let (filled, end) = fill(data, &mut piece);
        piece.truncate(filled);
        let piece = piece.freeze();
        size += filled as u64;
        if filled > 0 {
            take(&piece)?;
        }
        if end? {
            return Ok(size);
        }
        taken.push_back(piece);
    }
}

/// A piece to fill: the oldest that was taken if nobody has it any more. New memory costs the kernel as much as a copy of it.
fn empty(taken: &mut VecDeque<Bytes>) -> BytesMut {
    let free = taken.front().is_some_and(Bytes::is_unique).then(|| taken.pop_front()).flatten();
    let mut piece = free.and_then(|free| free.try_into_mut().ok()).unwrap_or_default();
    piece.resize(PIECE, 0);
    piece
}

/// Fills a piece as far as it goes: the bytes, and whether that was the end.
fn fill(data: &mut dyn Read, piece: &mut [u8]) -> (usize, io::Result<bool>) {
    let mut filled = 0;
    while filled < piece.len() {
        match data.read(&mut piece[filled..]) {
            Ok(0) => return (filled, Ok(true)),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (filled, Err(error)),
        }
    }
    (filled, Ok(false))
}

#[cfg(test)]
mod tests;
