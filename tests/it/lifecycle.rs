//! Lifecycle: shutdown leaves nothing of a build behind, restarts lose nothing, tasks outlive the daemon.

use std::{fs, process::Stdio};

use buildd_tests::{
    daemon::{Daemon, eventually, run},
    fixture::{context, import_base, text},
    processes::{Sleep, arguments, children},
    shared::left_alone,
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
    let sleep = Sleep::default();
    let lines = format!("FROM alpine\nRUN echo began && {}\n", sleep.command());
    let dir = context(&[("Dockerfile", &lines)]);
    let mut client = daemon
        .command("buildctl")
        .args(["build", "--progress", "plain", "-t", "never", text(dir.path())])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start buildctl");
    eventually("the step", || sleep.running() > 0);
    assert_eq!(daemon.stop(Signal::TERM), Some(0));
    assert_ne!(client.wait().expect("buildctl ends").code(), Some(0));
    eventually("the end of the step", || sleep.running() == 0);
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
        let of_daemon = children(daemon.pid()).into_iter();
        of_daemon
            .filter(|pid| arguments(*pid).iter().any(|word| word == "step-spawner"))
            .collect::<Vec<u32>>()
    };
    let build = |word: &str| {
        let dir = context(&[("Dockerfile", &format!("FROM alpine\nRUN echo {word}\n"))]);
        daemon.buildctl(&["build", "--progress", "plain", text(dir.path())]).ok().stderr
    };
    assert!(spawner().is_empty(), "none before it is needed");
    assert!(build("one").contains("one"));
    let first = spawner();
    assert!(build("two").contains("two"));
    assert_eq!(spawner(), first, "one for all steps");
    let [pid] = first[..] else { panic!("one spawner, not {first:?}") };
    run(std::process::Command::new("kill").args(["-KILL", &pid.to_string()])).ok();
    assert!(build("three").contains("three"));
    let second = spawner();
    assert!(!second.is_empty() && second != first, "{first:?}, then {second:?}");
}

#[test]
fn a_client_that_leaves_ends_its_step() {
    let daemon = Daemon::start();
    import_base(&daemon);
    let sleep = Sleep::default();
    let dir = context(&[("Dockerfile", &format!("FROM alpine\nRUN {}\n", sleep.command()))]);
    let mut client = daemon
        .command("buildctl")
        .args(["build", "-t", "never", text(dir.path())])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start buildctl");
    eventually("the step", || sleep.running() > 0);
    client.kill().expect("kill our own child");
    client.wait().expect("buildctl ends");
    eventually("the end of the step", || sleep.running() == 0);
    daemon.buildctl(&["image", "ls"]).ok();
}

#[test]
fn a_daemon_that_tests_share_goes_with_them() {
    let (pid, folder) = left_alone();
    eventually("the end of the daemon", || fs::metadata(format!("/proc/{pid}")).is_err());
    eventually("the end of its folder", || !folder.exists());
    assert!(mounts_below(text(&folder)).is_empty(), "a mount is left");
}
