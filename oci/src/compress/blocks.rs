//! Blocks: gzip in pieces that are compressed side by side, each a member of its own.
//!
//! One stream keeps one core busy and the rest waiting: 512 MB took ten seconds. Members one after another are a gzip file as well
//! (RFC 1952, 2.2), as eStargz has shown to all readers of layers. libdeflate, because pieces are whole in memory: it is twice as fast as a
//! stream's compressor at the same size.
//!
//! # Invariants
//! Where the pieces end, and which of them are noise, hangs on the input alone, not on how many cores there are: equal input and level give equal bytes.
//!
//! # Concurrency
//! There are as many threads as cores, and one piece more than they have at work, so that none waits for the writer. Who drops the writer leaves
//! them to end by themselves, soon. Memory goes round: new memory costs the kernel as much as a copy of it.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    },
    thread,
};

use libdeflater::{CompressionLvl, Compressor};

/// Bytes of a piece: a smaller one compresses worse, a larger one takes more memory.
pub(super) const PIECE: usize = 1 << 20;

/// The level at which time counts most: only there noise is looked for.
const FAST: i32 = 1;
/// Where a piece is tried whether it is noise, and so many bytes at each place.
const PLACES: usize = 16;
const TRIED: usize = 1 << 10;
/// The part of what was tried that must be gained.
const GAIN: usize = 32;

/// How pieces are compressed.
#[derive(Clone, Copy, Debug)]
struct Level {
    of: CompressionLvl,
    stores_noise: bool,
}

/// Bytes and the member that they become, with their memory.
#[derive(Debug, Default)]
struct Block {
    bytes: Vec<u8>,
    room: Vec<u8>,
    /// How much of the room the member takes.
    made: usize,
}

impl Block {
    fn member(&self) -> &[u8] {
        &self.room[..self.made]
    }

    /// Leaves the memory alone.
    fn empty(&mut self) {
        self.bytes.clear();
        self.made = 0;
    }
}

/// A piece to compress, and where it goes.
type Job = (Block, SyncSender<io::Result<Block>>);

/// A gzip file in the making.
#[derive(Debug)]
pub struct Blocks<W: Write> {
    out: W,
    level: Level,
    /// The piece that is being filled.
    piece: Block,
    /// Pieces at work, the first one first.
    working: VecDeque<Receiver<io::Result<Block>>>,
    /// Pieces that were written.
    done: Vec<Block>,
    jobs: Sender<Job>,
    /// The other end of `jobs`, for threads to come.
    queue: Arc<Mutex<Receiver<Job>>>,
    /// Threads that may be started, and those that were.
    threads: usize,
    started: usize,
}

impl<W: Write> Blocks<W> {
    /// Begins a file whose pieces `threads` threads (at least one) compress; the level is one of gzip's.
    pub(super) fn new(out: W, level: i32, threads: usize) -> io::Result<Self> {
        let of = CompressionLvl::new(level)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, format!("compression level {level}")))?;
        let (piece, working, done) = Default::default();
        let level = Level { of, stores_noise: level == FAST };
        let (jobs, queue) = channel();
        let queue = Arc::new(Mutex::new(queue));
        Ok(Self { out, level, piece, working, done, jobs, queue, threads: threads.max(1), started: 0 })
    }

    /// Writes what is left and gives the inner writer back.
    pub(super) fn finish(mut self) -> io::Result<W> {
        // The last piece needs no thread, and a file without content has a member too.
        if self.started == 0 || !self.piece.bytes.is_empty() {
            Maker::new(self.level).make(&mut self.piece)?;
        }
        self.write_done(0)?;
        self.out.write_all(self.piece.member())?;
        Ok(self.out)
    }

    /// Writes the first members, until no more than `left` are at work.
    fn write_done(&mut self, left: usize) -> io::Result<()> {
        while self.working.len() > left
            && let Some(first) = self.working.pop_front()
        {
            let mut piece = first.recv().map_err(io::Error::other)??;
            self.out.write_all(piece.member())?;
            piece.empty();
            self.done.push(piece);
        }
        Ok(())
    }

    /// Gives the piece that is full to a thread.
    fn give(&mut self) -> io::Result<()> {
        self.write_done(self.threads)?;
        if self.started < self.threads {
            let (level, queue) = (self.level, Arc::clone(&self.queue));
            thread::Builder::new().name("gzip".to_owned()).spawn(move || work(level, &queue))?;
            self.started += 1;
        }
        let next = self.done.pop().unwrap_or_default();
        let (made, working) = sync_channel(1);
        self.working.push_back(working);
        // The queue lives as long as this does.
        self.jobs.send((std::mem::replace(&mut self.piece, next), made)).map_err(io::Error::other)
    }
}

impl<W: Write> Write for Blocks<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = &mut self.piece.bytes;
        piece.reserve_exact(PIECE - piece.len());
        let count = bytes.len().min(PIECE - piece.len());
        piece.extend_from_slice(&bytes[..count]);
        if piece.len() == PIECE {
            self.give()?;
        }
        Ok(count)
    }

    /// What was written lies in pieces until they are full: nothing of it can go on yet.
    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Makes members until nobody can ask for more.
fn work(level: Level, queue: &Mutex<Receiver<Job>>) {
    let mut maker = Maker::new(level);
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
    while let Ok((mut piece, made)) = next() {
        // If the writer is gone, nobody wants it.
        let _ = made.send(maker.make(&mut piece).map(|()| piece));
    }
}

/// Makes members without a name or a time.
struct Maker {
    compressor: Compressor,
    /// The one for noise, if that is looked for: the least of libdeflate's levels only stores.
    storer: Option<Compressor>,
}

impl Maker {
    fn new(Level { of, stores_noise }: Level) -> Self {
        let storer = stores_noise.then(|| Compressor::new(CompressionLvl::fastest()));
        Self { compressor: Compressor::new(of), storer }
    }

    fn make(&mut self, piece: &mut Block) -> io::Result<()> {
        let compressor = match &mut self.storer {
            Some(storer) if is_noise(&mut self.compressor, &piece.bytes) => storer,
            _ => &mut self.compressor,
        };
        piece.room.resize(compressor.gzip_compress_bound(piece.bytes.len()), 0);
        piece.made = compressor.gzip_compress(&piece.bytes, &mut piece.room).map_err(io::Error::other)?;
        Ok(())
    }
}

/// Whether some of a whole piece says that it would hardly become smaller: noise takes as long as text.
fn is_noise(compressor: &mut Compressor, piece: &[u8]) -> bool {
    if piece.len() < PIECE {
        return false;
    }
    let tried: Vec<u8> = piece.chunks(PIECE / PLACES).flat_map(|chunk| &chunk[..TRIED]).copied().collect();
    let mut room = vec![0; tried.len() - tried.len() / GAIN];
    compressor.deflate_compress(&tried, &mut room).is_err()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn packed(bytes: &[u8], threads: usize, at_once: usize) -> Vec<u8> {
        let mut blocks = Blocks::new(Vec::new(), 1, threads).expect("a level");
        bytes.chunks(at_once).try_for_each(|chunk| blocks.write_all(chunk)).expect("memory");
        blocks.finish().expect("memory")
    }

    #[test]
    fn pieces_make_one_file_whatever_the_cores_and_the_writes() {
        for size in [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 7, 12 * PIECE] {
            let bytes: Vec<u8> = (0..size).map(|n| (n * (n >> 9) % 251) as u8).collect();
            let one = packed(&bytes, 1, PIECE);
            for (threads, at_once) in [(0, 1 << 12), (2, 100_003), (7, 5 * PIECE)] {
                assert!(packed(&bytes, threads, at_once) == one, "{size} bytes by {threads} threads");
            }
            let mut read = Vec::new();
            flate2::read::MultiGzDecoder::new(&one[..]).read_to_end(&mut read).expect("gzip");
            assert!(read == bytes, "{size} bytes come back");
            let members = one.windows(4).filter(|head| *head == [0x1f, 0x8b, 8, 0]).count();
            assert!(members >= size.div_ceil(PIECE).max(1), "{members} members of {size} bytes");
        }
    }

    #[test]
    fn noise_is_stored_and_comes_back() {
        let mut state = 1_u64;
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        let mut bytes: Vec<u8> = (0..PIECE).map(|_| noise()).collect();
        bytes.extend(b"text ".iter().cycle().take(PIECE));
        bytes.extend((0..PIECE).map(|_| noise()));
        let packed = packed(&bytes, 2, PIECE);
        assert!((2 * PIECE..2 * PIECE + PIECE / 50).contains(&packed.len()), "{}", packed.len());
        let mut read = Vec::new();
        flate2::read::MultiGzDecoder::new(&packed[..]).read_to_end(&mut read).expect("gzip");
        assert!(read == bytes);
    }

    #[test]
    fn a_writer_that_fails_ends_it() {
        struct Full(usize);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let noise: Vec<u8> =
            (0..4 * PIECE as u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
        let mut blocks = Blocks::new(Full(PIECE / 64), 1, 2).expect("a level");
        let written = blocks.write_all(&noise).and_then(|()| blocks.finish().map(drop));
        assert_eq!(written.expect_err("no room").kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn a_level_that_gzip_has_not_is_refused() {
        assert!(Blocks::new(Vec::new(), 13, 1).is_err());
        for level in 0..=9 {
            let mut blocks = Blocks::new(Vec::new(), level, 1).expect("a level");
            blocks.write_all(b"text").expect("memory");
            let made = blocks.finish().expect("memory");
            let mut read = String::new();
            flate2::read::MultiGzDecoder::new(&made[..]).read_to_string(&mut read).expect("gzip");
            assert_eq!(read, "text");
        }
    }
}
