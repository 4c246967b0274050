//! Cost: what one turn writes and how often the machine is told to put it on the disk.
//!
//! Bytes are those that the daemon caused to be written (`write_bytes` of `/proc/PID/io`); syncs are counted by the kernel's
//! tracer over the whole machine, so nothing else should run meanwhile.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use buildd_tests::daemon::run;

/// Where the tracer is.
const TRACING: &str = "/sys/kernel/tracing";
/// The calls that count.
const CALLS: [&str; 3] = ["fsync", "fdatasync", "syncfs"];

/// What a turn cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cost {
    /// MiB that the daemon wrote.
    pub(super) written: u64,
    /// Calls of fsync, fdatasync and syncfs.
    pub(super) syncs: u64,
}

/// Counts from its making on.
#[derive(Debug)]
pub(super) struct Meter {
    pid: u32,
    before: u64,
    instance: PathBuf,
}

impl Meter {
    /// Begins to count for the daemon `pid`.
    pub(super) fn start(pid: u32) -> Self {
        if !Path::new(TRACING).join("instances").exists() {
            run(Command::new("mount").args(["-t", "tracefs", "tracefs", TRACING])).ok();
        }
        let instance = Path::new(TRACING).join(format!("instances/buildd-bench-{pid}"));
        fs::create_dir(&instance).expect("an instance of the tracer");
        let meter = Self { pid, before: written(pid), instance };
        for call in CALLS {
            fs::write(meter.event(call), "1").expect("a call to trace");
        }
        meter
    }

    /// What it came to.
    pub(super) fn stop(self) -> Cost {
        let cpus = fs::read_dir(self.instance.join("per_cpu")).expect("the tracer's buffers");
        let syncs = cpus.map(|cpu| traced(&cpu.expect("a buffer").path().join("stats"))).sum();
        Cost { written: (written(self.pid) - self.before) >> 20, syncs }
    }

    fn event(&self, call: &str) -> PathBuf {
        self.instance.join(format!("events/syscalls/sys_enter_{call}/enable"))
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        for call in CALLS {
            let _ = fs::write(self.event(call), "0");
        }
        let _ = fs::remove_dir(&self.instance);
    }
}

/// Calls that one processor's buffer has, or had before newer ones took their room.
fn traced(stats: &Path) -> u64 {
    let text = fs::read_to_string(stats).expect("what the buffer holds");
    number(&text, "entries:") + number(&text, "overrun:")
}

fn written(pid: u32) -> u64 {
    number(&fs::read_to_string(format!("/proc/{pid}/io")).expect("a process of ours"), "write_bytes:")
}

fn number(text: &str, key: &str) -> u64 {
    let value = text.lines().find_map(|line| line.trim().strip_prefix(key));
    value.expect("a line of Linux").trim().parse().expect("a number")
}
