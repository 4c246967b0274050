//! Faults of the machine: F-13 to F-17 and F-58 of the specification that need a real daemon.

use std::{
    fs,
    os::unix::net::UnixStream,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use buildd_tests::{
    daemon::{Daemon, binaries, eventually, run},
    fixture::{context, import_base, text},
    oracles::{Oracles, cgroups},
};
use rustix::process::Signal;

use crate::limits::Disk;

fn sleeping(seconds: &str) -> usize {
    run(Command::new("pgrep").args(["-fx", &format!("sleep {seconds}")])).stdout.lines().count()
}

#[test]
fn f_13_a_disk_that_becomes_read_only_fails_what_writes_and_nothing_else() {
    let place = tempfile::tempdir().expect("a folder");
    let disk = Disk::mount(&place.path().join("disk"), 64);
    let daemon = Daemon::start_with(&["--root", text(&disk.0.join("root"))]);
    import_base(&daemon);
    let dir = context(&[("Dockerfile", "FROM alpine\nRUN echo x > /x\n")]);
    // As after an error of the disk, also while files are open for writing.
    run(Command::new("mount").args(["-o", "remount,abort"]).arg(&disk.0)).ok();
    let refused = daemon.buildctl(&["build", "-t", "x", text(dir.path())]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(!refused.stderr.contains("panic"), "{}", refused.stderr);
    // What only reads goes on.
    assert_eq!(daemon.buildctl(&["image", "ls", "-q"]).ok().stdout, "docker.io/library/alpine:latest\n");
    drop(daemon);
}

#[test]
fn f_19_a_control_group_that_cannot_be_removed_holds_nobody_up_and_goes_later() {
    let daemon = Daemon::start();
    import_base(&daemon);
    let dir = context(&[("Dockerfile", "FROM alpine\nRUN sleep 2\n")]);
    let prefix = format!("step-{}-", daemon.pid());
    let mut foreign = Command::new("sleep").arg("1000").spawn().expect("a process");
    std::thread::scope(|scope| {
        let build =
            scope.spawn(|| daemon.buildctl(&["build", "--progress", "plain", "-t", "x", text(dir.path())]));
        eventually("the step has its groups", || {
            cgroups(&prefix)
                .iter()
                .any(|group| fs::write(group.join("cgroup.procs"), foreign.id().to_string()).is_ok())
        });
        build.join().expect("a build").ok();
    });
    let left = cgroups(&prefix);
    assert_eq!(left.len(), 1, "{left:?}");
    daemon.buildctl(&["build", "--no-cache", text(dir.path())]).ok();
    foreign.kill().and_then(|()| foreign.wait()).expect("killed");
    eventually("the group is gone", || cgroups(&prefix).is_empty());
}

#[test]
fn f_19_the_doctor_tells_of_a_group_that_a_crash_left_and_a_start_removes_it() {
    let group = Path::new("/sys/fs/cgroup/pids/buildd").join(format!("step-left-{}", std::process::id()));
    // Other tests start daemons, too: any of them may take it away.
    let plant = || {
        fs::create_dir_all(&group).expect("a group of version 1");
        run(Command::new("touch").args(["-d", "1 hour ago"]).arg(&group)).ok();
    };
    eventually("the doctor tells of it", || {
        plant();
        let told = run(Command::new(binaries().join("buildd")).arg("doctor")).ok().stdout;
        told.contains("old groups") && told.contains("the next start of buildd removes them")
    });
    plant();
    let _daemon = Daemon::start();
    eventually("it is gone", || !group.exists());
}

#[test]
fn f_14_a_daemon_without_descriptors_waits_and_recovers() {
    let (daemon, oracles) = Oracles::ready();
    let pid = daemon.pid().to_string();
    let limit = |most: &str| {
        run(Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={most}:20000")])).ok()
    };
    let open = fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors").count();
    limit(&(open + 10).to_string());
    let many: Vec<_> =
        (0..100).map(|_| UnixStream::connect(daemon.path("sock")).expect("in the queue")).collect();
    let used = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("its times");
        let after = stat.rsplit_once(')').expect("a name").1.to_owned();
        after
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(|ticks| ticks.parse::<u64>().expect("ticks"))
            .sum::<u64>()
    };
    // Not a wait for anything: what it does with half a second in which it can accept nobody.
    let before = used();
    std::thread::park_timeout(Duration::from_millis(500));
    let spent = used() - before;
    assert!(spent < 25, "{spent} ticks of 10 ms in half a second: it spins");
    drop(many);
    limit("20000");
    daemon.buildctl(&["image", "ls"]).ok();
    oracles.finish(daemon);
}

#[test]
fn f_15_and_f_58_a_daemon_killed_in_a_step_leaves_nothing_and_starts_again() {
    let mut daemon = Daemon::start();
    import_base(&daemon);
    let dir = context(&[("Dockerfile", "FROM alpine\nRUN sleep 5511\n")]);
    let mut client = daemon.command("buildctl");
    client.args(["build", text(dir.path())]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut client = client.spawn().expect("start buildctl");
    eventually("the step", || sleeping("5511") == 1);
    let groups = format!("step-{}-", daemon.pid());
    daemon.stop(Signal::KILL);
    client.wait().expect("it ends with its daemon");
    eventually("the end of the step", || sleeping("5511") == 0);
    let group = |hierarchy: &Path| {
        let entries = fs::read_dir(hierarchy.join("buildd")).into_iter().flatten().flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&groups)).count()
    };
    let hierarchies: Vec<_> =
        fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten().map(|e| e.path()).collect();
    eventually("the end of the step's groups", || hierarchies.iter().all(|hierarchy| group(hierarchy) == 0));
    // F-58: its socket and its lock are still there.
    assert!(daemon.path("sock").exists() && daemon.path("root/lock").exists());
    daemon.spawn(&[]);
    let oracles = Oracles::new(&daemon);
    let dir = context(&[("Dockerfile", "FROM alpine\nRUN true\n")]);
    daemon.buildctl(&["build", text(dir.path())]).ok();
    oracles.finish(daemon);
}
