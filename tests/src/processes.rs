//! Processes: which run on this machine, told apart by what only one test can have given them.
//!
//! Other tests, and other checkouts, run the same programs at the same time, so a process is never looked for by its name alone.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

/// A `sleep` that nobody else on this machine runs: its seconds are a number of its own.
#[derive(Debug)]
pub struct Sleep(u64);

impl Default for Sleep {
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // More than three years, and below what a 32-bit `sleep` takes.
        Self(
            100_000_000
                + u64::from(std::process::id() % 100_000) * 1_000
                + NEXT.fetch_add(1, Ordering::Relaxed),
        )
    }
}

impl Sleep {
    /// The command line.
    pub fn command(&self) -> String {
        format!("sleep {}", self.0)
    }

    /// How many processes run it now.
    pub fn running(&self) -> usize {
        let wanted = ["sleep".to_owned(), self.0.to_string()];
        all().into_iter().filter(|pid| arguments(*pid) == wanted).count()
    }
}

/// Processes that were given this argument, which must be one of the test's own, such as a path below its folder.
pub fn with_argument(argument: &str) -> Vec<u32> {
    all().into_iter().filter(|pid| arguments(*pid).iter().any(|one| one == argument)).collect()
}

/// Children of a process.
pub fn children(parent: u32) -> Vec<u32> {
    let of = |pid: u32| stat(Path::new(&format!("/proc/{pid}/stat"))).map(|(_, parent)| parent);
    all().into_iter().filter(|pid| of(*pid) == Some(parent)).collect()
}

/// Its command line; empty if it is gone.
pub fn arguments(pid: u32) -> Vec<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let line = line.strip_suffix(&[0]).unwrap_or(&line);
    line.split(|byte| *byte == 0).map(|one| String::from_utf8_lossy(one).into_owned()).collect()
}

/// Whether all threads of a process wait now.
pub fn sleeps(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("its threads").flatten();
    threads
        .map(|thread| thread.path().join("stat"))
        .all(|path| stat(&path).is_none_or(|(state, _)| state == 'S'))
}

fn all() -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("the processes").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// State and parent.
fn stat(path: &Path) -> Option<(char, u32)> {
    let stat = fs::read_to_string(path).ok()?;
    // After the name, which may have anything in it.
    let mut words = stat.rsplit_once(')')?.1.split_whitespace();
    Some((words.next()?.chars().next()?, words.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{Sleep, arguments, children, sleeps, with_argument};

    #[test]
    fn one_process_is_found_and_no_other() {
        let (mine, other) = (Sleep::default(), Sleep::default());
        assert_eq!(mine.running(), 0);
        let line = mine.command();
        let seconds = line.strip_prefix("sleep ").expect("a command");
        let mut child = Command::new("sleep").arg(seconds).spawn().expect("start sleep");
        // The fork goes by our own command line until it has executed.
        while arguments(child.id()).first().is_none_or(|program| program != "sleep") {
            std::thread::yield_now();
        }
        assert_eq!((mine.running(), other.running()), (1, 0));
        assert_eq!(with_argument(seconds), [child.id()]);
        assert!(children(std::process::id()).contains(&child.id()));
        assert!(!sleeps(std::process::id()), "we run");
        while !sleeps(child.id()) {
            std::thread::yield_now();
        }
        child.kill().and_then(|()| child.wait()).expect("end our own child");
        assert_eq!(mine.running(), 0);
    }
}
