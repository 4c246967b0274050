//! The main job: Dockerfiles built by our daemon, containers run from the images.

use std::process::Command;

use buildd_tests::{
    daemon::{Daemon, run},
    fixture::{context, import_base, repository, text},
};

const SEED: &str = "FROM alpine\nRUN echo \"built with BuildKit!\" >  file\nCMD [\"/bin/sh\"]\n";

#[test]
fn the_seed_builds_and_runs() {
    let daemon = Daemon::start();
    import_base(&daemon);
    let dir = context(&[("Dockerfile", SEED)]);
    daemon.buildctl(&["build", "-t", "alpine:v1", text(dir.path())]).ok();
    let listed = daemon.buildctl(&["run", "--rm", "alpine:v1", "ls", "/"]).ok().stdout;
    for name in ["bin", "etc", "file", "proc"] {
        assert!(listed.lines().any(|line| line == name), "{name} is not in:\n{listed}");
    }
    assert_eq!(
        daemon.buildctl(&["run", "--rm", "alpine:v1", "cat", "/file"]).ok().stdout,
        "built with BuildKit!\n"
    );
    let images = daemon.buildctl(&["image", "ls", "-q"]).ok().stdout;
    assert!(images.lines().any(|line| line == "docker.io/library/alpine:v1"), "{images}");
}

#[test]
fn a_second_build_is_cached_and_has_the_same_digest() {
    let daemon = Daemon::start();
    import_base(&daemon);
    let dir =
        context(&[("Dockerfile", "FROM alpine\nCOPY a.txt /\nRUN date +%N > /when\n"), ("a.txt", "one")]);
    let path = text(dir.path());
    let build = || daemon.buildctl(&["build", "-q", "-t", "cached", path]).ok().stdout;
    let first = build();
    assert!(first.starts_with("sha256:"), "{first}");
    assert_eq!(build(), first, "an unchanged build must be the same image");
    std::fs::write(dir.path().join("a.txt"), "two").expect("edit the context");
    assert_ne!(build(), first, "an edited file must reach the image");
    let plain = daemon.buildctl(&["build", "--progress", "plain", "-t", "cached", path]).ok();
    assert!(plain.stderr.contains("CACHED"), "{}", plain.stderr);
}

#[test]
fn stages_arguments_and_chown() {
    let daemon = Daemon::start();
    import_base(&daemon);
    let dockerfile = "ARG BASE=alpine\nFROM $BASE AS one\nARG WHO=nobody\nWORKDIR /w\nCOPY --chown=www-data:users --chmod=640 in.txt /w/\n\
                      RUN echo \"$WHO\" > who && ls -ln in.txt | tr -s ' ' | cut -d' ' -f1,3,4 > mode\n\
                      FROM unused AS never\nRUN false\n\
                      FROM alpine\nENV GREETING=hi\nCOPY --from=one /w /w\nCMD [\"sh\", \"-c\", \"cat /w/who /w/mode; echo $GREETING\"]\n";
    let dir = context(&[("Dockerfile", dockerfile), ("in.txt", "x")]);
    daemon.buildctl(&["build", "-t", "staged", "--build-arg", "WHO=me", text(dir.path())]).ok();
    assert_eq!(daemon.buildctl(&["run", "--rm", "staged"]).ok().stdout, "me\n-rw-r----- 82 100\nhi\n");
}

#[test]
fn ignored_files_stay_at_home() {
    let daemon = Daemon::start();
    import_base(&daemon);
    let dir = context(&[
        ("Dockerfile", "FROM alpine\nCOPY . /src\n"),
        (".dockerignore", "*.log\n!keep.log\ntarget\n"),
        ("a.txt", "a"),
        ("b.log", "b"),
        ("keep.log", "k"),
        ("target/big", "t"),
    ]);
    daemon.buildctl(&["build", "-t", "ignored", text(dir.path())]).ok();
    let files = daemon.buildctl(&["run", "--rm", "ignored", "find", "/src", "-type", "f"]).ok().stdout;
    let mut files: Vec<&str> = files.lines().collect();
    files.sort_unstable();
    assert_eq!(files, ["/src/.dockerignore", "/src/Dockerfile", "/src/a.txt", "/src/keep.log"]);
}

#[test]
fn the_examples_build() {
    let daemon = Daemon::start();
    import_base(&daemon);
    let examples = repository().join("examples");
    let path = |name: &str| examples.join(name).to_str().expect("UTF-8").to_owned();
    daemon.buildctl(&["build", "-t", "multi", &path("multi-stage")]).ok();
    assert_eq!(daemon.buildctl(&["run", "--rm", "multi"]).ok().stdout, "hello\nfrom the build context\n");

    daemon.buildctl(&["build", "-t", "mount", &path("cache-mount")]).ok();
    assert_eq!(daemon.buildctl(&["run", "--rm", "mount"]).ok().stdout, "1\n");

    let secret = context(&[("token.txt", "planted-marker-7361")]);
    let flag = format!("id=token,src={}", secret.path().join("token.txt").display());
    daemon.buildctl(&["build", "-t", "secret", "--secret", &flag, &path("secrets")]).ok();
    let digest = daemon.buildctl(&["run", "--rm", "secret"]).ok().stdout;
    let hash = run(Command::new("sh").arg("-c").arg("printf planted-marker-7361 | sha256sum")).ok().stdout;
    assert_eq!(digest, hash, "the step read the secret");
    let found = run(Command::new("grep")
        .args(["-rl", "planted-marker-7361"])
        .arg(daemon.path("root"))
        .arg(daemon.path("state")));
    assert_eq!(found.code, Some(1), "the secret lies in {}", found.stdout);
}
