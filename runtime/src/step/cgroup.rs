//! Cgroup: the control groups of a step, or of a program that works for us: how many processes and how much memory it may have, and which devices
//! a step may open.
//!
//! Where control groups are of version 1, each controller is a tree of its own; only those are joined that limit something. The step's first
//! process joins by itself while it is one thread: the kernel lets a thread move itself at once, while moving a process stops all forks
//! and exits of the machine for milliseconds (`cgroup_procs_write_start`).
//!
//! # Invariants
//! A group that was made is removed with the value, with those that the step made in it. One in which something runs is tried for a minute; what
//! then is left, or is left by a helper that was killed, goes when a daemon starts (`sweep_groups`), and the doctor tells of it.
//!
//! # Sources
//! cgroups(7); kernel `admin-guide/cgroup-v1`, `admin-guide/cgroup-v2`.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant, SystemTime},
};

use rustix::io::Errno;

use super::{Cpu, Security, StepLimits, StepSpec};
use crate::sys;

mod devices;

/// Where control groups are mounted: one tree, or a folder with a tree for each controller of version 1.
pub const HIERARCHIES: &str = "/sys/fs/cgroup";
/// What is written to join: whoever writes it.
const MYSELF: &[u8] = b"0";
/// Controllers of the unified tree that a group hands down to those below it: what steps are limited by.
const UNIFIED: [&str; 4] = ["memory", "pids", "cpu", "cpuset"];
/// The same that only tasks may be limited by: where a group cannot hand one down, whoever sets such a limit is told.
const UNIFIED_FOR_TASKS: [&str; 2] = ["io", "hugetlb"];
/// Files that say which processors, and whose memory, a group may use.
const PROCESSORS: [&str; 2] = ["cpuset.cpus", "cpuset.mems"];
/// Microseconds over which a quota of processors is counted, where none are given.
const PERIOD: u64 = 100_000;
/// The control group of the groups of steps and programs.
pub(crate) const PARENT: &str = "/buildd";
/// How long it is tried to remove a group in which something runs, and how long after one another at first and in the end.
const LINGER: Duration = Duration::from_secs(60);
const PAUSES: [Duration; 2] = [Duration::from_millis(5), Duration::from_secs(1)];
/// How often a group is made anew whose parents somebody removes.
const TRIES: usize = 100;
/// Age of an empty group that nobody is about to join any more.
const ABANDONED: Duration = Duration::from_secs(120);

/// A value for a file of a group, which lies in a controller's tree.
struct Setting {
    controller: &'static str,
    file: &'static str,
    value: String,
}

/// A group in one tree.
#[derive(Debug)]
struct Joined {
    folder: PathBuf,
    /// What the tree is called among the others; empty if it is the only one.
    tree: &'static str,
    /// The file that is written to join.
    join: &'static str,
}

/// The groups of a step or program.
#[derive(Debug)]
pub struct Cgroup {
    joined: Vec<Joined>,
}

impl Cgroup {
    /// Makes the group `path`, which begins with a slash, in each tree that it takes, with the limits of the step.
    pub(super) fn create(path: &str, step: &StepSpec) -> io::Result<Self> {
        Self::create_below(Path::new(HIERARCHIES), path, step)
    }

    fn create_below(trees: &Path, path: &str, step: &StepSpec) -> io::Result<Self> {
        let unified = is_unified(trees);
        let devices = if unified { Vec::new() } else { device_settings(step)? };
        let group = Self::set(trees, path, &step.limits, devices)?;
        if unified && step.security == Security::Sandbox {
            for Joined { folder, .. } in &group.joined {
                devices::restrict(folder, &devices::rules(step)?).map_err(about(folder))?;
            }
        }
        Ok(group)
    }

    /// Makes the group `name` for a program that works for us, with these limits.
    pub fn of_program(name: &str, limits: &StepLimits) -> io::Result<Self> {
        Self::set(Path::new(HIERARCHIES), &format!("{PARENT}/{name}"), limits, Vec::new())
    }

    fn set(trees: &Path, path: &str, limits: &StepLimits, more: Vec<Setting>) -> io::Result<Self> {
        let unified = is_unified(trees);
        let mut group = Self { joined: Vec::new() };
        let settings = if unified { unified_settings(limits) } else { settings(limits) };
        for setting in settings.into_iter().chain(more) {
            let tree = if unified { trees.to_owned() } else { trees.join(setting.controller) };
            let folder = tree.join(path.trim_start_matches('/'));
            if group.joined.last().is_none_or(|last| last.folder != folder) {
                let join = if unified { "cgroup.procs" } else { "tasks" };
                again_while_gone(|| make(&tree, &folder, unified)).map_err(about(&folder))?;
                group.joined.push(Joined { folder: folder.clone(), tree: setting.controller, join });
            }
            let file = folder.join(setting.file);
            write(&file, setting.value.as_bytes()).map_err(about(&file))?;
        }
        Ok(group)
    }

    /// The files to which a process of one thread writes `MYSELF` to join.
    fn join_files(&self) -> io::Result<Vec<File>> {
        let open = |file: PathBuf| OpenOptions::new().write(true).open(&file).map_err(about(&file));
        self.joined.iter().map(|Joined { folder, join, .. }| open(folder.join(join))).collect()
    }

    /// Lets the process of a command join before it executes.
    pub fn contain(&self, command: &mut std::process::Command) -> io::Result<()> {
        sys::write_first(command, self.join_files()?, MYSELF);
        Ok(())
    }

    /// Puts the calling process into it, which has one thread.
    pub(super) fn join(&self) -> io::Result<()> {
        for Joined { folder, join, .. } in &self.joined {
            let file = folder.join(join);
            write(&file, MYSELF).map_err(about(&file))?;
        }
        Ok(())
    }

    /// Its groups, each with the name of its tree: what the step may see of them, to know how much it may take.
    pub(super) fn folders(&self) -> impl Iterator<Item = (&Path, &'static str)> {
        self.joined.iter().map(|joined| (joined.folder.as_path(), joined.tree))
    }

    /// How often a process of it was killed because memory ran out.
    pub fn oom_kills(&self) -> u64 {
        let files = ["memory.oom_control", "memory.events"];
        let mut texts = self.joined.iter().flat_map(|joined| files.map(|file| joined.folder.join(file)));
        let text = texts.find_map(|path| fs::read_to_string(path).ok()).unwrap_or_default();
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok()).unwrap_or(0)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let (began, [mut pause, longest]) = (Instant::now(), PAUSES);
        loop {
            self.joined.retain(|joined| !remove(&joined.folder));
            if self.joined.is_empty() || began.elapsed() > LINGER {
                return;
            }
            thread::sleep(pause);
            pause = longest.min(pause * 2);
        }
    }
}

/// Removes a group with all that lie in it; false if something runs there.
fn remove(folder: &Path) -> bool {
    match fs::remove_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
        _ => return true,
    }
    nested(folder).all(|inner| remove(&inner)) && fs::remove_dir(folder).is_ok()
}

/// Groups of ours that are too old to be somebody's who is about to join, and have nobody in them: what crashes left.
pub fn abandoned() -> Vec<PathBuf> {
    left(ABANDONED)
}

fn left(age: Duration) -> Vec<PathBuf> {
    let trees = nested(Path::new(HIERARCHIES)).chain([HIERARCHIES.into()]);
    let groups = trees.flat_map(|tree| nested(&tree.join(PARENT.trim_start_matches('/'))));
    let old = |made: SystemTime| made.elapsed().is_ok_and(|since| since >= age);
    let is_old = |group: &PathBuf| fs::metadata(group).and_then(|meta| meta.modified()).is_ok_and(old);
    groups.filter(|group| is_old(group) && is_empty(group)).collect()
}

/// Whether nothing runs in a group, nor in those that lie in it.
fn is_empty(folder: &Path) -> bool {
    fs::read_to_string(folder.join("cgroup.procs")).is_ok_and(|processes| processes.is_empty())
        && nested(folder).all(|inner| is_empty(&inner))
}

/// The groups that lie in one.
fn nested(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let groups = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    groups.map(|entry| entry.path())
}

/// Removes the control groups that crashes left of steps and programs, whichever daemon's they were.
pub fn sweep_groups() {
    for folder in abandoned() {
        let gone = remove(&folder);
        tracing::debug!(path = %folder.display(), gone, "remove a group that was left");
    }
}

fn is_unified(trees: &Path) -> bool {
    trees.join("cgroup.controllers").exists()
}

/// Makes a group, though who ends a task may at any moment remove those that it lies in: the last of their groups takes them along.
pub(crate) fn again_while_gone(make: impl Fn() -> io::Result<()>) -> io::Result<()> {
    // No such file where a name is looked up in a group that is gone, no such device where a file of it is open.
    let gone = |error: &io::Error| matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::NODEV));
    (1..TRIES).map(|_| make()).find(|made| !made.as_ref().is_err_and(gone)).unwrap_or_else(&make)
}

/// Makes a group and those that it lies in. In the unified tree each of these hands its controllers down; a group of processors begins with
/// none where they are not copied to it.
pub(crate) fn make(tree: &Path, folder: &Path, unified: bool) -> io::Result<()> {
    let below = folder.strip_prefix(tree).unwrap_or(folder);
    let mut here = tree.to_owned();
    for part in below {
        if unified {
            hand_down(&here)?;
        }
        let parent = here.clone();
        here.push(part);
        match fs::create_dir(&here) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        for file in PROCESSORS.into_iter().filter(|_| !unified) {
            let unset = fs::read_to_string(here.join(file)).is_ok_and(|value| value.trim().is_empty());
            if unset {
                write(&here.join(file), fs::read_to_string(parent.join(file))?.trim().as_bytes())?;
            }
        }
    }
    Ok(())
}

/// Lets the groups below a group of the unified tree be limited by its controllers.
fn hand_down(group: &Path) -> io::Result<()> {
    let there = fs::read_to_string(group.join("cgroup.controllers"))?;
    let control = group.join("cgroup.subtree_control");
    let has = |controller: &&str| there.split_whitespace().any(|one| one == *controller);
    let wanted: Vec<String> = UNIFIED.iter().filter(|c| has(c)).map(|c| format!("+{c}")).collect();
    write(&control, wanted.join(" ").as_bytes())?;
    for controller in UNIFIED_FOR_TASKS.iter().filter(|controller| has(controller)) {
        if let Err(error) = write(&control, format!("+{controller}").as_bytes()) {
            tracing::debug!(%error, group = %group.display(), controller, "hand a controller down");
        }
    }
    Ok(())
}

fn settings(limits: &StepLimits) -> Vec<Setting> {
    let StepLimits { pids, memory, swap, cpu } = limits;
    let setting = |controller, file, value| Setting { controller, file, value };
    let mut settings = vec![
        setting("pids", "pids.max", pids.to_string()),
        setting("memory", "memory.limit_in_bytes", memory.to_string()),
    ];
    settings.extend(swap.map(|swap| setting("memory", "memory.memsw.limit_in_bytes", swap.to_string())));
    settings.extend(cpu.shares.map(|shares| setting("cpu", "cpu.shares", shares.to_string())));
    settings.extend(cpu.period.map(|period| setting("cpu", "cpu.cfs_period_us", period.to_string())));
    settings.extend(cpu.quota.map(|quota| setting("cpu", "cpu.cfs_quota_us", quota.to_string())));
    settings.extend(processors(cpu, "cpuset"));
    settings
}

fn device_settings(step: &StepSpec) -> io::Result<Vec<Setting>> {
    if step.security == Security::Insecure {
        return Ok(Vec::new());
    }
    let setting = |file, value| Setting { controller: "devices", file, value };
    let allowed = devices::rules(step)?.into_iter().map(|rule| setting("devices.allow", rule.text()));
    Ok([setting("devices.deny", "a".to_owned())].into_iter().chain(allowed).collect())
}

/// The unified tree has no files for devices: a program decides there.
fn unified_settings(limits: &StepLimits) -> Vec<Setting> {
    let setting = |file, value| Setting { controller: "", file, value };
    let StepLimits { pids, memory, swap, cpu } = limits;
    let mut settings = vec![
        setting("pids.max", pids.to_string()),
        setting("memory.max", memory.to_string()),
        setting("memory.oom.group", "1".to_owned()),
    ];
    let text = |value: i64| if value < 0 { "max".to_owned() } else { value.to_string() };
    // Version 1 counts memory and swap together.
    let beyond = swap.map(|swap| if swap < 0 { swap } else { (swap - memory).max(0) });
    settings.extend(beyond.map(|swap| setting("memory.swap.max", text(swap))));
    // From 2 to 262,144 to 1 to 10,000, as runc translates.
    let weight = cpu.shares.map(|shares| 1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142);
    settings.extend(weight.map(|weight| setting("cpu.weight", weight.to_string())));
    if cpu.quota.is_some() || cpu.period.is_some() {
        let (quota, period) = (cpu.quota.unwrap_or(-1), cpu.period.unwrap_or(PERIOD));
        settings.push(setting("cpu.max", format!("{} {period}", text(quota))));
    }
    settings.extend(processors(cpu, ""));
    settings
}

fn processors(cpu: &Cpu, controller: &'static str) -> impl Iterator<Item = Setting> {
    let given = PROCESSORS.into_iter().zip([cpu.cpus.clone(), cpu.mems.clone()]);
    let given = given.filter(|(_, value)| !value.is_empty());
    given.map(move |(file, value)| Setting { controller, file, value })
}

/// The kernel takes a value whole, in one call, or not at all.
fn write(file: &Path, value: &[u8]) -> io::Result<()> {
    OpenOptions::new().write(true).open(file)?.write_all(value)
}

fn about(path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("control group {}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
