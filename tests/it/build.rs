//! The main job: Dockerfiles built by our daemon, looked at through exports to the client.

use std::{fs, process::Command};

use buildd_tests::{
    daemon::{Daemon, run},
    fixture::{context, import_base, repository, text},
    shared::Shared,
};
use tempfile::TempDir;

/// The daemon of the tests that leave it as it was.
static SHARED: Shared = Shared::new();

const SEED: &str = "FROM alpine\nRUN echo \"built with BuildKit!\" >  file\nCMD [\"/bin/sh\"]\n";

/// Builds with more flags and gives the tree.
fn tree(daemon: &Daemon, flags: &[&str], path: &str) -> TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let output = format!("type=local,dest={}", text(dir.path()));
    daemon.buildctl(&[&["build", "-o", &output], flags, &[path]].concat()).ok();
    dir
}

fn read(tree: &TempDir, path: &str) -> String {
    fs::read_to_string(tree.path().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

#[test]
fn the_seed_builds() {
    let daemon = SHARED.with_base();
    let dir = context(&[("Dockerfile", SEED)]);
    daemon.buildctl(&["build", "-t", "alpine:v1", text(dir.path())]).ok();
    let images = daemon.buildctl(&["image", "ls", "-q"]).ok().stdout;
    assert!(images.lines().any(|line| line == "docker.io/library/alpine:v1"), "{images}");
    let built = tree(&daemon, &[], text(dir.path()));
    assert_eq!(read(&built, "file"), "built with BuildKit!\n");
    for stub in ["etc/resolv.conf", "etc/hosts"] {
        assert!(!built.path().join(stub).exists(), "the mount point {stub} is in the image");
    }
}

#[test]
fn a_second_build_is_cached_and_has_the_same_digest() {
    let daemon = SHARED.with_base();
    let dir =
        context(&[("Dockerfile", "FROM alpine\nCOPY a.txt /\nRUN date +%N > /when\n"), ("a.txt", "one")]);
    let path = text(dir.path());
    let build = || daemon.buildctl(&["build", "-q", "-t", "cached", path]).ok().stdout;
    let first = build();
    assert!(first.starts_with("sha256:"), "{first}");
    assert_eq!(build(), first, "an unchanged build must be the same image");
    fs::write(dir.path().join("a.txt"), "two").expect("edit the context");
    assert_ne!(build(), first, "an edited file must reach the image");
    let plain = daemon.buildctl(&["build", "--progress", "plain", "-t", "cached", path]).ok();
    assert!(plain.stderr.contains("CACHED"), "{}", plain.stderr);
}

#[test]
fn an_image_just_built_is_a_base() {
    let daemon = SHARED.with_base();
    let one = context(&[("Dockerfile", "FROM alpine\nRUN echo one > /one\n")]);
    daemon.buildctl(&["build", "-t", "base:1", text(one.path())]).ok();
    let two = context(&[("Dockerfile", "FROM base:1\nRUN cat /one > /two\n")]);
    assert_eq!(read(&tree(&daemon, &[], text(two.path())), "two"), "one\n");
}

#[test]
fn stages_arguments_and_chown() {
    let daemon = SHARED.with_base();
    let dockerfile = "ARG BASE=alpine\nFROM $BASE AS one\nARG WHO=nobody\nWORKDIR /w\n\
                      COPY --chown=www-data:users --chmod=640 in.txt /w/\n\
                      RUN echo \"$WHO\" > who && ls -ln in.txt | tr -s ' ' | cut -d' ' -f1,3,4 > mode\n\
                      FROM unused AS never\nRUN false\n\
                      FROM alpine\nENV GREETING=hi\nCOPY --from=one /w /w\nRUN echo $GREETING > /w/greeting\n";
    let dir = context(&[("Dockerfile", dockerfile), ("in.txt", "x")]);
    let built = tree(&daemon, &["--build-arg", "WHO=me"], text(dir.path()));
    assert_eq!(read(&built, "w/who"), "me\n");
    assert_eq!(read(&built, "w/mode"), "-rw-r----- 82 100\n");
    assert_eq!(read(&built, "w/greeting"), "hi\n");
}

#[test]
fn ignored_files_stay_at_home() {
    let daemon = SHARED.with_base();
    let dir = context(&[
        ("Dockerfile", "FROM scratch\nCOPY . /src/\n"),
        (".dockerignore", "*.log\n!keep.log\ntarget\n"),
        ("a.txt", "a"),
        ("b.log", "b"),
        ("keep.log", "k"),
        ("target/big", "t"),
    ]);
    let built = tree(&daemon, &[], text(dir.path()));
    let found = run(Command::new("find").arg("-type").arg("f").current_dir(built.path())).ok().stdout;
    let mut files: Vec<&str> = found.lines().collect();
    files.sort_unstable();
    assert_eq!(files, ["./src/.dockerignore", "./src/Dockerfile", "./src/a.txt", "./src/keep.log"]);
}

#[test]
fn a_step_is_sandboxed() {
    let daemon = SHARED.with_base();
    let dockerfile = "FROM alpine\nRUN grep -E '^(Seccomp|CapBnd|CapEff|CapAmb):' /proc/self/status > /status && \
                      ls /proc/self/fd | sort -n | head -3 | tr '\\n' ' ' > /fds && \
                      ls /proc/self/fd | wc -l > /count && \
                      { echo 1 > /proc/sys/kernel/domainname && echo writable || echo refused; } > /sys-test 2>/dev/null; \
                      hostname > /name\n";
    let dir = context(&[("Dockerfile", dockerfile)]);
    let built = tree(&daemon, &[], text(dir.path()));
    let status = read(&built, "status");
    let field = |name: &str| {
        let line =
            status.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {status}"));
        line.split_whitespace().nth(1).expect("a value").to_owned()
    };
    assert_eq!(field("Seccomp:"), "2");
    // The fourteen of docker without NET_RAW and AUDIT_WRITE.
    assert_eq!(field("CapBnd:"), "00000000880405fb");
    assert_eq!(field("CapEff:"), field("CapBnd:"));
    assert_eq!(field("CapAmb:"), "0000000000000000");
    assert_eq!(read(&built, "fds"), "0 1 2 ");
    assert_eq!(read(&built, "count").trim(), "4", "0, 1, 2 and the folder that is listed");
    assert_eq!(read(&built, "sys-test"), "refused\n");
    assert_eq!(read(&built, "name"), "buildkitsandbox\n");
}

#[test]
fn a_careful_daemon_gives_steps_no_network() {
    let config = context(&[("buildd.toml", "[worker]\ndefault-network = \"none\"\n")]);
    let file = config.path().join("buildd.toml");
    let daemon = Daemon::start_with(&["--config", text(&file)]);
    import_base(&daemon);
    let dir = context(&[("Dockerfile", "FROM alpine\nRUN ls /sys/class/net > /net\n")]);
    assert_eq!(read(&tree(&daemon, &[], text(dir.path())), "net"), "lo\n");
}

#[test]
fn the_examples_build() {
    let daemon = SHARED.with_base();
    let examples = repository().join("examples");
    let path = |name: &str| examples.join(name).to_str().expect("UTF-8").to_owned();
    let multi = tree(&daemon, &[], &path("multi-stage"));
    assert_eq!(read(&multi, "out.txt"), "hello\nfrom the build context\n");
    assert_eq!(read(&tree(&daemon, &[], &path("cache-mount")), "builds"), "1\n");

    let secret = context(&[("token.txt", "planted-marker-7361")]);
    let flag = format!("id=token,src={}", secret.path().join("token.txt").display());
    let built = tree(&daemon, &["--secret", &flag], &path("secrets"));
    let hash = run(Command::new("sh").arg("-c").arg("printf planted-marker-7361 | sha256sum")).ok().stdout;
    assert_eq!(read(&built, "token.sha256"), hash, "the step read the secret");
    let found = run(Command::new("grep")
        .args(["-rl", "planted-marker-7361"])
        .arg(daemon.path("root"))
        .arg(daemon.path("state")));
    assert_eq!(found.code, Some(1), "the secret lies in {}", found.stdout);
}

#[test]
fn the_component_that_changed_is_named() {
    let daemon = Daemon::start();
    import_base(&daemon);
    for name in ["one", "two"] {
        let dir = context(&[("Dockerfile", &format!("FROM alpine\nRUN echo {name} > /name\n"))]);
        daemon.buildctl(&["build", "-t", name, text(dir.path())]).ok();
    }
    let file = |flag: &str| {
        format!("ARG BASE=one\nFROM $BASE\nARG WHO\nENV SET=1\nRUN {flag} cat /name\nCOPY . /all/\n")
    };
    // What differs from the first build; the words for RUN, for COPY.
    let stays = ("", "");
    for (flags, flag, files, (run, copy)) in [
        (&[][..], "", &["a", "d/b"][..], stays),
        (&["--build-arg", "WHO=you"], "", &["a", "d/b"], ("variable WHO is new", "")),
        (&["--network", "none"], "", &["a", "d/b"], ("the network changed", "")),
        (&["--add-host", "h:192.0.2.1"], "", &["a", "d/b"], ("host h is new", "")),
        (&[], "--mount=type=tmpfs,target=/t", &["a", "d/b"], ("mount /t is new", "")),
        (
            &["--build-arg", "BASE=two"],
            "",
            &["a", "d/b"],
            ("what it stands on changed ([1/3] FROM docker.io/library/two:latest", ""),
        ),
        (&[], "", &["a", "d/c"], ("", "file /d/c is new")),
        (&[], "", &["a"], ("", "file /d/b is gone")),
    ] {
        daemon.buildctl(&["prune", "--all"]).ok();
        let build = |flags: &[&str], flag: &str, files: &[&str]| {
            let text_of = file(flag);
            let mut all =
                vec![("Dockerfile", text_of.as_str()), (".dockerignore", "Dockerfile\n.dockerignore\n")];
            all.extend(files.iter().map(|name| (*name, "x")));
            let dir = context(&all);
            let args = ["build", "--progress", "plain", "--explain-cache"];
            daemon.buildctl(&[&args, flags, &[text(dir.path())]].concat()).ok().stderr
        };
        build(&[], "", &["a", "d/b"]);
        let said = build(flags, flag, files);
        let of = |step: &str| {
            said.lines().find(|line| line.contains("not cached") && line.contains(step)).unwrap_or("")
        };
        assert!(
            of("[2/3] RUN").contains(run) && of("[2/3] RUN").is_empty() == run.is_empty(),
            "{run}: {said}"
        );
        assert!(of("[3/3] COPY").contains(copy), "{copy}: {said}");
    }
}

#[test]
fn a_step_that_runs_again_says_why() {
    let daemon = Daemon::start();
    import_base(&daemon);
    let build = |command: &str, file: &str, flags: &[&str]| {
        let dockerfile = format!("FROM alpine\nCOPY file /\nRUN {command}\nRUN cat /file\n");
        let dir = context(&[("Dockerfile", &dockerfile), ("file", file)]);
        let mut args =
            vec!["build", "--progress", "plain", "--explain-cache", "-t", "explained", text(dir.path())];
        args.extend(flags);
        let said = daemon.buildctl(&args).ok().stderr;
        let of = |step: &str| {
            let start = format!("warning: {step}: not cached: ");
            said.lines().find_map(|line| line.strip_prefix(&start)).unwrap_or("").to_owned()
        };
        [of("[2/4] COPY file /"), of(&format!("[3/4] RUN {command}")), of("[4/4] RUN cat /file")]
    };
    let new = "it was never built here";
    assert_eq!(build("true", "a", &[]), [new, new, new]);
    assert_eq!(build("true", "a", &[]), ["", "", ""]);
    let below = |step: &str| format!("what it stands on changed ({step})");
    let another = "the step itself changed: the command changed; it was [3/4] RUN true";
    assert_eq!(build("echo", "a", &[]), ["", another, &below("[3/4] RUN echo")]);
    let files = "files that it reads changed ([internal] load build context): file /file changed";
    assert_eq!(build("true", "b", &[]), [files, &below("[2/4] COPY file /"), &below("[3/4] RUN true")]);
    let forced = "the build asks to run it whatever the cache knows (--no-cache)";
    assert_eq!(build("true", "b", &["--no-cache"]), [forced, forced, forced]);
}

#[test]
fn an_error_in_a_long_text_is_told_whole() {
    let daemon = SHARED.with_base();
    let comments = format!("# {}\n", "x".repeat(100)).repeat(2000);
    for (last, words) in [
        ("RUM x".to_owned(), ["unknown instruction: RUM", "Dockerfile:2002"]),
        (format!("RUN exit 3 #{}", "y".repeat(30_000)), ["exit code: 3", "Dockerfile:2002"]),
    ] {
        let dir = context(&[("Dockerfile", &format!("FROM alpine\n{comments}{last}\n"))]);
        daemon.buildctl(&["build", text(dir.path())]).fails(1, &words);
    }
}
