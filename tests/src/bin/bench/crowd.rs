//! Crowd: very many clients at once, each of which builds again and again what is cached.
//!
//! Not a job with turns: what counts is the slowest of all, that none fails, and that the daemon's memory is afterwards what it was before.

use std::{
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use buildd_tests::fixture::{context, text};

use super::{Bench, memory};

/// Clients, and builds of each.
const CLIENTS: usize = 100;
const BUILDS: usize = 20;
/// How long the daemon may take to give memory back.
const PATIENCE: Duration = Duration::from_secs(20);

/// What came of it.
#[derive(Debug)]
pub(super) struct Crowd {
    clients: usize,
    /// Of each build, the shortest first.
    times: Vec<Duration>,
    failed: usize,
    /// MiB of the daemon before, at most, and after.
    memory: [u64; 3],
}

/// Lets them come.
pub(super) fn come(bench: &Bench) -> Crowd {
    let clients = (CLIENTS / bench.divisor).max(2);
    let dir =
        context(&[("Dockerfile", "FROM docker.io/library/alpine:latest\nCOPY . /in\nRUN ls /in > /list\n")]);
    let build = || -> Command {
        let mut build = bench.daemon.command("buildctl");
        build.args(["build", "-q", text(dir.path())]);
        build.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        build
    };
    assert!(build().status().expect("start buildctl").success(), "the first build fills the cache");
    let resident = || memory(bench.daemon.pid(), "VmRSS:");
    let before = resident();
    let all: Vec<(Duration, bool)> = thread::scope(|scope| {
        let crowd: Vec<_> = (0..clients)
            .map(|_| {
                scope.spawn(|| {
                    let one = |_| {
                        let began = Instant::now();
                        let ended = build().status().expect("start buildctl");
                        (began.elapsed(), ended.success())
                    };
                    (0..BUILDS).map(one).collect::<Vec<_>>()
                })
            })
            .collect();
        crowd.into_iter().flat_map(|client| client.join().expect("no panic")).collect()
    });
    let ended = Instant::now();
    while resident() > before + before / 10 && ended.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(100));
    }
    let mut times: Vec<Duration> = all.iter().map(|(took, _)| *took).collect();
    times.sort();
    let failed = all.iter().filter(|(_, fine)| !fine).count();
    Crowd { clients, times, failed, memory: [before, memory(bench.daemon.pid(), "VmHWM:"), resident()] }
}

impl Crowd {
    /// The time that so many of a hundred builds do not exceed.
    fn percentile(&self, percent: usize) -> f64 {
        self.times[(self.times.len() * percent / 100).min(self.times.len() - 1)].as_secs_f64()
    }

    /// In words.
    pub(super) fn line(&self) -> String {
        format!(
            "{} clients, {BUILDS} cached builds each: median {:.3} s, p99 {:.3} s, longest {:.3} s, {} failed; memory {} MiB before, {} at most, {} after",
            self.clients,
            self.percentile(50),
            self.percentile(99),
            self.percentile(100),
            self.failed,
            self.memory[0],
            self.memory[1],
            self.memory[2],
        )
    }

    /// For machines.
    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "clients": self.clients, "builds": BUILDS, "failed": self.failed,
            "median": self.percentile(50), "p99": self.percentile(99), "longest": self.percentile(100),
            "memoryMiB": self.memory,
        })
    }
}
