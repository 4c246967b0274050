//! Steps that are cancelled, or wait for each other: nothing is let go under a process, and nobody waits for ever.

use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Command, Stdio},
};

use buildd_tests::{
    daemon::{Daemon, eventually, run},
    fixture::{context, import_base, text},
};

/// A build that goes on while the test does, and what it prints.
struct Build {
    client: Child,
    log: std::path::PathBuf,
    _context: tempfile::TempDir,
}

impl Build {
    fn start(daemon: &Daemon, name: &str, dockerfile: &str) -> Self {
        let context = context(&[("Dockerfile", dockerfile)]);
        let log = daemon.path(name);
        let file = File::create(&log).expect("a log");
        let client = daemon
            .command("buildctl")
            .args(["build", "--progress", "plain", "-t", name, text(context.path())])
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .expect("start buildctl");
        Self { client, log, _context: context }
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).expect("the log")
    }

    fn ended(&mut self) -> Option<bool> {
        self.client.try_wait().expect("look at our child").map(|status| status.success())
    }

    /// Waits for its end, which must come: a liveness deadline.
    fn succeeds(&mut self) {
        eventually("the end of a build", || self.ended().is_some());
        assert_eq!(self.ended(), Some(true), "{}", self.said());
    }
}

impl Drop for Build {
    fn drop(&mut self) {
        let _ = self.client.kill().and_then(|()| self.client.wait());
    }
}

/// The parent of a step's first process: its helper.
fn helper_above(pid: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).expect("a parent");
    parent.trim().to_owned()
}

/// The first process of the step of `daemon` that runs `command`.
fn first_of(daemon: &Daemon, command: &str) -> Option<String> {
    let spawner = run(Command::new("pgrep").args(["-P", &daemon.pid().to_string(), "-f", "step-spawner"]));
    let helpers = run(Command::new("pgrep").args(["-P", spawner.stdout.trim()])).stdout;
    let firsts = helpers.lines().map(|helper| run(Command::new("pgrep").args(["-P", helper])).stdout);
    let all: Vec<String> =
        firsts.flat_map(|firsts| firsts.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    all.into_iter().find(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(command)
    })
}

fn signal(name: &str, pid: &str) {
    run(Command::new("kill").args([name, pid])).ok();
}

#[test]
fn a_locked_cache_mount_is_not_entered_under_a_cancelled_step() {
    let daemon = Daemon::start();
    import_base(&daemon);
    let mount = "--mount=type=cache,id=one,sharing=locked,target=/c";
    let first =
        format!("FROM alpine\nRUN {mount} trap '' TERM; echo > /c/inside; while :; do sleep 7; done\n");
    let mut cancelled = Build::start(&daemon, "cancelled", &first);
    let mut pid = None;
    eventually("the first step", || {
        pid = first_of(&daemon, "/c/inside");
        pid.as_ref().is_some_and(|pid| Path::new(&format!("/proc/{pid}/root/c/inside")).exists())
    });
    let pid = pid.expect("just seen");
    // Its helper cannot take it away: the step lives on, as one does that the kernel holds.
    let helper = helper_above(&pid);
    signal("-STOP", &helper);
    cancelled.client.kill().and_then(|()| cancelled.client.wait()).expect("end our own child");
    // The mark of the step that is inside is taken away when that may end.
    let second = format!("FROM alpine\nRUN {mount} test ! -e /c/inside\n");
    let mut second = Build::start(&daemon, "second", &second);
    eventually("the second build", || second.said().contains("test ! -e /c/inside"));
    // A third step comes after the second one and runs to its end: the second had its time.
    let mut third = Build::start(&daemon, "third", "FROM alpine\nRUN echo third\n");
    third.succeeds();
    assert_eq!(second.ended(), None, "it is inside with the cancelled step:\n{}", second.said());
    assert!(Path::new(&format!("/proc/{pid}/root/c/inside")).exists(), "the first one's folder is there");
    fs::remove_file(format!("/proc/{pid}/root/c/inside")).expect("it is our mark");
    signal("-CONT", &helper);
    second.succeeds();
    eventually("the end of the first step", || !Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn a_step_may_name_one_locked_cache_mount_twice() {
    let daemon = Daemon::start();
    import_base(&daemon);
    let mount = |target: &str| format!("--mount=type=cache,id=one,sharing=locked,target={target}");
    let step = format!("RUN {} {} echo x > /a/x && test -e /b/x", mount("/a"), mount("/b"));
    for name in ["twice", "again"] {
        Build::start(&daemon, name, &format!("FROM alpine\nRUN echo {name}\n{step}\n")).succeeds();
    }
}

#[test]
fn steps_that_lock_cache_mounts_in_opposite_order_do_not_wait_for_each_other() {
    let daemon = Daemon::start();
    import_base(&daemon);
    let mount = |id: &str| format!("--mount=type=cache,id={id},sharing=locked,target=/{id}");
    let mut builds: Vec<Build> = (0..8)
        .map(|number| {
            let (one, other) = if number % 2 == 0 { ("a", "b") } else { ("b", "a") };
            let step = format!("FROM alpine\nRUN {} {} echo {number}\n", mount(one), mount(other));
            Build::start(&daemon, &format!("build-{number}"), &step)
        })
        .collect();
    builds.iter_mut().for_each(Build::succeeds);
}
