//! Bench: how long the everyday jobs take here, beside the tools they replace, in the same run.
//!
//! Not part of the tests: machines are noisy, and a ratio says more than a time. Run it after `cargo build --release`:
//! `cargo run --release -p buildd-tests --bin bench -- [--format json] [--smoke]`. Root; the peers are those of `tests/peers`.
//!
//! Each job runs in turns, ours and the peer's, several times; the table shows medians. A job whose peer is missing names it.

#[path = "bench/transfers.rs"]
mod transfers;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use buildd_tests::{
    daemon::{Daemon, run},
    fixture::{context, import_base, repository, text},
    peers::peer,
};
use serde_json::json;

use self::transfers::{Sizes, Stock};

/// Turns of each job.
const TURNS: usize = 5;
/// Files of the large context and of the large image.
const FILES: usize = 5000;

/// A job: what is done each turn, by us and by the other. The number of the turn makes each one new.
struct Job<'a> {
    name: &'static str,
    peer: &'static str,
    ours: Box<dyn Fn(usize) + 'a>,
    theirs: Box<dyn Fn(usize) + 'a>,
    /// Done before each of both, and not measured.
    reset: Box<dyn Fn() + 'a>,
}

/// buildah, with a store of its own.
struct Buildah {
    dir: PathBuf,
}

impl Buildah {
    fn new(dir: &Path, base: &Path) -> Self {
        fs::create_dir_all(dir).expect("a folder");
        fs::write(dir.join("policy.json"), r#"{"default":[{"type":"insecureAcceptAnything"}]}"#)
            .expect("a policy");
        let buildah = Self { dir: dir.to_owned() };
        run(buildah.command("pull").arg(format!("docker-archive:{}", text(base)))).ok();
        buildah
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = peer("buildah");
        let at = |name: &str| self.dir.join(name);
        command
            .arg("--root")
            .arg(at("root"))
            .arg("--runroot")
            .arg(at("run"))
            .args(["--storage-driver", "overlay"]);
        command.arg(verb).arg("--signature-policy").arg(at("policy.json"));
        command
    }

    fn build(&self, dir: &Path, args: &[&str]) {
        let mut command = self.command("bud");
        command.args(["--isolation", "chroot", "--pull-never", "--layers", "-q", "-t", "bench"]);
        run(command.args(args).arg(dir)).ok();
    }
}

/// containerd 2, with folders of its own.
struct Containerd {
    child: Child,
    dir: PathBuf,
}

impl Containerd {
    fn start(dir: &Path) -> Self {
        fs::create_dir_all(dir).expect("a folder");
        let config = dir.join("config.toml");
        let part = |name: &str| dir.join(name).display().to_string();
        let plugins = "disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.cri.v1.runtime\", \"io.containerd.cri.v1.images\"]";
        let head =
            format!("version = 3\nroot = {:?}\nstate = {:?}\n{plugins}\n", part("root"), part("state"));
        fs::write(&config, format!("{head}[grpc]\naddress = {:?}\n", part("sock"))).expect("a configuration");
        let log = fs::File::create(dir.join("log")).expect("a log");
        let child =
            peer("containerd2").arg("--config").arg(&config).stdout(Stdio::null()).stderr(log).spawn();
        let server = Self { child: child.expect("start containerd2"), dir: dir.to_owned() };
        let began = Instant::now();
        while run(server.ctr(&["version"])).code != Some(0) {
            assert!(
                began.elapsed() < Duration::from_secs(30),
                "containerd2 does not answer: see {}",
                part("log")
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }

    fn ctr<'a>(&self, args: &[&'a str]) -> &'a mut Command {
        Box::leak(Box::new(self.command(args)))
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = peer("ctr2");
        let bin = std::env::var("BUILDD_PEERS").unwrap_or_else(|_| "/var/cache/buildd-peers".to_owned());
        let path = format!("{bin}/bin:{}", std::env::var("PATH").unwrap_or_default());
        command.env("PATH", path).arg("--address").arg(self.dir.join("sock")).args(args);
        command
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let json = args.windows(2).any(|two| two == ["--format", "json"]);
    let smoke = args.iter().any(|arg| arg == "--smoke");
    let (turns, sizes) = if smoke { (1, Sizes::SMOKE) } else { (TURNS, Sizes::WHOLE) };
    let dir = tempfile::Builder::new().prefix("buildd-bench-").tempdir().expect("a folder");
    let base = dir.path().join("base.tar");
    run(Command::new(repository().join("examples/base")).arg(&base)).ok();
    let daemon = Daemon::start();
    import_base(&daemon);
    let buildah = Buildah::new(&dir.path().join("buildah"), &base);
    let containerd = Containerd::start(&dir.path().join("containerd"));
    run(containerd.ctr(&["images", "import", text(&base)])).ok();
    let large = large_image(dir.path());
    let stock = Stock::new(dir.path(), sizes);
    let mut jobs = jobs(&daemon, &buildah, &containerd, &large);
    jobs.extend(transfers::jobs(&stock, &daemon, &containerd));
    let rows: Vec<_> = jobs.iter().map(|job| measure(job, turns)).collect();
    show(&rows, [daemon.pid(), containerd.child.id()].map(peak_memory), json);
    ExitCode::SUCCESS
}

/// An archive of an image with many files.
fn large_image(dir: &Path) -> PathBuf {
    let (tree, layer, archive) = (dir.join("tree"), dir.join("large-layer.tar"), dir.join("large.tar"));
    for n in 0..FILES * 4 {
        let folder = tree.join(format!("d{}", n / 200));
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join(format!("f{n}")), vec![b'x'; 2048]).expect("a file");
    }
    run(Command::new("tar").arg("-C").arg(&tree).arg("-cf").arg(&layer).arg(".")).ok();
    let pack = repository().join("examples/pack");
    run(Command::new(pack).args([&layer, &archive]).arg("docker.io/library/large:latest")).ok();
    archive
}

fn jobs<'a>(
    daemon: &'a Daemon,
    buildah: &'a Buildah,
    containerd: &'a Containerd,
    large: &'a Path,
) -> Vec<Job<'a>> {
    let seed =
        "FROM docker.io/library/alpine:latest\nARG TURN\nRUN echo built $TURN > file\nCMD [\"/bin/sh\"]\n";
    let seed: &'static tempfile::TempDir = Box::leak(Box::new(context(&[("Dockerfile", seed)])));
    let copy = "FROM docker.io/library/alpine:latest\nARG TURN\nENV TURN=$TURN\nCOPY . /src\n";
    let files: &'static tempfile::TempDir = Box::leak(Box::new(context(&[("Dockerfile", copy)])));
    for n in 0..FILES {
        let folder = files.path().join(format!("d{}", n / 100));
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join(format!("f{n}")), format!("{n:01000}")).expect("a file");
    }
    let build = move |dir: &Path, turn: &str| {
        daemon.buildctl(&["build", "-q", "-t", "bench", "--build-arg", turn, text(dir)]).ok();
    };
    let theirs = move |dir: &Path, turn: &str| buildah.build(dir, &["--build-arg", turn]);
    let touch = move |turn: usize| {
        fs::write(files.path().join("d0/f0"), format!("turn {turn}")).expect("a change");
    };
    vec![
        Job {
            name: "seed build, a new RUN",
            peer: "buildah",
            reset: Box::new(|| {}),
            ours: Box::new(move |turn| build(seed.path(), &format!("TURN={turn}"))),
            theirs: Box::new(move |turn| theirs(seed.path(), &format!("TURN={turn}"))),
        },
        Job {
            name: "seed build, cached",
            peer: "buildah",
            reset: Box::new(|| {}),
            ours: Box::new(move |_| build(seed.path(), "TURN=0")),
            theirs: Box::new(move |_| theirs(seed.path(), "TURN=0")),
        },
        Job {
            name: "COPY of 5,000 files, one changed",
            peer: "buildah",
            reset: Box::new(|| {}),
            ours: Box::new(move |turn| {
                touch(turn);
                build(files.path(), "TURN=0");
            }),
            theirs: Box::new(move |turn| {
                touch(turn + 1000);
                theirs(files.path(), "TURN=0");
            }),
        },
        Job {
            name: "import of 20,000 files, unpacked",
            peer: "containerd 2",
            reset: Box::new(|| {}),
            ours: Box::new(move |_| {
                daemon.buildctl(&["image", "import", text(large)]).ok();
                daemon.buildctl(&["image", "rm", "large"]).ok();
                daemon.buildctl(&["prune"]).ok();
            }),
            theirs: Box::new(move |_| {
                run(containerd.ctr(&["images", "import", text(large)])).ok();
                run(containerd.ctr(&["images", "rm", "--sync", "docker.io/library/large:latest"])).ok();
            }),
        },
        Job {
            name: "run --rm true",
            peer: "containerd 2",
            reset: Box::new(|| {}),
            ours: Box::new(move |_| drop(daemon.buildctl(&["run", "--rm", "alpine", "true"]).ok())),
            theirs: Box::new(move |turn| {
                let id = format!("c{turn}");
                run(containerd.ctr(&["run", "--rm", "docker.io/library/alpine:latest", &id, "true"])).ok();
            }),
        },
    ]
}

struct Row {
    name: &'static str,
    peer: &'static str,
    ours: Duration,
    theirs: Duration,
}

fn measure(job: &Job<'_>, turns: usize) -> Row {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let time = |work: &dyn Fn(usize), turn: usize| {
        (job.reset)();
        let began = Instant::now();
        work(turn);
        began.elapsed()
    };
    // The first turn of each warms caches and does not count.
    for turn in 0..=turns {
        let (our, their) = (time(&*job.ours, turn), time(&*job.theirs, turn));
        if turn > 0 {
            ours.push(our);
            theirs.push(their);
        }
    }
    let median = |mut all: Vec<Duration>| {
        all.sort();
        all[all.len() / 2]
    };
    Row { name: job.name, peer: job.peer, ours: median(ours), theirs: median(theirs) }
}

/// The most memory that a process had, in MiB.
fn peak_memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line of Linux");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") >> 10
}

fn show(rows: &[Row], [ours, theirs]: [u64; 2], json: bool) {
    let seconds = |time: Duration| (time.as_secs_f64() * 10_000.0).round() / 10_000.0;
    let ratio = |row: &Row| (row.theirs.as_secs_f64() / row.ours.as_secs_f64() * 10.0).round() / 10.0;
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    if json {
        let jobs: Vec<_> = rows
            .iter()
            .map(|row| json!({"job": row.name, "peer": row.peer, "ours": seconds(row.ours), "theirs": seconds(row.theirs), "ratio": ratio(row)}))
            .collect();
        print(
            &json!({"cores": cores, "jobs": jobs, "peakMemoryMiB": {"ours": ours, "containerd 2": theirs}})
                .to_string(),
        );
        return;
    }
    print(&format!(
        "medians in seconds, {cores} cores; peak memory: ours {ours} MiB, containerd 2 {theirs} MiB"
    ));
    print(&format!("{:<36} {:<14} {:>9} {:>9} {:>7}", "job", "peer", "ours", "theirs", "ratio"));
    for row in rows {
        let (ours, theirs) = (seconds(row.ours), seconds(row.theirs));
        print(&format!("{:<36} {:<14} {ours:>9.4} {theirs:>9.4} {:>6.1}x", row.name, row.peer, ratio(row)));
    }
}

fn print(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{line}");
}
