//! Disk: a fresh ext4 on a loop device for all that the bench writes, so that its figures do not hang on what the machine's disk went through.
//!
//! The bench starts itself again with its temporary folder there; daemons and peers follow it.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Command, ExitCode},
};

use buildd_tests::{daemon::run, fixture::text};

/// The variable that says that this process already has its disk.
const MARK: &str = "BUILDD_BENCH_DISK";
/// Bytes of the file system; its file has holes.
const SIZE: u64 = 24 << 30;
/// Bytes of memory that a turn may need.
const WARM: usize = 3 << 30;

/// Runs `bench` on a disk of its own.
pub(super) fn on_fresh_disk(bench: impl FnOnce() -> ExitCode) -> ExitCode {
    if std::env::var_os(MARK).is_some() {
        return bench();
    }
    let disk = Disk::new();
    let mut again = Command::new(std::env::current_exe().expect("a program has a path"));
    again.args(std::env::args_os().skip(1)).env(MARK, "1").env("TMPDIR", disk.mount());
    let status = again.status().expect("start the bench again");
    drop(disk);
    if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Uses as much memory as a job of files does, and gives it back: a virtual machine's host takes a second to find a gibibyte that the machine
/// has not used for some time, whoever asks for it. Divided as the jobs are.
pub(super) fn warm_memory(divisor: usize) {
    drop(std::hint::black_box(vec![1_u8; WARM / divisor]));
}

/// A mounted file system, gone when dropped.
struct Disk {
    dir: tempfile::TempDir,
}

impl Disk {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("buildd-bench-").tempdir().expect("a folder");
        let disk = Self { dir };
        let image = disk.dir.path().join("image");
        File::create(&image).and_then(|file| file.set_len(SIZE)).expect("room for a file with holes");
        fs::create_dir(disk.mount()).expect("a mount point");
        run(Command::new("mkfs.ext4")
            .args(["-q", "-E", "lazy_itable_init=0,lazy_journal_init=0"])
            .arg(&image))
        .ok();
        // Past the cache of the file below: that would copy all that is written once more.
        let device =
            run(Command::new("losetup").args(["--find", "--show", "--direct-io=on"]).arg(&image)).ok();
        run(Command::new("mount").args([device.stdout.trim(), text(&disk.mount())])).ok();
        // Gone once it is unmounted.
        run(Command::new("losetup").args(["--detach", device.stdout.trim()])).ok();
        disk
    }

    fn mount(&self) -> PathBuf {
        self.dir.path().join("mount")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run(Command::new("umount").args(["-R", text(&self.mount())]));
    }
}
