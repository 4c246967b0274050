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
        (["--opt", "memory=100000000"], "invalid option memory: it is not supported"),
        (["--opt", "attest:sbom=generator=x"], "no attestations are made"),
        (["--opt", "requestid=frontend.convertllb"], "unsupported request frontend.convertllb"),
    ] {
        let args = [&["build", "--no-cache"], &flags[..], &[text(dir.path())]].concat();
        daemon.buildctl(&args).fails(1, &[words]);
    }
}
