//! Faults of the machine: F-13 to F-17 and F-58 of the specification that need a real daemon.

use std::{
    fs,
    os::unix::net::UnixStream,
    process::{Command, Stdio},
};

use buildd_tests::{
    daemon::{Daemon, binaries, eventually, run},
    fixture::{context, import_base, text},
    oracles::{Oracles, cgroups, hierarchy},
    processes::{self, Sleep},
};
use rustix::process::Signal;

use crate::limits::Disk;

/// How often in a row a daemon that waits is found asleep.
const LOOKS: usize = 25;

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
    let group = hierarchy("pids").join("buildd").join(format!("step-left-{}", std::process::id()));
    // Other tests start daemons, too: any of them may take it away.
    let plant = || {
        fs::create_dir_all(&group).expect("a group");
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
    // While it can accept nobody it waits: whoever looks finds all its threads asleep. One that spins is hardly ever found so twice.
    let mut looks = 0;
    eventually("it sleeps while it can accept nobody", || {
        looks = if processes::sleeps(daemon.pid()) { looks + 1 } else { 0 };
        looks == LOOKS
    });
    drop(many);
    limit("20000");
    daemon.buildctl(&["image", "ls"]).ok();
    oracles.finish(daemon);
}

#[test]
fn f_15_and_f_58_a_daemon_killed_in_a_step_leaves_nothing_and_starts_again() {
    let mut daemon = Daemon::start();
    import_base(&daemon);
    let sleep = Sleep::default();
    let dir = context(&[("Dockerfile", &format!("FROM alpine\nRUN {}\n", sleep.command()))]);
    let mut client = daemon.command("buildctl");
    client.args(["build", text(dir.path())]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut client = client.spawn().expect("start buildctl");
    eventually("the step", || sleep.running() == 1);
    let groups = format!("step-{}-", daemon.pid());
    daemon.stop(Signal::KILL);
    client.wait().expect("it ends with its daemon");
    eventually("the end of the step", || sleep.running() == 0);
    eventually("the end of the step's groups", || cgroups(&groups).is_empty());
    // F-58: its socket and its lock are still there.
    assert!(daemon.path("sock").exists() && daemon.path("root/lock").exists());
    daemon.spawn(&[]);
    let oracles = Oracles::new(&daemon);
    let dir = context(&[("Dockerfile", "FROM alpine\nRUN true\n")]);
    daemon.buildctl(&["build", text(dir.path())]).ok();
    oracles.finish(daemon);
}
