//! Containers: `buildctl run` and `ctr run` on what was built; their shims, streams and exit codes.

use std::{
    fs,
    io::Write,
    os::unix::fs::MetadataExt,
    process::{Command, Stdio},
};

use buildd_tests::{
    daemon::{Daemon, Ran, eventually, run},
    fixture::{context, import_base, text},
    oracles::hierarchy,
    peers::ctr,
    processes::{Sleep, with_argument},
};
use rustix::process::Signal;

fn with_base() -> Daemon {
    let daemon = Daemon::start();
    import_base(&daemon);
    daemon
}

#[test]
fn the_seed_runs() {
    let daemon = with_base();
    let seed = "FROM alpine\nRUN echo \"built with BuildKit!\" >  file\nCMD [\"/bin/sh\"]\n";
    let dir = context(&[("Dockerfile", seed)]);
    daemon.buildctl(&["build", "-t", "alpine:v1", text(dir.path())]).ok();
    let listed = daemon.buildctl(&["run", "--rm", "alpine:v1", "ls", "/"]).ok().stdout;
    assert!(listed.lines().any(|name| name == "file"), "{listed}");
    let file = daemon.buildctl(&["run", "--rm", "alpine:v1", "cat", "/file"]).ok().stdout;
    assert_eq!(file, "built with BuildKit!\n");
    let file =
        ctr(&daemon, &["run", "--rm", "docker.io/library/alpine:v1", "c1", "cat", "/file"]).ok().stdout;
    assert_eq!(file, "built with BuildKit!\n");
    assert_eq!(ctr(&daemon, &["containers", "ls", "-q"]).ok().stdout, "");
    let keys = ctr(&daemon, &["snapshots", "ls"]).ok().stdout;
    assert!(!keys.contains("Active"), "{keys}");
    let tasks = daemon.path("state/tasks/default");
    assert_eq!(fs::read_dir(tasks).expect("the namespace's folder").count(), 0);
}

#[test]
fn exit_codes_are_dockers() {
    let daemon = with_base();
    let run = |command: &[&str]| daemon.buildctl(&[&["run", "--rm", "alpine"], command].concat());
    run(&["sh", "-c", "exit 7"]).fails(7, &[]);
    run(&["sh", "-c", "sh -c 'kill -TERM $$'; exit $?"]).fails(143, &[]);
    run(&["no-such-command"]).fails(127, &["\"no-such-command\": executable file not found in $PATH"]);
    run(&["/no/such"]).fails(127, &["no such file"]);
    run(&["/etc/passwd"]).fails(126, &["permission denied"]);
    run(&["/etc"]).fails(126, &["is a directory"]);
    daemon.buildctl(&["run", "--rm", "no-such-image"]).fails(125, &["no-such-image"]);
    daemon.buildctl(&["run", "--rm", "-v", "/no/such:/x", "alpine"]).fails(125, &["/no/such"]);
    daemon
        .buildctl(&["run", "--rm", "-v", "/tmp:/proc", "alpine", "true"])
        .fails(125, &["must stay as it is"]);
    assert_eq!(ctr(&daemon, &["containers", "ls", "-q"]).ok().stdout, "", "a failed run leaves nothing");
}

#[test]
fn flags_reach_the_process() {
    let daemon = with_base();
    let volume = context(&[("in", "from the host")]);
    let mount = format!("{}:/data:ro", text(volume.path()));
    let script = "echo $A; pwd; id -u; cat /data/in; echo; touch /data/x 2>&1; cat > /out; cat /out";
    let mut child = daemon
        .command("buildctl")
        .args(["run", "--rm", "-i", "-e", "A=value", "-w", "/tmp", "-u", "65534", "-v", &mount])
        .args(["--entrypoint", "sh", "alpine", "-c", &script.replace("/out", "/tmp/out")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("start buildctl");
    child.stdin.take().expect("piped").write_all(b"through standard input\n").expect("write");
    let ran = Ran::from(child.wait_with_output().expect("buildctl ends")).ok();
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines[..4], ["value", "/tmp", "65534", "from the host"], "{}", ran.stdout);
    assert!(lines[4].contains("Read-only file system"), "{}", ran.stdout);
    assert_eq!(lines[5], "through standard input");
}

#[test]
fn a_container_is_confined() {
    let daemon = with_base();
    let script = "grep -E '^(Seccomp|CapBnd|NoNewPrivs):' /proc/self/status; ls /proc/self/fd | wc -l; \
                  echo x > /proc/sys/kernel/core_pattern; cat /proc/keys | wc -c; ps > /ps; wc -l < /ps";
    let out = daemon.buildctl(&["run", "--rm", "alpine", "sh", "-c", script]).ok();
    let words: Vec<&str> = out.stdout.split_whitespace().collect();
    // 12 capabilities; the descriptors of ls: three streams and the folder; no byte of the masked file; sh, ps and the header.
    assert_eq!(words, ["CapBnd:", "00000000880405fb", "NoNewPrivs:", "0", "Seccomp:", "2", "4", "0", "3"]);
    assert!(out.stderr.contains("Read-only file system"), "{}", out.stderr);
}

#[test]
fn output_is_whole_and_in_order() {
    let daemon = with_base();
    let script = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; echo end >&2";
    let ran = daemon.buildctl(&["run", "--rm", "alpine", "sh", "-c", script]).ok();
    let expected: String = (0..20000).map(|i| format!("line {i}\n")).collect();
    assert!(ran.stdout == expected, "{} bytes of {}", ran.stdout.len(), expected.len());
    assert_eq!(ran.stderr, "end\n");
}

#[test]
fn a_task_outlives_its_daemon() {
    let mut daemon = with_base();
    let image = "docker.io/library/alpine:latest";
    ctr(
        &daemon,
        &["run", "-d", image, "long", "sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.1; done"],
    )
    .ok();
    ctr(
        &daemon,
        &["run", "-d", image, "short", "sh", "-c", "while [ ! -e /go ]; do sleep 0.05; done; exit 6"],
    )
    .ok();
    let pid = |name: &str| {
        let tasks = ctr(&daemon, &["tasks", "ls"]).ok().stdout;
        let line = tasks.lines().find(|line| line.starts_with(name)).expect("listed").to_owned();
        line.split_whitespace().nth(1).expect("a pid").to_owned()
    };
    let (long, short) = (pid("long"), pid("short"));
    daemon.stop(Signal::KILL);
    let alive = |pid: &str| fs::metadata(format!("/proc/{pid}/root/")).is_ok();
    assert!(alive(&long) && alive(&short));
    // One ends while no daemon is there; how, is not lost.
    fs::write(format!("/proc/{short}/root/go"), "").expect("write into the container");
    eventually("the end of the short one", || !alive(&short));
    daemon.spawn(&[]);
    let status = |name: &str| {
        let tasks = ctr(&daemon, &["tasks", "ls"]).ok().stdout;
        let line = tasks.lines().find(|line| line.starts_with(name)).expect("listed").to_owned();
        line.split_whitespace().last().expect("a status").to_owned()
    };
    assert_eq!(status("long"), "RUNNING");
    eventually("the shim's word on the short one", || status("short") == "STOPPED");
    let removed = ctr(&daemon, &["tasks", "rm", "short"]);
    assert!(removed.stderr.contains("exit code 6") || removed.code == Some(6), "{removed:?}");
    let echoed = ctr(&daemon, &["tasks", "exec", "--exec-id", "e", "long", "echo", "adopted"]).ok().stdout;
    assert_eq!(echoed, "adopted\n");
    ctr(&daemon, &["tasks", "kill", "--signal", "SIGTERM", "long"]).ok();
    // Its shim notices a moment after the kernel.
    eventually("the end of the long one", || status("long") == "STOPPED");
    ctr(&daemon, &["tasks", "rm", "long"]);
    for name in ["long", "short"] {
        ctr(&daemon, &["containers", "rm", name]).ok();
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    assert!(!mounts.contains(text(&daemon.path("state"))), "a root stayed mounted");
}

#[test]
fn what_is_executed_later_has_the_same_fence() {
    let daemon = with_base();
    let run = ["run", "-d", "--seccomp", "docker.io/library/alpine:latest", "fenced", "sleep", "1000"];
    ctr(&daemon, &run).ok();
    let exec = |id: &str, command: &[&str]| {
        ctr(&daemon, &[&["tasks", "exec", "--exec-id", id, "fenced"], command].concat())
    };
    let status = exec("a", &["grep", "-E", "^(Seccomp|CapBnd):", "/proc/self/status"]).ok().stdout;
    assert!(status.contains("Seccomp:\t2"), "{status}");
    assert!(status.contains("CapBnd:\t00000000a80425fb"), "{status}");
    let group = exec("b", &["cat", "/proc/self/cgroup"]).ok().stdout;
    assert!(group.lines().any(|line| line.ends_with(":/default/fenced")), "{group}");
    exec("c", &["sh", "-c", "exit 9"]).fails(9, &[]);
    exec("d", &["nothing"]).fails(1, &["executable file not found"]);
    ctr(&daemon, &["tasks", "pause", "fenced"]).ok();
    assert!(ctr(&daemon, &["tasks", "ls"]).ok().stdout.contains("PAUSED"));
    ctr(&daemon, &["tasks", "resume", "fenced"]).ok();
    let refused = ctr(&daemon, &["tasks", "rm", "fenced"]);
    assert_ne!(refused.code, Some(0), "a running task is not removed");
    ctr(&daemon, &["tasks", "rm", "--force", "fenced"]);
    ctr(&daemon, &["containers", "rm", "fenced"]).ok();
}

#[test]
fn a_killed_shim_takes_its_container_along() {
    let daemon = with_base();
    let sleep = Sleep::default();
    let line = sleep.command();
    let command: Vec<&str> = line.split(' ').collect();
    ctr(&daemon, &[&["run", "-d", "docker.io/library/alpine:latest", "orphan"], &command[..]].concat()).ok();
    eventually("the container", || sleep.running() == 1);
    // A child that has not executed its program yet goes by the same name.
    let shims = with_argument(text(&daemon.path("state/tasks/default/orphan")));
    let shim = shims.first().expect("the shim");
    run(Command::new("kill").args(["-9", &shim.to_string()])).ok();
    eventually("the end of the container", || sleep.running() == 0);
    let tasks = ctr(&daemon, &["tasks", "ls"]).ok().stdout;
    assert!(tasks.contains("STOPPED"), "{tasks}");
    ctr(&daemon, &["tasks", "rm", "orphan"]);
    ctr(&daemon, &["containers", "rm", "orphan"]).ok();
    assert_eq!(ctr(&daemon, &["tasks", "ls", "-q"]).ok().stdout, "");
    ctr(&daemon, &["run", "--rm", "docker.io/library/alpine:latest", "orphan", "true"]).ok();
}

#[test]
fn a_container_whose_control_group_is_anothers_is_refused_and_harms_nobody() {
    let (first, second) = (with_base(), with_base());
    let image = "docker.io/library/alpine:latest";
    let started = |daemon: &Daemon| ctr(daemon, &["run", "-d", image, "twin", "sleep", "1000"]);
    started(&first).ok();
    started(&second).fails(1, &["control group /default/twin: another task has it"]);
    ctr(&second, &["containers", "rm", "twin"]).ok();
    let listed = ctr(&first, &["tasks", "ls"]).ok().stdout;
    assert!(listed.contains("RUNNING"), "{listed}");
    // What ends leaves the group to the other.
    ctr(&first, &["tasks", "rm", "--force", "twin"]);
    started(&second).ok();
    // A runtime that takes no locks is heeded as well: here, whoever is in a group of ours by hand.
    let group = hierarchy("devices").join("default/foreign");
    fs::create_dir(&group).expect("a group beside that of the other container");
    let mut foreign = Command::new("sleep").arg("1000").spawn().expect("start sleep");
    fs::write(group.join("cgroup.procs"), foreign.id().to_string()).expect("move it");
    ctr(&second, &["run", "-d", image, "foreign", "sleep", "1000"])
        .fails(1, &["control group /default/foreign: 1 process(es) of another container run there"]);
    assert_eq!(foreign.try_wait().expect("look at it"), None, "it lives");
    foreign.kill().and_then(|()| foreign.wait()).expect("end our own child");
    fs::remove_dir(&group).expect("remove the group");
    ctr(&second, &["tasks", "rm", "--force", "twin"]);
    // The root of all groups is nobody's.
    ctr(&second, &["run", "-d", "--cgroup", "/", image, "root", "sleep", "1000"])
        .fails(1, &["control group /", "another container"]);
}

#[test]
fn a_container_that_ends_leaves_the_group_in_which_steps_make_theirs() {
    let daemon = with_base();
    let ours = hierarchy("pids").join("buildd");
    fs::create_dir_all(&ours).expect("a group");
    let made = || fs::metadata(&ours).map(|meta| meta.ino()).expect("the group");
    let before = made();
    daemon.buildctl(&["run", "--rm", "alpine", "true"]).ok();
    assert_eq!(made(), before, "removed, and perhaps made again");
}

#[test]
fn an_image_is_looked_into() {
    let daemon = with_base();
    let dir = context(&[("Dockerfile", "FROM alpine\nRUN echo inside > /file\n")]);
    daemon.buildctl(&["build", "-t", "look", text(dir.path())]).ok();
    let point = daemon.path("point");
    fs::create_dir(&point).expect("a folder");
    daemon.buildctl(&["image", "mount", "look", text(&point)]).ok();
    assert_eq!(fs::read_to_string(point.join("file")).expect("the image's file"), "inside\n");
    assert!(fs::write(point.join("x"), "").is_err(), "it is read-only");
    daemon.buildctl(&["image", "mount", "look", text(&point)]).fails(1, &["mounted already"]);
    daemon.buildctl(&["image", "unmount", text(&point)]).ok();
    assert_eq!(fs::read_dir(&point).expect("the folder").count(), 0);
    daemon.buildctl(&["image", "unmount", text(&point)]).fails(1, &["nothing is mounted there"]);
    ctr(&daemon, &["images", "mount", "docker.io/library/look:latest", text(&point)]).ok();
    assert!(point.join("file").exists());
    ctr(&daemon, &["images", "unmount", "--rm", text(&point)]).ok();
}

#[test]
fn snapshots_and_namespaces_by_ctr() {
    let daemon = with_base();
    let snapshots = |args: &[&str]| ctr(&daemon, &[&["snapshots"], args].concat());
    let base = snapshots(&["ls"]).ok().stdout;
    let base = base.lines().find(|line| line.contains("Committed")).expect("unpacked at import");
    let base = base.split_whitespace().next().expect("a name").to_owned();
    snapshots(&["prepare", "work", &base]).ok();
    let mounts = snapshots(&["mounts", "/there", "work"]).ok().stdout;
    assert!(mounts.starts_with("mount -t overlay overlay /there -o "), "{mounts}");
    snapshots(&["commit", "mine", "work"]).ok();
    snapshots(&["commit", "mine", "work"]).fails(1, &["not found"]);
    snapshots(&["view", "look", "mine"]).ok();
    snapshots(&["rm", "mine"]).fails(1, &["cannot remove snapshot with child"]);
    let info = snapshots(&["info", "mine"]).ok().stdout;
    assert!(info.contains("\"Kind\": \"Committed\"") && info.contains(&base), "{info}");
    assert!(snapshots(&["usage", &base]).ok().stdout.contains("MiB"));
    for name in ["look", "mine"] {
        snapshots(&["rm", name]).ok();
    }
    ctr(&daemon, &["namespaces", "create", "team", "owner=us"]).ok();
    assert!(ctr(&daemon, &["namespaces", "ls"]).ok().stdout.contains("owner=us"));
    ctr(&daemon, &["namespaces", "rm", "team"]).ok();
    ctr(&daemon, &["namespaces", "rm", "default"]).fails(1, &["must be empty"]);
}

#[test]
fn a_mounted_image_may_be_changed_and_outlives_the_daemon() {
    let mut daemon = with_base();
    let points: Vec<_> = ["one", "two"].iter().map(|name| daemon.path(name)).collect();
    for point in &points {
        fs::create_dir(point).expect("a folder");
    }
    daemon.buildctl(&["image", "mount", "--rw", "alpine", text(&points[0])]).ok();
    daemon.buildctl(&["image", "mount", "alpine", text(&points[1])]).ok();
    fs::write(points[0].join("new"), "new").expect("a file in what may be changed");
    assert!(fs::write(points[1].join("new"), "new").is_err(), "the other one is read-only");
    assert_eq!(daemon.stop(Signal::TERM), Some(0));
    daemon.spawn(&[]);
    assert_eq!(fs::read_to_string(points[0].join("new")).expect("still there"), "new");
    let listed = daemon.buildctl(&["image", "mount"]).ok().stdout;
    for point in &points {
        let line = listed.lines().find(|line| line.starts_with(text(point))).expect("a line for each");
        assert!(line.contains("docker.io/library/alpine:latest") && line.ends_with("mounted"), "{line}");
    }
    daemon.buildctl(&["image", "unmount", "--all"]).ok();
    assert!(points.iter().all(|point| !point.join("bin").exists()));
    assert_eq!(daemon.buildctl(&["image", "mount", "--format", "json"]).ok().stdout.trim(), "[]");
    assert_eq!(daemon.buildctl(&["lease", "ls", "-q"]).ok().stdout, "");
}

#[test]
fn a_paused_container_answers_and_takes_no_further_process() {
    let daemon = with_base();
    let run = ["run", "-d", "docker.io/library/alpine:latest", "frozen", "sleep", "1000"];
    ctr(&daemon, &run).ok();
    ctr(&daemon, &["tasks", "pause", "frozen"]).ok();
    let exec = |id: &str| ctr(&daemon, &["tasks", "exec", "--exec-id", id, "frozen", "echo", "in"]);
    exec("a").fails(1, &["cannot exec in a paused container"]);
    let listed = ctr(&daemon, &["tasks", "ls"]).ok().stdout;
    assert!(listed.contains("PAUSED"), "{listed}");
    ctr(&daemon, &["tasks", "resume", "frozen"]).ok();
    assert_eq!(exec("b").ok().stdout, "in\n");
    ctr(&daemon, &["tasks", "pause", "frozen"]).ok();
    exec("c").fails(1, &["cannot exec in a paused container"]);
    ctr(&daemon, &["tasks", "kill", "--signal", "SIGKILL", "frozen"]).ok();
    ctr(&daemon, &["tasks", "resume", "frozen"]);
    let listed = || ctr(&daemon, &["tasks", "ls"]).ok().stdout;
    eventually("the end of the container", || listed().contains("STOPPED"));
    ctr(&daemon, &["tasks", "rm", "frozen"]);
    ctr(&daemon, &["containers", "rm", "frozen"]).ok();
}
