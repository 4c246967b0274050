//! Fixtures: build contexts written on the spot and the base image of the tests.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::{
    daemon::{Daemon, run},
    random::Random,
};

/// The root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository").to_owned()
}

/// A context folder with these files; parents are made.
pub fn context(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::Builder::new().prefix("buildd-context-").tempdir().expect("a temporary folder");
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().expect("inside the folder")).expect("make parents");
        std::fs::write(&path, text).expect("write a file of the context");
    }
    dir
}

/// Packs the busybox base (see `examples/base`) and imports it as `docker.io/library/alpine:latest`.
pub fn import_base(daemon: &Daemon) {
    let archive = daemon.path("base.tar");
    run(Command::new(repository().join("examples/base")).arg(&archive)).ok();
    daemon.buildctl(&["image", "import", text(&archive)]).ok();
}

/// A path as text; the tests use no others.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("test paths are UTF-8")
}

/// Bytes that do not compress and that a seed repeats.
#[derive(Debug)]
pub struct Noise(Random);

impl Noise {
    /// Begins anew; each seed has bytes of its own.
    pub fn new(seed: u64) -> Self {
        Self(Random::seeded(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1))
    }

    /// The next bytes.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for word in bytes.chunks_mut(8) {
            word.copy_from_slice(&self.0.number().to_le_bytes()[..word.len()]);
        }
    }
}
