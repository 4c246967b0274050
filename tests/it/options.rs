//! Options that every step gets, and what is refused by name.

use std::fs;

use buildd_tests::{
    daemon::Daemon,
    fixture::{context, import_base, text},
};

#[test]
fn steps_run_under_the_limits_and_in_the_group_that_are_asked_for() {
    let daemon = Daemon::start();
    import_base(&daemon);
    let step = "RUN ulimit -n > /told && ulimit -Hn >> /told && df -k /dev/shm | tail -1 | awk '{print $2}' >> /told \
                && hostname >> /told && grep far /etc/hosts >> /told && cat /proc/self/cgroup >> /told";
    let dir = context(&[("Dockerfile", &format!("FROM alpine\n{step}\n"))]);
    let out = daemon.path("out");
    let output = format!("type=local,dest={}", text(&out));
    let group = format!("/buildd-test-{}", std::process::id());
    let flags = [
        "build",
        "-o",
        &output,
        "--ulimit",
        "nofile=100:200",
        "--shm-size",
        "1048576",
        "--add-host",
        "far:192.0.2.1",
        "--cgroup-parent",
        &group,
        "--opt",
        "hostname=ours",
        text(dir.path()),
    ];
    daemon.buildctl(&flags).ok();
    let told = fs::read_to_string(out.join("told")).expect("made by RUN");
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines[..4], ["100", "200", "1024", "ours"], "{told}");
    assert!(lines[4].contains("192.0.2.1") && lines[4].contains("far"), "{told}");
    assert!(told.contains(&format!("{group}/step-")), "{told}");
    // The group was made for the step; nobody else has it.
    let _ = fs::remove_dir(format!("/sys/fs/cgroup{group}"));
    for hierarchy in fs::read_dir("/sys/fs/cgroup").expect("control groups") {
        let _ = fs::remove_dir(hierarchy.expect("a hierarchy").path().join(&group[1..]));
    }
    for (flags, words) in [
        (["--cgroup-parent", "/../x"], "it is no path of a control group"),
        (["--ulimit", "files=1"], "is none of core, cpu"),
        (["--memory", "1MB"], "invalid option memory: \"1000000\" is not 6 MiB or more"),
        (["--cpuset-cpus", "x"], "invalid option cpusetcpus"),
        (["--opt", "attest:sbom=generator=x"], "no attestations are made"),
        (["--opt", "requestid=frontend.other"], "unsupported request frontend.other"),
    ] {
        let args = [&["build", "--no-cache"], &flags[..], &[text(dir.path())]].concat();
        daemon.buildctl(&args).fails(1, &[words]);
    }
}

#[test]
fn steps_take_no_more_than_they_are_given() {
    let daemon = Daemon::start();
    import_base(&daemon);
    let taking = "RUN x=$(head -c 40000000 /dev/zero | tr '\\0' x); echo ${#x}";
    let dir = context(&[("Dockerfile", &format!("FROM alpine\n{taking}\n"))]);
    let build = |flags: &[&str]| daemon.buildctl(&[&["build"], flags, &[text(dir.path())]].concat());
    build(&["--memory", "16m"]).fails(1, &["it ran out of memory and was killed"]);
    build(&["--memory", "512m"]).ok();
    // The limits are no part of the step: what was made with more is not made again.
    let again = build(&["--memory", "16m", "--progress", "plain"]).ok();
    assert!((again.stdout + &again.stderr).contains("CACHED"), "the same step");
    let told = "RUN grep -h . /proc/self/cpuset; grep Cpus_allowed_list /proc/self/status";
    let dir = context(&[("Dockerfile", &format!("FROM alpine\n{told}\n"))]);
    let flags =
        ["build", "--progress", "plain", "--cpuset-cpus", "0", "--cpu-shares", "512", "--cpu-quota", "50000"];
    let shown = daemon.buildctl(&[&flags[..], &[text(dir.path())]].concat()).ok();
    let shown = shown.stdout + &shown.stderr;
    assert!(
        shown.lines().any(|line| line.contains("Cpus_allowed_list:") && line.ends_with("\t0")),
        "{shown}"
    );
}
