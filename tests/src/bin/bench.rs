//! Bench: how long the everyday jobs take here, beside the tools they replace, in the same run.
//!
//! Not part of the tests: machines are noisy, and a ratio says more than a time. Run it after `cargo build --release`:
//! `cargo run --release -p buildd-tests --bin bench -- [--format json] [--smoke] [--only TEXT] [GROUP...]`. Root; the peers are those of `tests/peers`.
//!
//! Each job runs in turns, ours and the peers', several times; the table shows the least of each, which a noisy machine disturbs
//! least. Where the daemon wrote or synced, it says how much. A job whose peer is missing names it.

#[path = "bench/builds.rs"]
mod builds;
#[path = "bench/corpus.rs"]
mod corpus;
#[path = "bench/cost.rs"]
mod cost;
#[path = "bench/crowd.rs"]
mod crowd;
#[path = "bench/disk.rs"]
mod disk;
#[path = "bench/files.rs"]
mod files;
#[path = "bench/peers.rs"]
mod peers;
#[path = "bench/transfers.rs"]
mod transfers;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use buildd_tests::{
    daemon::{Daemon, run},
    fixture::{import_base, repository, text},
    peers::Buildah,
};
use serde_json::json;

use self::{
    cost::{Cost, Meter},
    crowd::Crowd,
    peers::Containerd,
};

/// Turns of each job.
const TURNS: usize = 5;
/// The groups of jobs, by the names that the command line takes.
const GROUPS: [(&str, Jobs); 3] =
    [("builds", builds::jobs), ("files", files::jobs), ("transfers", transfers::jobs)];

/// The name of the group that has no jobs.
const CROWD: &str = "crowd";

type Jobs = for<'a> fn(&'a Bench) -> Vec<Job<'a>>;
/// One turn of a job; its number makes it new.
type Turn<'a> = Box<dyn Fn(usize) + 'a>;

/// A job: what is done each turn, by us and by the others.
struct Job<'a> {
    name: &'static str,
    ours: Turn<'a>,
    /// The others' names, and what they do.
    theirs: Vec<(&'static str, Turn<'a>)>,
    /// Done before each of them, and not measured.
    reset: Turn<'a>,
}

/// What all jobs share.
struct Bench {
    dir: PathBuf,
    daemon: Daemon,
    buildah: Buildah,
    containerd: Containerd,
    /// Sizes and counts are divided by this.
    divisor: usize,
}

impl Bench {
    /// The daemons, with the base image in each.
    fn start(dir: PathBuf, divisor: usize) -> Self {
        let base = dir.join("base.tar");
        run(Command::new(repository().join("examples/base")).arg(&base)).ok();
        let daemon = Daemon::start();
        import_base(&daemon);
        let buildah = Buildah::new(&dir.join("buildah"), &base);
        let containerd = Containerd::start(&dir.join("containerd"));
        containerd.ctr(&["images", "import", text(&base)]).ok();
        Self { dir, daemon, buildah, containerd, divisor }
    }

    /// Packs what a folder has as the one layer of the archive of an image.
    fn pack(&self, tree: &Path, archive: &Path, name: &str) {
        let layer = self.dir.join("layer.tar");
        run(Command::new("tar").arg("-C").arg(tree).arg("-cf").arg(&layer).arg(".")).ok();
        run(Command::new(repository().join("examples/pack")).args([&layer, archive]).arg(name)).ok();
        fs::remove_file(layer).expect("what is not needed any more");
    }

    /// Takes an image away from both daemons.
    fn forget(&self, name: &str) {
        self.daemon.buildctl(&["image", "rm", "-f", name]).ok();
        self.daemon.buildctl(&["prune"]).ok();
        self.containerd.ctr(&["images", "rm", "--sync", name]).ok();
    }
}

fn main() -> ExitCode {
    disk::on_fresh_disk(bench)
}

fn bench() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let json = args.windows(2).any(|two| two == ["--format", "json"]);
    let smoke = args.iter().any(|arg| arg == "--smoke");
    let (turns, divisor) = if smoke { (1, 100) } else { (TURNS, 1) };
    let named = |group: &str| args.iter().any(|arg| arg == group);
    let all = !named(CROWD) && !GROUPS.iter().any(|(group, _)| named(group));
    let groups: Vec<_> = GROUPS.iter().filter(|(group, _)| all || named(group)).collect();
    let only = args.windows(2).find_map(|two| (two[0] == "--only").then(|| two[1].clone()));
    let wanted = |job: &Job<'_>| only.as_ref().is_none_or(|text| job.name.contains(text));
    let dir = tempfile::Builder::new().prefix("buildd-bench-").tempdir().expect("a folder");
    let bench = Bench::start(dir.path().to_owned(), divisor);
    let memory = || {
        [("ours", bench.daemon.pid()), ("containerd 2", bench.containerd.pid())]
            .map(|(name, pid)| (name, memory(pid, "VmHWM:"), memory(pid, "VmRSS:")))
    };
    let idle = memory();
    let mut rows = Vec::new();
    for (_, jobs) in groups {
        let jobs = jobs(&bench);
        rows.extend(jobs.iter().filter(|job| wanted(job)).map(|job| measure(&bench, job, turns)));
    }
    let crowd = (named(CROWD) || all && only.is_none()).then(|| crowd::come(&bench));
    show(&rows, crowd.as_ref(), idle, memory(), json);
    ExitCode::SUCCESS
}

struct Row {
    name: &'static str,
    ours: Duration,
    cost: Cost,
    theirs: Vec<(&'static str, Duration)>,
}

fn measure(bench: &Bench, job: &Job<'_>, turns: usize) -> Row {
    let time = |work: &Turn<'_>, turn: usize| {
        (job.reset)(turn);
        let meter = Meter::start(bench.daemon.pid());
        let began = Instant::now();
        work(turn);
        (began.elapsed(), meter.stop())
    };
    let mut ours = Vec::new();
    let mut theirs: Vec<_> = job.theirs.iter().map(|(name, _)| (*name, Vec::new())).collect();
    // The first turn of each warms caches and does not count.
    for turn in 0..=turns {
        let our = time(&job.ours, turn);
        let their: Vec<_> = job.theirs.iter().map(|(_, work)| time(work, turn).0).collect();
        if turn > 0 {
            ours.push(our);
            theirs.iter_mut().zip(their).for_each(|((_, all), took)| all.push(took));
        }
    }
    let (least, cost) = ours.into_iter().min().expect("at least one turn");
    let theirs = theirs.into_iter().map(|(name, all)| (name, all.into_iter().min().unwrap_or_default()));
    Row { name: job.name, ours: least, cost, theirs: theirs.collect() }
}

/// A figure of a process's memory, in MiB.
fn memory(pid: u32, key: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("a line of Linux");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") >> 10
}

/// A process by name, the most memory that it had and what it has.
type Memory = (&'static str, u64, u64);

fn show(rows: &[Row], crowd: Option<&Crowd>, idle: [Memory; 2], after: [Memory; 2], json: bool) {
    let seconds = |time: Duration| (time.as_secs_f64() * 10_000.0).round() / 10_000.0;
    let ratio = |ours: Duration, theirs: Duration| {
        (ours.as_secs_f64() / theirs.as_secs_f64() * 100.0).round() / 100.0
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    if json {
        let peers = |row: &Row| -> Vec<_> {
            let one = |(name, took): &(_, Duration)| json!({"peer": name, "seconds": seconds(*took), "ratio": ratio(row.ours, *took)});
            row.theirs.iter().map(one).collect()
        };
        let jobs: Vec<_> = rows
            .iter()
            .map(|row| json!({"job": row.name, "seconds": seconds(row.ours), "writtenMiB": row.cost.written, "syncs": row.cost.syncs, "peers": peers(row)}))
            .collect();
        let memory: Vec<_> = idle
            .iter()
            .zip(after)
            .map(|(idle, after)| json!({"process": idle.0, "idleMiB": idle.2, "peakMiB": after.1, "afterMiB": after.2}))
            .collect();
        return print(
            &json!({"cores": cores, "jobs": jobs, "crowd": crowd.map(Crowd::json), "memory": memory})
                .to_string(),
        );
    }
    print(&format!("least of the turns in seconds, {cores} cores; ratio: ours by theirs"));
    print(&format!("{:<40} {:>8} {:>7} {:>6}   peers", "job", "ours", "MiB", "syncs"));
    for row in rows {
        let peers = row
            .theirs
            .iter()
            .map(|(name, took)| format!("{name} {:.4} ({:.2})", seconds(*took), ratio(row.ours, *took)));
        let peers = peers.collect::<Vec<_>>().join(", ");
        print(&format!(
            "{:<40} {:>8.4} {:>7} {:>6}   {peers}",
            row.name,
            seconds(row.ours),
            row.cost.written,
            row.cost.syncs
        ));
    }
    crowd.into_iter().for_each(|crowd| print(&crowd.line()));
    for (idle, after) in idle.iter().zip(after) {
        print(&format!("memory of {}: {} MiB idle, {} at most, {} after", idle.0, idle.2, after.1, after.2));
    }
}

fn print(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{line}");
}
