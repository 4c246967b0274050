//! Secrets (SEC-01 to SEC-09): a marker is planted, and looked for in all that a build leaves behind.

use std::{fs, path::Path, process::Command};

use buildd_tests::{
    daemon::{Daemon, Ran, run},
    files::{FileServer, Repository},
    fixture::{context, import_base, text},
};

/// Fits in no other text by chance.
const MARKER: &str = "planted-marker-8254";

fn ready() -> (Daemon, tempfile::TempDir) {
    let daemon = Daemon::start();
    import_base(&daemon);
    (daemon, tempfile::tempdir().expect("a folder"))
}

/// A secret's flag, its bytes in a file.
fn secret(folder: &Path, id: &str, bytes: &[u8]) -> String {
    let file = folder.join(id);
    fs::write(&file, bytes).expect("a secret");
    format!("id={id},src={}", text(&file))
}

fn build(daemon: &Daemon, dockerfile: &str, flags: &[&str]) -> (Ran, tempfile::TempDir) {
    let dir = context(&[("Dockerfile", dockerfile)]);
    let out = tempfile::tempdir().expect("a folder");
    let output = format!("type=local,dest={}", text(out.path()));
    let args = [&["build", "--progress", "plain", "-o", &output], flags, &[text(dir.path())]].concat();
    (daemon.buildctl(&args), out)
}

fn read(tree: &tempfile::TempDir, path: &str) -> String {
    fs::read_to_string(tree.path().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Files below a place that hold the marker.
fn holding(place: &Path) -> String {
    run(Command::new("grep").args(["-rla", MARKER]).arg(place)).stdout
}

fn is_nowhere(daemon: &Daemon) {
    for place in ["root", "state"] {
        assert_eq!(holding(&daemon.path(place)), "", "below {place}");
    }
    assert!(!daemon.log().contains(MARKER), "in the log");
}

#[test]
fn sec_01_and_02_a_secret_is_in_nothing_that_a_build_leaves() {
    let (daemon, folder) = ready();
    let flag = secret(folder.path(), "token", MARKER.as_bytes());
    let uses = "RUN --mount=type=secret,id=token,env=TOKEN --mount=type=secret,id=token,target=/t \
                test \"$TOKEN\" = \"$(cat /t)\" && echo ${#TOKEN} > /length\nRUN ! test -e /t && env > /env\n";
    let (ran, out) = build(&daemon, &format!("FROM alpine\n{uses}"), &["--secret", &flag]);
    let said = ran.ok();
    assert_eq!(read(&out, "length").trim(), MARKER.len().to_string());
    assert!(holding(out.path()).is_empty() && !said.stderr.contains(MARKER));
    // A step that fails with it in hand: neither its error nor what is kept of it tells.
    let fails = "FROM alpine\nRUN --mount=type=secret,id=token,env=TOKEN test \"$TOKEN\" = other\n";
    let (failed, _) = build(&daemon, fails, &["--secret", &flag]);
    let failed = failed.fails(1, &["exit code: 1"]);
    assert!(!failed.stderr.contains(MARKER), "{}", failed.stderr);
    // An image with it in its making, and what a question about its making answers.
    let dir = context(&[("Dockerfile", &format!("FROM alpine\n{uses}"))]);
    let archive = folder.path().join("image.tar");
    let output = format!("type=oci,compression=uncompressed,dest={}", text(&archive));
    daemon.buildctl(&["build", "--secret", &flag, "-o", &output, text(dir.path())]).ok();
    assert_eq!(run(Command::new("grep").args(["-ca", MARKER]).arg(&archive)).stdout.trim(), "0");
    is_nowhere(&daemon);
}

#[test]
fn sec_03_the_value_of_a_secret_is_no_part_of_a_key() {
    let (daemon, folder) = ready();
    let step = "FROM alpine\nRUN --mount=type=secret,id=token cat /run/secrets/token | wc -c > /length\n";
    for (value, cached) in [("one", 0), ("another", 1)] {
        let flag = secret(folder.path(), "token", value.as_bytes());
        let (ran, out) = build(&daemon, step, &["--secret", &flag]);
        assert_eq!(ran.ok().stderr.matches("CACHED").count(), cached, "{value}");
        assert_eq!(read(&out, "length").trim(), "3");
    }
}

#[test]
fn sec_04_secrets_have_their_exact_bytes_and_a_bound() {
    let (daemon, folder) = ready();
    let hash = "RUN --mount=type=secret,id=token,required sha256sum < /run/secrets/token > /hash\n";
    let largest: Vec<u8> = (0..500 * 1024_u32).map(|number| (number % 251) as u8).collect();
    for bytes in [&largest[..], b"", b"\0\xff\n\r\n"] {
        let flag = secret(folder.path(), "token", bytes);
        let (ran, out) = build(&daemon, &format!("FROM alpine\n{hash}"), &["--no-cache", "--secret", &flag]);
        ran.ok();
        let wanted = run(Command::new("sha256sum").arg(folder.path().join("token"))).ok().stdout;
        assert_eq!(read(&out, "hash")[..64], wanted[..64], "{} bytes", bytes.len());
    }
    let flag = secret(folder.path(), "token", &[&largest[..], b"x"].concat());
    let (ran, _) = build(&daemon, &format!("FROM alpine\n{hash}"), &["--no-cache", "--secret", &flag]);
    ran.fails(1, &["secret token is larger than 512000 bytes"]);
    let (ran, _) = build(&daemon, &format!("FROM alpine\n{hash}"), &["--no-cache"]);
    ran.fails(1, &["token", "not found"]);
    let optional = "RUN --mount=type=secret,id=token test ! -e /run/secrets/token\n";
    build(&daemon, &format!("FROM alpine\n{optional}"), &[]).0.ok();
}

#[test]
fn sec_07_who_asks_for_a_url_is_shown_to_nobody() {
    let (daemon, folder) = ready();
    let server = FileServer::start();
    // base64 of "me:planted-marker-8254"
    let wants = "Basic bWU6cGxhbnRlZC1tYXJrZXItODI1NA==";
    server.serve_repositories(folder.path().to_owned(), Some(wants));
    Repository::new(folder.path(), "a").commit(&[("Dockerfile", "FROM scratch\nCOPY f /\n"), ("f", "mine")]);
    let url = |word: &str| format!("http://me:{word}@{}/git/a.git#main", server.authority());
    let out = folder.path().join("out");
    let output = format!("type=local,dest={}", text(&out));
    let ran = daemon.buildctl(&["build", "--progress", "plain", "-o", &output, &url(MARKER)]).ok();
    assert_eq!(fs::read_to_string(out.join("f")).expect("the file"), "mine");
    assert!(!ran.stderr.contains(MARKER), "{}", ran.stderr);
    let ran =
        daemon.buildctl(&["build", "--progress", "plain", "--no-cache", &url("planted-marker-8254-not")]);
    assert_ne!(ran.code, Some(0));
    assert!(!ran.stderr.contains(MARKER), "{}", ran.stderr);
    is_nowhere(&daemon);
}

#[test]
fn sec_08_proxies_are_in_no_key_and_no_history() {
    let (daemon, _) = ready();
    let step = "FROM alpine\nRUN test -z \"$HTTP_PROXY\" || echo given > /given\n";
    for (number, cached) in [(1, 0), (2, 1)] {
        let proxy = format!("HTTP_PROXY=http://me:{MARKER}-{number}@proxy.example:3128");
        let (ran, out) = build(&daemon, step, &["--build-arg", &proxy]);
        let ran = ran.ok();
        assert_eq!(ran.stderr.matches("CACHED").count(), cached, "{}", ran.stderr);
        assert!(!ran.stderr.contains(MARKER));
        assert_eq!(read(&out, "given"), "given\n");
    }
    let dir = context(&[("Dockerfile", step)]);
    let proxy = format!("HTTP_PROXY=http://me:{MARKER}@proxy.example:3128");
    daemon.buildctl(&["build", "--build-arg", &proxy, "-t", "proxied", text(dir.path())]).ok();
    is_nowhere(&daemon);
}

#[test]
fn sec_09_and_12_a_step_dumps_no_core_and_sees_no_other_steps_secrets() {
    let (daemon, folder) = ready();
    let flag = secret(folder.path(), "token", MARKER.as_bytes());
    let step = "RUN --mount=type=secret,id=token grep -c /run/secrets /proc/mounts > /with && ulimit -c > /core \
                && ulimit -Hc >> /core\n\
                RUN ! grep /run/secrets /proc/mounts && ! test -e /run/secrets && ls -d /proc/[0-9]* | wc -l > /processes\n";
    let (ran, out) = build(&daemon, &format!("FROM alpine\n{step}"), &["--secret", &flag]);
    ran.ok();
    assert_eq!((read(&out, "with").as_str(), read(&out, "core").as_str()), ("1\n", "0\n0\n"));
    let processes: usize = read(&out, "processes").trim().parse().expect("a number");
    assert!(processes < 8, "a step sees its own processes alone, not {processes}");
}
