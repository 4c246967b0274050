//! Killing: mixed work on a daemon that is killed at a random moment, again and again, with a memory of what was acknowledged.
//!
//! Workers build, tag, import, remove and prune, each with names of its own. Whatever a command acknowledged before the kill must be there
//! afterwards; a command that the kill cut off happened or did not, and nothing in between; `buildd fsck` must find nothing damaged.
//! The seed decides what is done and when the kill comes; what the machine makes of that differs from run to run.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    daemon::{Daemon, Ran},
    fixture::{context, import_base, text},
};

/// Workers at once.
const WORKERS: usize = 3;
/// Names that each of them has.
const NAMES: u64 = 3;
/// The latest moment of a kill, in milliseconds after the work began.
const LATEST: u64 = 700;

/// Random numbers that a seed repeats (splitmix64).
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}

/// What is known of a name: what it may stand for, by the number in its image; None is that it is not there.
type Possible = Vec<Option<u64>>;

/// A daemon, what was acknowledged, and what there is to work with.
#[derive(Debug)]
pub struct Killing {
    daemon: Daemon,
    seed: u64,
    dice: Dice,
    names: Mutex<BTreeMap<String, Possible>>,
    /// The number of the next image.
    next: AtomicU64,
    context: TempDir,
    archives: Vec<PathBuf>,
}

impl Killing {
    /// A daemon with a base image, and archives to import.
    pub fn new(seed: u64) -> Self {
        let daemon = Daemon::start();
        import_base(&daemon);
        let dockerfile = "FROM alpine\nARG N\nCOPY data /\nRUN echo $N > /n && cat /data /data > /twice\n";
        let context = context(&[("Dockerfile", dockerfile)]);
        std::fs::write(context.path().join("data"), vec![b'x'; 1 << 20]).expect("a file");
        let mut killing = Self {
            daemon,
            seed,
            dice: Dice(seed),
            names: Mutex::default(),
            next: AtomicU64::new(100),
            context,
            archives: Vec::new(),
        };
        for worker in 0..WORKERS {
            let name = imported(worker);
            killing.build(&name, worker as u64).ok();
            let archive = killing.daemon.path(&format!("{name}.tar"));
            killing.daemon.buildctl(&["image", "export", "-o", text(&archive), &name]).ok();
            killing.daemon.buildctl(&["image", "rm", &name]).ok();
            killing.archives.push(archive);
        }
        killing
    }

    fn build(&self, name: &str, number: u64) -> Ran {
        let argument = format!("N={number}");
        let context = text(self.context.path());
        self.daemon.buildctl(&["build", "-q", "-t", name, "--build-arg", &argument, context])
    }

    /// Works, kills at a random moment, and checks what is left.
    pub fn round(&mut self, round: u64) {
        let moment = Duration::from_millis(self.dice.below(LATEST));
        let seeds: Vec<u64> = (0..WORKERS).map(|_| self.dice.below(u64::MAX)).collect();
        let killed = AtomicBool::new(false);
        let pid = rustix::process::Pid::from_raw(self.daemon.pid().cast_signed()).expect("a process");
        let working: &Self = self;
        std::thread::scope(|scope| {
            for (worker, seed) in seeds.into_iter().enumerate() {
                let killed = &killed;
                scope.spawn(move || working.work(worker, Dice(seed), killed));
            }
            // Not a wait for anything: the moment is what the dice say.
            std::thread::park_timeout(moment);
            killed.store(true, Ordering::SeqCst);
            rustix::process::kill_process(pid, Signal::KILL).expect("our own child");
        });
        self.daemon.stop(Signal::KILL);
        let context = format!("seed {}, round {round}, killed after {moment:?}", self.seed);
        self.fsck(&context);
        self.daemon.spawn(&[]);
        self.compare(&context);
    }

    /// Commands until one is cut off; what they did is noted as soon as they are done.
    fn work(&self, worker: usize, mut dice: Dice, killed: &AtomicBool) {
        while !killed.load(Ordering::SeqCst) {
            let name = format!("w{worker}-{}", dice.below(NAMES));
            let other = format!("w{worker}-{}", dice.below(NAMES));
            let number = self.next.fetch_add(1, Ordering::SeqCst);
            let (changed, becomes, ran) = match dice.below(8) {
                0..3 => (
                    name.clone(),
                    Some(number),
                    self.attempt(&name, Some(number), || self.build(&name, number)),
                ),
                3 | 4 => {
                    let name = imported(worker);
                    let number = Some(worker as u64);
                    let archive = text(&self.archives[worker]);
                    let import = || self.daemon.buildctl(&["image", "import", archive]);
                    (name.clone(), number, self.attempt(&name, number, import))
                }
                5 => {
                    let [Some(number)] = self.known(&name)[..] else { continue };
                    let tag = || self.daemon.buildctl(&["image", "tag", &name, &other]);
                    (other.clone(), Some(number), self.attempt(&other, Some(number), tag))
                }
                6 => {
                    let [Some(_)] = self.known(&name)[..] else { continue };
                    let remove = || self.daemon.buildctl(&["image", "rm", &name]);
                    (name.clone(), None, self.attempt(&name, None, remove))
                }
                _ => (String::new(), None, self.daemon.buildctl(&["prune", "--all"])),
            };
            if ran.code == Some(0) {
                if !changed.is_empty() {
                    self.note(&changed, vec![becomes]);
                }
            } else {
                // The kill is told before it comes: who fails before that failed by itself.
                assert!(killed.load(Ordering::SeqCst), "{ran:?}\n{}", self.daemon.log());
            }
        }
    }

    /// Runs a command that may change a name: until it is acknowledged, both may be.
    fn attempt(&self, name: &str, becomes: Option<u64>, command: impl FnOnce() -> Ran) -> Ran {
        let mut possible = self.known(name);
        possible.push(becomes);
        self.note(name, possible);
        command()
    }

    fn known(&self, name: &str) -> Possible {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.get(name).cloned().unwrap_or_else(|| vec![None])
    }

    fn note(&self, name: &str, possible: Possible) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), possible);
    }

    /// Nothing may be damaged, whether the daemon has looked after it yet or not.
    fn fsck(&self, context: &str) {
        let found = self.daemon.fsck(&[]);
        assert_eq!(found.code, Some(0), "{context}: {found:#?}\n{}", self.daemon.log());
    }

    /// Every name stands for what it may stand for, and there is no other.
    fn compare(&mut self, context: &str) {
        let listed = self.daemon.buildctl(&["image", "ls", "--format", "json"]).ok().stdout;
        let listed: Vec<serde_json::Value> = serde_json::from_str(&listed).expect("a list");
        let prefix = "docker.io/library/";
        let found: BTreeMap<&str, &serde_json::Value> = listed
            .iter()
            .map(|image| {
                let name = image["name"].as_str().expect("a name").trim_start_matches(prefix);
                (name.trim_end_matches(":latest"), &image["problem"])
            })
            .collect();
        for (name, problem) in &found {
            assert!(problem.is_null(), "{context}: {name}: {problem}");
            assert!(
                *name == "alpine" || self.known(name).iter().any(Option::is_some),
                "{context}: {name} appeared"
            );
        }
        let names: Vec<String> =
            self.names.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect();
        for name in names {
            let possible = self.known(&name);
            let actual = found.contains_key(name.as_str()).then(|| {
                let tree = self
                    .daemon
                    .buildctl(&["run", "--rm", &name, "sh", "-c", "cat /n && cmp -n 1048576 /data /twice"])
                    .ok();
                tree.stdout.trim().parse().expect("the number of a build")
            });
            assert!(possible.contains(&actual), "{context}: {name} is {actual:?}, may be {possible:?}");
            self.note(&name, vec![actual]);
        }
    }

    /// Removes everything; nothing may be left then.
    pub fn finish(mut self) {
        let listed = self.daemon.buildctl(&["image", "ls", "-q"]).ok().stdout;
        for name in listed.lines() {
            self.daemon.buildctl(&["image", "rm", name]).ok();
        }
        self.daemon.buildctl(&["prune", "--all"]).ok();
        assert_eq!(self.daemon.stop(Signal::TERM), Some(0), "{}", self.daemon.log());
        self.fsck("the end");
        for folder in ["content/blobs/sha256", "layers", "named"] {
            let left: Vec<_> =
                std::fs::read_dir(self.daemon.path("root").join(folder)).expect("a folder").collect();
            assert!(left.is_empty(), "seed {}: left in {folder}: {left:?}", self.seed);
        }
    }
}

fn imported(worker: usize) -> String {
    format!("imported-{worker}")
}
