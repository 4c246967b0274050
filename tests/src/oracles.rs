//! Oracles: what must be as it was after an attack, whatever became of it.
//!
//! Named after the specification's: O1 the canary, O2 the daemon, O3 what it holds of the machine, O4 the store, O5 names, O6 secrets. A test of
//! attacks makes `Oracles` once and asks them after each.
//!
//! # Invariants
//! What takes a moment to go (a step's cgroup, a connection) is waited for, never assumed gone.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    daemon::{Daemon, eventually, run},
    fixture::{import_base, text},
    processes,
};

/// Descriptors that may come and go with a connection or a pooled file.
const LOOSE_DESCRIPTORS: usize = 8;

/// What the oracles know from before.
#[derive(Debug)]
pub struct Oracles {
    canary: TempDir,
    before: BTreeMap<PathBuf, String>,
    pid: u32,
    held: Held,
    images: String,
}

/// What a daemon holds of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    mounts: usize,
    cgroups: usize,
    children: usize,
    leases: usize,
    descriptors: usize,
}

impl Oracles {
    /// Looks at a daemon that does nothing now, and plants a canary.
    pub fn new(daemon: &Daemon) -> Self {
        let canary = tempfile::Builder::new().prefix("canary-").tempdir().expect("a folder");
        fs::create_dir_all(canary.path().join("b/c")).expect("folders");
        for name in ["file", "empty", "b/passwd"] {
            fs::write(canary.path().join(name), if name == "empty" { "" } else { "alive" }).expect("a file");
        }
        let before = look(canary.path());
        let images = daemon.buildctl(&["image", "ls", "-q"]).ok().stdout;
        Self { before, canary, pid: daemon.pid(), held: held(daemon), images }
    }

    /// A daemon with the base image, and what is known of it.
    pub fn ready() -> (Daemon, Self) {
        let daemon = Daemon::start();
        import_base(&daemon);
        let oracles = Self::new(&daemon);
        (daemon, oracles)
    }

    /// What attacks reach for: a folder with `file`, `empty`, `b/passwd` and the empty folder `b/c`.
    pub fn canary(&self) -> &str {
        text(self.canary.path())
    }

    /// Asserts O1 to O3 and O5 after an attack that was to leave no image.
    #[track_caller]
    pub fn check(&self, daemon: &Daemon, what: &str) {
        assert_eq!(look(self.canary.path()), self.before, "{what}: the canary");
        let images = daemon.buildctl(&["image", "ls", "-q"]).ok().stdout;
        assert_eq!(images, self.images, "{what}: images");
        assert_eq!(daemon.pid(), self.pid, "{what}: the daemon");
        let mut now = held(daemon);
        eventually(&format!("{what}: what the daemon holds ({now:?} of {:?}) goes", self.held), || {
            now = held(daemon);
            let kept = Held { descriptors: self.held.descriptors, ..now.clone() } == self.held;
            kept && now.descriptors <= self.held.descriptors + LOOSE_DESCRIPTORS
        });
    }

    /// Asserts O6: a marker that was planted lies in no file below a folder.
    #[track_caller]
    pub fn nowhere(&self, marker: &str, folder: &Path) {
        let found = run(std::process::Command::new("grep").args(["-rlaF", marker]).arg(folder));
        assert_eq!(found.stdout, "", "{marker} lies in {}", folder.display());
    }

    /// Asserts O4, after all attacks: the daemon leaves, and its store is sound.
    pub fn finish(self, mut daemon: Daemon) {
        self.check(&daemon, "the end");
        assert_eq!(daemon.stop(Signal::TERM), Some(0), "{}", daemon.log());
        let found = daemon.fsck(&[]);
        assert_eq!(found.code, Some(0), "{found:?}");
        assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
    }
}

/// Everything about a tree that an attack could change.
fn look(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).expect("the canary lives");
        let content = if meta.is_file() { fs::read(&path).expect("it") } else { Vec::new() };
        let times = (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
        let owner = (meta.mode(), meta.uid(), meta.gid(), meta.nlink(), meta.ino());
        all.insert(path.clone(), format!("{owner:?} {times:?} {content:?}"));
        if meta.is_dir() {
            todo.extend(fs::read_dir(&path).expect("it").map(|entry| entry.expect("it").path()));
        }
    }
    all
}

fn held(daemon: &Daemon) -> Held {
    let pid = daemon.pid();
    let place = daemon.path("");
    let place = text(&place).trim_end_matches('/');
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).expect("its mounts");
    Held {
        mounts: mounts.lines().filter(|line| line.contains(place)).count(),
        cgroups: cgroups(&format!("step-{pid}-")).len() + cgroups(&format!("git-{pid}-")).len(),
        children: at_work(pid),
        leases: daemon.buildctl(&["lease", "ls", "-q"]).ok().stdout.lines().count(),
        descriptors: descriptors(pid),
    }
}

/// Open files, but for the mounts of layers: a bounded number of these is kept for the next step, and each leads to a root.
fn descriptors(pid: u32) -> usize {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors").flatten();
    open.filter(|entry| fs::read_link(entry.path()).is_ok_and(|to| to != Path::new("/"))).count()
}

/// Processes that a daemon has at work; the spawner of its steps is not, but those that it started are.
fn at_work(pid: u32) -> usize {
    let spawner = |child: u32| processes::arguments(child).get(1).is_some_and(|word| word == "step-spawner");
    let children = processes::children(pid).into_iter();
    children.map(|child| if spawner(child) { processes::children(child).len() } else { 1 }).sum()
}

/// Where the groups of a controller lie: its own tree (version 1), or the one tree of all (version 2).
pub fn hierarchy(controller: &str) -> PathBuf {
    let root = Path::new("/sys/fs/cgroup");
    let own = root.join(controller);
    if root.join("cgroup.controllers").exists() { root.to_owned() } else { own }
}

/// Groups of ours whose names begin so, in every hierarchy.
pub fn cgroups(prefix: &str) -> Vec<PathBuf> {
    let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    let places = hierarchies.map(|entry| entry.path().join("buildd")).chain(["/sys/fs/cgroup/buildd".into()]);
    let groups = places.flat_map(|place| fs::read_dir(place).into_iter().flatten().flatten());
    let found = groups.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    found.map(|entry| entry.path()).collect()
}
