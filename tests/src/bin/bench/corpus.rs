//! Corpus: what large files are made of, three quarters program text and one quarter noise, the same every time.
//!
//! The program text is that of the compiler that built the bench: large, always there, and it compresses as programs do.

use std::{
    fs::{self, File},
    io::{BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    process::Command,
};

use buildd_tests::{daemon::run, fixture::Noise};

/// Bytes of one piece: text, text, text, noise, and so on.
const PIECE: usize = 1 << 20;

/// Writes a file of `size` bytes; `seed` says where the text begins and what the noise is.
pub(super) fn write(path: &Path, seed: u64, size: usize) {
    let mut text = File::open(program()).expect("the compiler's library");
    let length = text.metadata().expect("its size").len();
    text.seek(SeekFrom::Start((seed * 7 * PIECE as u64) % (length / 2))).expect("a place in it");
    let mut noise = Noise::new(seed);
    let mut out = BufWriter::new(File::create(path).expect("a file"));
    let mut piece = vec![0; PIECE];
    for (n, at) in (0..size).step_by(PIECE).enumerate() {
        let piece = &mut piece[..PIECE.min(size - at)];
        if n % 4 == 3 {
            noise.fill(piece);
        } else if text.read_exact(piece).is_err() {
            text.seek(SeekFrom::Start(0)).and_then(|_| text.read_exact(piece)).expect("more text");
        }
        out.write_all(piece).expect("a disk");
    }
    out.flush().expect("a disk");
}

/// The compiler's largest library.
fn program() -> PathBuf {
    let sysroot = run(Command::new("rustc").args(["--print", "sysroot"])).ok().stdout;
    let libraries = fs::read_dir(Path::new(sysroot.trim()).join("lib")).expect("the compiler's libraries");
    let sized = libraries.filter_map(|entry| {
        let path = entry.ok()?.path();
        Some((fs::metadata(&path).ok()?.len(), path))
    });
    sized.max().expect("at least one library").1
}
