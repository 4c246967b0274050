//! Bad input: one clear message with place and remedy, docker's exit code, and the next command works.

use std::fs;

use buildd_tests::{
    daemon::{Daemon, Ran, run},
    fixture::{context, import_base, text},
    shared::Shared,
};

/// The daemon of the tests that leave it as it was.
static SHARED: Shared = Shared::new();

fn build(daemon: &Daemon, files: &[(&str, &str)]) -> Ran {
    let dir = context(files);
    daemon.buildctl(&["build", "--progress", "plain", "-t", "bad", text(dir.path())])
}

#[test]
fn broken_dockerfiles_are_refused_and_leave_no_image() {
    let daemon = SHARED.with_base();
    let cases: &[(&str, &[&str])] = &[
        ("", &["the Dockerfile cannot be empty"]),
        ("# only a comment\n", &["no instructions"]),
        ("FORM alpine\n", &["unknown instruction: FORM", "did you mean FROM", "Dockerfile:1"]),
        ("RUN true\n", &["no build stage in current context"]),
        ("FROM alpine\nCOPY\n", &["COPY requires at least two arguments", "Dockerfile:2"]),
        ("FROM alpine\nRUN --mount=type=nonsense true\n", &["nonsense", "Dockerfile:2"]),
        ("FROM alpine\nRUN <<EOF\necho\n", &["unterminated heredoc"]),
    ];
    for (dockerfile, texts) in cases {
        build(&daemon, &[("Dockerfile", dockerfile)]).fails(1, texts);
    }
    let images = daemon.buildctl(&["image", "ls", "-q"]).ok().stdout;
    assert_eq!(images, "docker.io/library/alpine:latest\n");
    build(&daemon, &[("Dockerfile", "FROM alpine\n")]).ok();
}

#[test]
fn a_missing_dockerfile_says_where_it_was_sought() {
    let daemon = SHARED.bare();
    build(&daemon, &[("other", "")]).fails(1, &["Dockerfile"]);
    build(&daemon, &[("Dockerflie", "")]).fails(1, &["no Dockerfile at", "did you mean \"Dockerflie\"?"]);
    let dir = context(&[("Dockerflie", "FROM scratch\n")]);
    let locals = [format!("context={}", text(dir.path())), format!("dockerfile={}", text(dir.path()))];
    let args = ["build", "--frontend", "dockerfile.v0", "--local", &locals[0], "--local", &locals[1]];
    daemon.buildctl(&args).fails(1, &["open Dockerfile: no such file", "did you mean \"Dockerflie\"?"]);
}

#[test]
fn a_missing_source_is_named_with_its_place() {
    let daemon = SHARED.with_base();
    build(&daemon, &[("Dockerfile", "FROM alpine\nCOPY mian.c /\n"), ("main.c", "")])
        .fails(1, &["mian.c", "not found", "Dockerfile:2", "did you mean \"main.c\"?"]);
    build(&daemon, &[("Dockerfile", "FROM alpine\nCOPY src/mian.c /\n"), ("src/main.c", "")])
        .fails(1, &["did you mean \"src/main.c\"?"]);
    build(&daemon, &[("Dockerfile", "FROM alpine\nCOPY a/scr/main.c /\n"), ("a/src/main.c", "")])
        .fails(1, &["did you mean \"a/src\"?"]);
    build(
        &daemon,
        &[("Dockerfile", "FROM alpine\nCOPY a.log /\n"), (".dockerignore", "b\n*.log\n"), ("a.log", "")],
    )
    .fails(
        1,
        &["a.log", "not found", "Dockerfile:2", "line 2 of .dockerignore keeps it out of the context: *.log"],
    );
}

#[test]
fn failing_steps_tell_code_and_signal() {
    let daemon = SHARED.with_base();
    build(&daemon, &[("Dockerfile", "FROM alpine\nRUN echo some words; exit 42\n")]).fails(
        1,
        &[
            "------\n > [2/2] RUN echo some words; exit 42:\nsome words\n------\n",
            "process \"/bin/sh -c echo some words; exit 42\" did not complete successfully: exit code: 42",
        ],
    );
    build(&daemon, &[("Dockerfile", "FROM alpine\nRUN sh -c 'kill -9 $$'; exit $?\n")]).fails(1, &["137"]);
    build(&daemon, &[("Dockerfile", "FROM alpine\nRUN [\"/no/such\"]\n")]).fails(1, &["/no/such"]);
}

#[test]
fn an_absent_base_names_itself() {
    let daemon = SHARED.bare();
    build(&daemon, &[("Dockerfile", "FROM nowhere:v9\n")])
        .fails(1, &["docker.io/library/nowhere:v9", "not found"]);
}

#[test]
fn a_second_daemon_on_the_same_root_is_refused() {
    let daemon = SHARED.bare();
    let other = format!("unix://{}", daemon.path("other.sock").display());
    let ran = run(daemon.command("buildd").args([
        "--addr",
        &other,
        "--root",
        text(&daemon.path("root")),
        "--state",
        text(&daemon.path("state2")),
    ]));
    assert_ne!(ran.code, Some(0));
    assert!(ran.stderr.contains(text(&daemon.path("root"))), "{}", ran.stderr);
    daemon.buildctl(&["image", "ls"]).ok();
}

#[test]
fn a_dead_socket_is_named() {
    let daemon = SHARED.bare();
    let ran =
        run(daemon.command("buildctl").args(["--addr", "unix:///nonexistent/buildd.sock", "image", "ls"]));
    ran.fails(1, &["/nonexistent/buildd.sock"]);
}

#[test]
fn corrupt_archives_are_refused_whole() {
    let daemon = Daemon::start();
    import_base(&daemon);
    let good = fs::read(daemon.path("base.tar")).expect("the base archive");
    let cut = daemon.path("cut.tar");
    fs::write(&cut, &good[..good.len() / 2]).expect("write");
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0xff;
    let bent = daemon.path("bent.tar");
    fs::write(&bent, flipped).expect("write");
    let empty = daemon.path("empty.tar");
    fs::write(&empty, b"").expect("write");
    daemon.buildctl(&["image", "rm", "docker.io/library/alpine:latest"]).ok();
    for archive in [&cut, &bent, &empty] {
        let ran = daemon.buildctl(&["image", "import", text(archive)]);
        assert_eq!(ran.code, Some(1), "{archive:?}: {}", ran.stderr);
        assert!(!ran.stderr.is_empty());
        assert_eq!(daemon.buildctl(&["image", "ls", "-q"]).ok().stdout, "");
    }
    import_base(&daemon);
}

#[test]
fn man_18_an_archive_that_takes_a_name_over_says_so() {
    let daemon = Daemon::start();
    import_base(&daemon);
    let name = "docker.io/library/alpine:latest";
    let inspect = || daemon.buildctl(&["image", "inspect", name]).ok().stdout;
    let before = inspect();
    let dir = context(&[("Dockerfile", "FROM alpine\nRUN echo other > /other\n")]);
    let archive = daemon.path("other.tar");
    let output = format!("type=oci,dest={},name={name}", text(&archive));
    daemon.buildctl(&["build", "-o", &output, text(dir.path())]).ok();
    let told = daemon.buildctl(&["image", "import", text(&archive)]).ok();
    assert_eq!(told.stdout, format!("{name}\n"));
    assert!(told.stderr.contains(&format!("replaced: {name}, which was sha256:")), "{}", told.stderr);
    assert_ne!(inspect(), before);
    // Again: nothing is replaced, and nothing is said.
    assert_eq!(daemon.buildctl(&["image", "import", text(&archive)]).ok().stderr, "");
}
