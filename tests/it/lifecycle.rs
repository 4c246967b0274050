//! Lifecycle: shutdown leaves nothing of a build behind, restarts lose nothing, tasks outlive the daemon.

use std::{fs, process::Stdio};

use buildd_tests::{
    daemon::{Daemon, eventually, run},
    fixture::{context, import_base, text},
};
use rustix::process::Signal;

fn mounts_below(path: &str) -> Vec<String> {
    let all = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    all.lines().filter(|line| line.contains(path)).map(str::to_owned).collect()
}

#[test]
fn sigterm_in_a_build_leaves_nothing_and_exits_zero() {
    let mut daemon = Daemon::start();
    import_base(&daemon);
    let dir = context(&[("Dockerfile", "FROM alpine\nRUN echo began && sleep 8273\n")]);
    let mut client = daemon
        .command("buildctl")
        .args(["build", "--progress", "plain", "-t", "never", text(dir.path())])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start buildctl");
    let sleeping = || run(std::process::Command::new("pgrep").args(["-f", "sleep 8273"])).stdout;
    eventually("the step", || sleeping().lines().count() > 0);
    assert_eq!(daemon.stop(Signal::TERM), Some(0));
    assert_ne!(client.wait().expect("buildctl ends").code(), Some(0));
    eventually("the end of the step", || !sleeping().lines().any(|_| true));
    let left: Vec<String> =
        mounts_below(text(&daemon.path("root"))).into_iter().filter(|m| m.contains("overlay")).collect();
    assert!(left.is_empty(), "{left:?}");
    daemon.spawn(&[]);
    let images = daemon.buildctl(&["image", "ls", "-q"]).ok().stdout;
    assert_eq!(images, "docker.io/library/alpine:latest\n");
}

#[test]
fn a_killed_daemon_loses_nothing_acknowledged() {
    let mut daemon = Daemon::start();
    import_base(&daemon);
    let dir = context(&[("Dockerfile", "FROM alpine\nRUN echo kept > /kept\n")]);
    let first = daemon.buildctl(&["build", "-q", "-t", "kept", text(dir.path())]).ok().stdout;
    daemon.stop(Signal::KILL);
    daemon.spawn(&[]);
    let again = daemon.buildctl(&["build", "-q", "-t", "kept", text(dir.path())]).ok().stdout;
    assert_eq!(again, first, "the cache survived");
}

#[test]
fn a_spawner_that_was_killed_is_replaced() {
    let daemon = Daemon::start();
    import_base(&daemon);
    let spawner = || {
        let mut pgrep = std::process::Command::new("pgrep");
        let found = run(pgrep.args(["-P", &daemon.pid().to_string(), "-f", "step-spawner"])).stdout;
        found.trim().to_owned()
    };
    let build = |word: &str| {
        let dir = context(&[("Dockerfile", &format!("FROM alpine\nRUN echo {word}\n"))]);
        daemon.buildctl(&["build", "--progress", "plain", text(dir.path())]).ok().stderr
    };
    assert_eq!(spawner(), "", "none before it is needed");
    assert!(build("one").contains("one"));
    let first = spawner();
    assert!(build("two").contains("two"));
    assert_eq!(spawner(), first, "one for all steps");
    run(std::process::Command::new("kill").args(["-KILL", &first])).ok();
    assert!(build("three").contains("three"));
    let second = spawner();
    assert!(!second.is_empty() && second != first, "{first:?}, then {second:?}");
}

#[test]
fn a_client_that_leaves_ends_its_step() {
    let daemon = Daemon::start();
    import_base(&daemon);
    let dir = context(&[("Dockerfile", "FROM alpine\nRUN sleep 6458\n")]);
    let mut client = daemon
        .command("buildctl")
        .args(["build", "-t", "never", text(dir.path())])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start buildctl");
    let sleeping =
        || run(std::process::Command::new("pgrep").args(["-f", "sleep 6458"])).stdout.lines().count();
    eventually("the step", || sleeping() > 0);
    client.kill().expect("kill our own child");
    client.wait().expect("buildctl ends");
    eventually("the end of the step", || sleeping() == 0);
    daemon.buildctl(&["image", "ls"]).ok();
}
