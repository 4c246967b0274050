//! Cgroup lock: a task's control group is its own, also beside other daemons and other runtimes.
//!
//! A group's path is the client's choice, by default `/NAMESPACE/ID`, so two daemons of one machine, or containerd and we, may be asked for the
//! same. Who removes a container kills all that is in its group: a group that another task holds, or in which something runs, is refused
//! (runc 1.2, libcontainer/process_linux.go: "container's cgroup is not empty").
//!
//! # Concurrency
//! A lock (`flock`) on a file that is named after the group, held by the task's shim until the group is removed, which only its holder does. It
//! lies beside the daemons' folders, because these are many and the groups are the machine's; not in the group, which goes hierarchy by hierarchy.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, MetadataExt},
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use buildd_oci::digest::Digest;
use libcgroups::common::get_all_pids;
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use crate::step::{HIERARCHIES, again_while_gone, make_group};

/// The locks' folder.
const LOCKS: &str = "/run/buildd-cgroups";
/// The hierarchy of version 1 that is asked; every runtime puts its containers there.
const ASKED: &str = "devices";
/// The hierarchies of version 1 in which libcontainer makes groups (its `ControllerType`).
const CONTROLLERS: [&str; 12] = [
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "hugetlb",
    "pids",
    "perf_event",
    "memory",
    "blkio",
    "net_prio",
    "net_cls",
    "freezer",
];
/// How long a shim's lock may outlive it: until its container's processes are gone.
const LINGERS: Duration = Duration::from_secs(1);
/// Between two looks at a lock.
const PAUSE: Duration = Duration::from_millis(2);

/// A control group that is held.
#[derive(Debug)]
pub(super) struct CgroupLock {
    locked: File,
    path: PathBuf,
}

impl Drop for CgroupLock {
    fn drop(&mut self) {
        self.release();
    }
}

impl CgroupLock {
    /// Takes the group at `path` (absolute, below each hierarchy), made if it is not there.
    ///
    /// # Errors
    /// `ResourceBusy` if another task or another runtime's container has it.
    pub(super) fn take(path: &Path) -> io::Result<Self> {
        let busy = |what: &str| {
            io::Error::new(io::ErrorKind::ResourceBusy, format!("control group {}: {what}", path.display()))
        };
        let Some(lock) = Self::lock(path)? else { return Err(busy("another task has it")) };
        let group = asked().join(below(path));
        let processes =
            if group.exists() { get_all_pids(&group).map_err(io::Error::other)? } else { Vec::new() };
        if !processes.is_empty() {
            return Err(busy(&format!("{} process(es) of another container run there", processes.len())));
        }
        for hierarchy in hierarchies() {
            // libcgroups takes a group that exists for one that has its controllers, so those above hand them down here.
            let unified = hierarchy == Path::new(HIERARCHIES);
            again_while_gone(|| match unified {
                true => make_group(&hierarchy, &hierarchy.join(below(path)), true),
                false => fs::create_dir_all(hierarchy.join(below(path))),
            })?;
        }
        Ok(lock)
    }

    /// Takes what a task left whose shim is gone, with all that still runs there; None if it is another's meanwhile, or gone.
    pub(super) fn inherit(path: &Path) -> io::Result<Option<Self>> {
        let start = Instant::now();
        while hierarchies().any(|hierarchy| hierarchy.join(below(path)).exists()) {
            let held = Self::lock(path)?;
            if held.is_some() || start.elapsed() > LINGERS {
                return Ok(held);
            }
            std::thread::sleep(PAUSE);
        }
        Ok(None)
    }

    /// Lets others have it, once the group is removed.
    pub(super) fn release(&self) {
        // Whoever opened the file before sees that it is no longer the one in its place. Once released, it is not ours to remove.
        if in_place(&self.locked, &self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }

    /// The lock; None if somebody else holds it.
    fn lock(group: &Path) -> io::Result<Option<Self>> {
        DirBuilder::new().mode(0o700).recursive(true).create(LOCKS)?;
        let path = Path::new(LOCKS).join(Digest::of(group.as_os_str().as_bytes()).hex());
        loop {
            let locked = File::options().create(true).truncate(false).write(true).open(&path)?;
            match flock(&locked, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => return Ok(None),
                taken => taken?,
            }
            if in_place(&locked, &path) {
                return Ok(Some(Self { locked, path }));
            }
        }
    }
}

fn in_place(file: &File, path: &Path) -> bool {
    let held = file.metadata().map(|held| held.ino());
    fs::metadata(path).is_ok_and(|there| held.is_ok_and(|held| held == there.ino()))
}

/// The trees in which a task has groups, as libcontainer makes them: the hierarchies of version 1, or the one of version 2.
pub(super) fn hierarchies() -> impl Iterator<Item = PathBuf> {
    let named = CONTROLLERS.iter().map(|name| Path::new(HIERARCHIES).join(name)).filter(|tree| tree.is_dir());
    let unified = (asked() == Path::new(HIERARCHIES)).then(asked);
    named.chain(unified)
}

fn asked() -> PathBuf {
    let (trees, asked) = (Path::new(HIERARCHIES), Path::new(HIERARCHIES).join(ASKED));
    if asked.is_dir() { asked } else { trees.to_owned() }
}

fn below(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_group_has_one_holder_at_a_time() {
        let path = PathBuf::from(format!("/buildd-claim-{}/task", std::process::id()));
        let folder = asked().join(below(&path));
        let held = CgroupLock::take(&path).expect("the first");
        assert!(hierarchies().all(|hierarchy| hierarchy.join(below(&path)).is_dir()));
        let refused = CgroupLock::take(&path).expect_err("the second");
        assert_eq!(refused.kind(), io::ErrorKind::ResourceBusy);
        assert!(refused.to_string().contains("another task has it"), "{refused}");
        assert!(CgroupLock::inherit(&path).expect("a look").is_none(), "its holder lives");
        drop(held);

        let mut child = Command::new("sleep").arg("100").spawn().expect("start sleep");
        fs::write(folder.join("cgroup.procs"), child.id().to_string()).expect("move it");
        let refused = CgroupLock::take(&path).expect_err("somebody runs there");
        assert!(refused.to_string().contains("1 process(es)"), "{refused}");
        assert!(
            CgroupLock::inherit(&path).expect("a look").is_some(),
            "what is left is taken with what runs"
        );
        child.kill().and_then(|()| child.wait()).expect("end our own child");

        for hierarchy in hierarchies() {
            fs::remove_dir(hierarchy.join(below(&path))).expect("remove the group");
            fs::remove_dir(hierarchy.join(below(&path)).parent().expect("a parent"))
                .expect("remove its parent");
        }
        assert!(CgroupLock::inherit(&path).expect("a look").is_none(), "nothing is left");
        assert!(!folder.exists(), "a look makes nothing");
    }

    #[test]
    fn many_who_ask_at_once_are_one_after_the_other() {
        let path = PathBuf::from(format!("/buildd-claims-{}/task", std::process::id()));
        let inside = std::sync::atomic::AtomicUsize::new(0);
        let once = || {
            let lock = match CgroupLock::take(&path) {
                Ok(lock) => lock,
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::ResourceBusy, "{error}");
                    return 0;
                }
            };
            assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0, "two hold it");
            inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
            // As an ended task does, its holder removes it with the folder above.
            for folder in hierarchies().map(|hierarchy| hierarchy.join(below(&path))) {
                fs::remove_dir(&folder).expect("remove the group");
                let _ = fs::remove_dir(folder.parent().expect("a parent"));
            }
            drop(lock);
            1
        };
        let taken: usize = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| (0..200).map(|_| once()).sum::<usize>())).collect();
            threads.into_iter().map(|thread| thread.join().expect("a thread")).sum()
        });
        assert!(taken > 0, "nobody was let in");
    }
}
