//! Other people's clients: docker-buildx and ctr 2.x drive the daemon unmodified.

use std::{fs, process::Command};

use buildd_tests::{
    daemon::{Daemon, Ran, run},
    fixture::{context, import_base, text},
    peers::peer,
};
use tempfile::TempDir;

/// docker-buildx with a builder named `ours`.
pub(crate) struct Buildx {
    home: TempDir,
}

impl Buildx {
    pub(crate) fn new(daemon: &Daemon) -> Self {
        let buildx = Self { home: tempfile::tempdir().expect("a folder") };
        buildx.run(&["create", "--name", "ours", "--driver", "remote", &daemon.address()]).ok();
        buildx
    }

    fn command(&self) -> Command {
        let mut command = peer("docker-buildx");
        command
            .env("DOCKER_CONFIG", self.home.path())
            .env("BUILDX_CONFIG", self.home.path().join("buildx"))
            .env_remove("BUILDKIT_HOST");
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        run(self.command().args(args))
    }
}

#[test]
fn buildx_builds_through_its_remote_driver() {
    let daemon = Daemon::start();
    import_base(&daemon);
    let buildx = Buildx::new(&daemon);
    let dir = context(&[
        ("Dockerfile", "FROM alpine\nCOPY a /a\nRUN echo from buildx && cat /a > /b\n"),
        ("a", "x"),
    ]);
    let tree = daemon.path("tree");
    let build = |output: &str| {
        buildx.run(&[
            "build",
            "--builder",
            "ours",
            "--progress",
            "plain",
            "--output",
            output,
            text(dir.path()),
        ])
    };
    let first = build(&format!("type=local,dest={}", text(&tree))).ok();
    assert!(first.stderr.contains("[2/3] COPY a /a"), "{}", first.stderr);
    assert!(first.stderr.contains("from buildx"), "{}", first.stderr);
    assert_eq!(fs::read_to_string(tree.join("b")).expect("made by RUN"), "x");
    let oci = daemon.path("x.oci.tar");
    let second = build(&format!("type=oci,dest={}", text(&oci))).ok();
    assert!(second.stderr.contains("CACHED"), "{}", second.stderr);
    run(peer("skopeo").args(["inspect", "--config", &format!("oci-archive:{}", text(&oci))])).ok();
    build(&format!("type=tar,dest={}", text(&daemon.path("x.tar")))).ok();
}

#[test]
fn buildx_shows_the_excerpt_of_an_error() {
    let daemon = Daemon::start();
    import_base(&daemon);
    let buildx = Buildx::new(&daemon);
    let dir = context(&[("Dockerfile", "FROM alpine\nRUN echo last words && exit 3\n")]);
    let ran = buildx.run(&["build", "--builder", "ours", "--progress", "plain", text(dir.path())]);
    assert_ne!(ran.code, Some(0));
    for expected in ["last words", "exit code: 3", "Dockerfile:2", ">>> RUN echo last words"] {
        assert!(ran.stderr.contains(expected), "no {expected:?} in:\n{}", ran.stderr);
    }
}

#[test]
fn ctr_lists_exports_and_imports() {
    let daemon = Daemon::start();
    import_base(&daemon);
    let dir = context(&[("Dockerfile", "FROM alpine\nRUN echo hello > /file\n")]);
    daemon.buildctl(&["build", "-t", "forctr:v1", text(dir.path())]).ok();
    let socket = daemon.path("sock");
    let ctr = |args: &[&str]| run(peer("ctr2").args(["--address", text(&socket)]).args(args));
    let name = "docker.io/library/forctr:v1";
    let listed = ctr(&["images", "ls", "-q"]).ok().stdout;
    assert!(listed.lines().any(|line| line == name), "{listed}");
    let archive = daemon.path("ctr.tar");
    ctr(&["images", "export", text(&archive), name]).ok();
    ctr(&["images", "rm", "--sync", name]).ok();
    ctr(&["images", "import", text(&archive)]).ok();
    let listed = ctr(&["images", "ls", "-q"]).ok().stdout;
    assert!(listed.lines().any(|line| line == name), "{listed}");
}
