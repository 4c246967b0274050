//! Frontends as images: a program in a container reads the text of a build, whoever drives the build.

use std::{fs, path::Path};

use buildd_tests::{
    daemon::{Daemon, Ran, binaries, eventually, run},
    fixture::{context, import_base, text},
};
use tempfile::TempDir;

use crate::clients::Buildx;

const IMAGE: &str = "example.test/team/frontend:v1";
const OFFLINE: &str = "example.test/team/offline:v1";

/// The program and the libraries that it is linked with, as the files of an image.
fn program() -> TempDir {
    let dir = context(&[]);
    let program = binaries().join("frontend");
    fs::copy(&program, dir.path().join("frontend")).expect("built with the workspace");
    let linked = run(std::process::Command::new("ldd").arg(&program)).ok().stdout;
    for path in linked.split_whitespace().filter(|word| word.starts_with('/')) {
        let place = dir.path().join("root").join(&path[1..]);
        fs::create_dir_all(place.parent().expect("inside")).expect("a folder");
        fs::copy(path, place).expect("a library");
    }
    dir
}

/// A daemon with the base image, and the frontend in two images.
fn daemon() -> Daemon {
    let daemon = Daemon::start();
    import_base(&daemon);
    let dir = program();
    for (image, more) in [
        (IMAGE, "USER 1000:1000\nWORKDIR /work\n"),
        (
            OFFLINE,
            "LABEL moby.buildkit.frontend.network.none=true \
             moby.buildkit.frontend.caps=moby.buildkit.frontend.inputs,moby.buildkit.frontend.contexts\n",
        ),
    ] {
        let dockerfile = format!(
            "FROM scratch\nCOPY root /\nCOPY frontend /frontend\nENV MARK=here\n{more}ENTRYPOINT [\"/frontend\"]\n"
        );
        fs::write(dir.path().join("Dockerfile"), dockerfile).expect("written");
        daemon.buildctl(&["build", "-q", "-t", image, text(dir.path())]).ok();
    }
    daemon
}

/// A text of the frontend of the tests: not a Dockerfile.
fn project(word: &str) -> TempDir {
    context(&[
        ("Dockerfile", &format!("# syntax={IMAGE} {word}\nthis is no Dockerfile\n")),
        ("list", "second\n"),
        (
            "real",
            "FROM alpine AS first\nARG WHO=nobody\nRUN echo $WHO > /who\nLABEL a=b\nFROM first AS second\nCOPY list /\n",
        ),
    ])
}

fn to(out: &Path) -> String {
    format!("type=local,dest={}", text(out))
}

fn check(out: &Path, who: &str) {
    assert_eq!(fs::read_to_string(out.join("who")).expect("made by RUN"), format!("{who}\n"));
    assert_eq!(fs::read_to_string(out.join("list")).expect("copied"), "second\n");
}

#[test]
fn an_image_reads_the_text_of_a_build() {
    let daemon = daemon();
    let dir = project("");
    let out = daemon.path("by-directive");
    let args = ["build", "--progress", "plain", "--build-arg", "WHO=me", "-o", &to(&out), text(dir.path())];
    let ran = daemon.buildctl(&args).ok();
    check(&out, "me");
    for told in [
        "resolve image config for docker-image://example.test",
        "run frontend example.test",
        "reading the list",
    ] {
        assert!(ran.stderr.contains(told), "no {told:?} in:\n{}", ran.stderr);
    }
    daemon.buildctl(&["build", "-q", "-t", "made:v1", text(dir.path())]).ok();
    let inspected = daemon.buildctl(&["image", "inspect", "made:v1"]).ok().stdout;
    assert!(inspected.contains("\"a\": \"b\""), "the config came along: {inspected}");

    let out = daemon.path("by-name");
    let (context, dockerfile) =
        (format!("context={}", text(dir.path())), format!("dockerfile={}", text(dir.path())));
    let by_name = |source: &str, out: &Path| {
        let source = format!("source={source}");
        let args = ["build", "--frontend", "gateway.v0", "--opt", &source, "--opt", "build-arg:WHO=you"];
        let rest = ["--local", &context, "--local", &dockerfile, "-o", &to(out)];
        daemon.buildctl(&[&args[..], &rest[..]].concat())
    };
    by_name(IMAGE, &out).ok();
    check(&out, "you");
    // The frontend that is built in reads the text and finds whose it is.
    let out = daemon.path("by-the-built-in");
    by_name("docker/dockerfile:1", &out).ok();
    check(&out, "you");

    let buildx = Buildx::new(&daemon);
    let out = daemon.path("by-buildx");
    let args = ["build", "--builder", "ours", "--progress", "plain", "--build-arg", "WHO=x", "-o", &to(&out)];
    let ran = buildx.run(&[&args[..], &[text(dir.path())]].concat()).ok();
    check(&out, "x");
    assert!(ran.stderr.contains("reading the list"), "{}", ran.stderr);
}

#[test]
fn the_container_is_what_the_image_says() {
    let daemon = daemon();
    let facts = |image: &str| {
        let out = daemon.path("facts");
        let dir = context(&[("Dockerfile", &format!("# syntax={image} self\n"))]);
        daemon.buildctl(&["build", "-q", "-o", &to(&out), text(dir.path())]).ok();
        fs::read_to_string(out.join("facts")).expect("written by the frontend")
    };
    let all = facts(IMAGE);
    for fact in ["uid 1000", "cwd /work", "mark here", "product buildkit", "workers true", "session true"] {
        assert!(all.lines().any(|line| line == fact), "no {fact:?} in:\n{all}");
    }
    assert!(facts(OFFLINE).contains("interfaces 1\n"), "nothing but its loopback");
}

#[test]
fn a_frontend_that_fails_is_told_by_name_with_its_last_words() {
    let daemon = daemon();
    let build = |word: &str| -> Ran {
        let dir = project(word);
        daemon.buildctl(&["build", "--progress", "plain", "-t", "never", text(dir.path())])
    };
    build("exit").fails(1, &[IMAGE, "exit code: 3", "its last words", "a word before the end"]);
    build("silent").fails(1, &[IMAGE, "ended without a result"]);
    build("garbage").fails(1, &[IMAGE, "closed its connection without a result"]);
    build("error").fails(1, &["the text is not to my taste"]);
    build("host").fails(1, &["network.host is not allowed"]);
    build("nest").fails(1, &[IMAGE, "more than 8 deep"]);
    // What it returned counts, although it does not leave.
    let dir = project("linger");
    daemon.buildctl(&["build", "-q", "-t", "lingered", text(dir.path())]).ok();
    let missing = context(&[("Dockerfile", "# syntax=127.0.0.1:1/no/such:v1\n")]);
    daemon.buildctl(&["build", "-t", "never", text(missing.path())]).fails(1, &["127.0.0.1:1/no/such:v1"]);
    let wants = |image: &str| {
        let dir = context(&[("Dockerfile", &format!("# syntax={image} self\n"))]);
        let opt = "frontend.caps=moby.buildkit.frontend.contexts";
        daemon.buildctl(&["build", "--opt", opt, "-t", "never", text(dir.path())])
    };
    wants(OFFLINE).ok();
    wants(IMAGE).fails(1, &["unsupported frontend capability moby.buildkit.frontend.contexts"]);
    let mounts = || fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let root = daemon.path("root/snapshots");
    eventually("the end of the containers", || !mounts().contains(text(&root)));
}
