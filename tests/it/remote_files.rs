//! Remote files: `ADD` of URLs and contexts at URLs, from a server of our own.

use std::{fs, os::unix::fs::MetadataExt, process::Command};

use buildd_oci::digest::Digest;
use buildd_tests::{
    daemon::{Daemon, Ran, run},
    files::{FileServer, Page},
    fixture::{context, text},
    shared::Shared,
};
use tempfile::TempDir;

/// The daemon of the tests that leave it as it was.
static SHARED: Shared = Shared::new();

const MODIFIED: &str = "Tue, 06 Feb 2001 04:05:06 GMT";

/// Builds a Dockerfile; what was said, and the tree.
fn build(daemon: &Daemon, dockerfile: &str, flags: &[&str]) -> (Ran, TempDir) {
    let dir = context(&[("Dockerfile", dockerfile)]);
    build_at(daemon, text(dir.path()), flags)
}

fn build_at(daemon: &Daemon, path: &str, flags: &[&str]) -> (Ran, TempDir) {
    let out = tempfile::tempdir().expect("a folder");
    let output = format!("type=local,dest={}", text(out.path()));
    let shown: &[&str] = if flags.contains(&"--progress") { &[] } else { &["--progress", "plain"] };
    let args = [&["build", "-o", &output], shown, flags, &[path]].concat();
    (daemon.buildctl(&args), out)
}

fn tar_gz(files: &[(&str, &str)]) -> Vec<u8> {
    let dir = context(files);
    let out =
        dir.path().join("../").join(format!("{}.tgz", dir.path().file_name().expect("a name").display()));
    run(Command::new("tar").arg("-czf").arg(&out).arg("-C").arg(dir.path()).arg(".")).ok();
    let bytes = fs::read(&out).expect("the archive");
    fs::remove_file(out).expect("remove it");
    bytes
}

#[test]
fn a_file_is_added_by_its_url_and_asked_for_once_more() {
    let (daemon, server) = (Daemon::start(), FileServer::start());
    let page = |body: &str, etag: &str| Page::of(body).with("etag", etag).with("last-modified", MODIFIED);
    server.put("/d/a.txt", page("one", "\"1\""));
    let dockerfile = format!("FROM scratch\nADD {} /x/\nADD {0} /named\n", server.url("/d/a.txt?q=1"));
    let (ran, out) = build(&daemon, &dockerfile, &[]);
    ran.ok();
    for path in ["x/a.txt", "named"] {
        assert_eq!(fs::read_to_string(out.path().join(path)).expect(path), "one");
        let meta = fs::metadata(out.path().join(path)).expect(path);
        assert_eq!((meta.mode() & 0o7777, meta.mtime()), (0o600, 981_432_306), "{path}");
    }
    assert_eq!(server.statuses("/d/a.txt"), [200]);
    let ran = build(&daemon, &dockerfile, &[]).0.ok();
    assert_eq!(server.statuses("/d/a.txt"), [200, 304]);
    assert_eq!(ran.stderr.matches("CACHED").count(), 2, "{}", ran.stderr);
    server.put("/d/a.txt", page("two", "\"2\""));
    let out = build(&daemon, &dockerfile, &[]).1;
    assert_eq!(fs::read_to_string(out.path().join("named")).expect("the file"), "two");
    assert_eq!(server.statuses("/d/a.txt"), [200, 304, 200]);
    // What was pruned is fetched again, although the server says that it is as it was.
    daemon.buildctl(&["prune", "--all"]).ok();
    let (ran, out) = build(&daemon, &dockerfile, &[]);
    ran.ok();
    assert_eq!(fs::read_to_string(out.path().join("named")).expect("the file"), "two");
    assert_eq!(server.statuses("/d/a.txt"), [200, 304, 200, 304, 200]);
}

#[test]
fn flags_of_add_apply_to_files_of_servers() {
    let (daemon, server) = (SHARED.bare(), FileServer::start());
    server.put("/a.txt", Page::of("one"));
    server.put("/a.tgz", Page::of(tar_gz(&[("in/a", "packed")])));
    let digest = Digest::of(b"one");
    let dockerfile = format!(
        "FROM scratch\nARG NAME=a\nADD --chmod=640 --chown=7:8 {} /flagged\nADD --checksum={digest} {} /checked\n\
         ADD {} /packed.tgz\nADD --unpack {} /unpacked/\nADD --link {} /linked/\n",
        server.url("/$NAME.txt"),
        server.url("/${NAME}.txt"),
        server.url("/a.tgz"),
        server.url("/a.tgz"),
        server.url("/a.txt"),
    );
    let (ran, out) = build(&daemon, &dockerfile, &[]);
    ran.ok();
    let meta = fs::metadata(out.path().join("flagged")).expect("the file");
    assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (0o640, 7, 8));
    for (path, expected) in [("checked", "one"), ("unpacked/in/a", "packed"), ("linked/a.txt", "one")] {
        assert_eq!(fs::read_to_string(out.path().join(path)).expect(path), expected);
    }
    assert_eq!(fs::read(out.path().join("packed.tgz")).expect("the archive")[..2], [0x1f, 0x8b]);
}

#[test]
fn what_is_not_as_promised_is_refused() {
    let (daemon, server) = (SHARED.bare(), FileServer::start());
    server.put("/a", Page::of("one"));
    server.put("/private", Page { wants: Some("Basic bWU6d29yZA==".into()), ..Page::of("mine") });
    server.put("/loop", Page::redirect("/loop"));
    server.put("/out", Page::redirect("file:///etc/passwd"));
    server.put("/meta", Page::redirect("http://169.254.169.254/latest"));
    let other = Digest::of(b"other");
    for (line, expected) in [
        (
            format!("ADD --checksum={other} {} /", server.url("/a")),
            format!("it is {}, not {other}", Digest::of(b"one")),
        ),
        (format!("ADD {} /", server.url("/missing")), "404".to_owned()),
        (format!("ADD {} /", server.url("/private")), "401".to_owned()),
        (format!("ADD {} /", server.url("/loop")), "more than 10 redirects".to_owned()),
        (format!("ADD {} /", server.url("/out")), "sends us to a file URL".to_owned()),
        (format!("ADD {} /", server.url("/meta")), "169.254.169.254".to_owned()),
        ("ADD http://169.254.169.254/x /".to_owned(), "169.254.169.254".to_owned()),
        (format!("ADD --checksum=abc {} /", server.url("/a")), "invalid checksum".to_owned()),
        (format!("COPY {} /", server.url("/a")), "source can't be a URL for COPY".to_owned()),
    ] {
        build(&daemon, &format!("FROM scratch\n{line}\n"), &[]).0.fails(1, &[&expected]);
    }
    // A name and password in the URL reach their server and are nowhere to be read.
    let url = server.url("/private").replace("http://", "http://me:word@");
    let (ran, out) = build(&daemon, &format!("FROM scratch\nADD {url} /f\n"), &["--progress", "rawjson"]);
    let said = ran.ok();
    assert_eq!(fs::read_to_string(out.path().join("f")).expect("the file"), "mine");
    assert!(
        !format!("{}{}{}", said.stderr, said.stdout, daemon.log()).contains("me:word"),
        "{}",
        said.stderr
    );
}

#[test]
fn a_password_stays_with_its_server_and_a_broken_connection_is_mended() {
    let (daemon, server, other) = (SHARED.bare(), FileServer::start(), FileServer::start());
    other.put("/f", Page::of("far"));
    server.put("/away", Page::redirect(&other.url("/f")));
    server.put("/cut", Page { cut: Some((3, 2)), ..Page::of("whole file") });
    let away = server.url("/away").replace("http://", "http://me:word@");
    let dockerfile = format!("FROM scratch\nADD {away} /far\nADD {} /whole\n", server.url("/cut"));
    let (ran, out) = build(&daemon, &dockerfile, &[]);
    ran.ok();
    assert_eq!(fs::read_to_string(out.path().join("far")).expect("the file"), "far");
    assert_eq!(fs::read_to_string(out.path().join("whole")).expect("the file"), "whole file");
    let seen = |server: &FileServer, path: &str| {
        let asked = server.asked();
        let of = asked.iter().filter(|asked| asked.path == path);
        of.map(|asked| asked.headers.contains_key("authorization")).collect::<Vec<_>>()
    };
    assert_eq!(seen(&server, "/away"), [true]);
    assert_eq!(seen(&other, "/f"), [false]);
    assert_eq!(server.statuses("/cut").len(), 3);
}

#[test]
fn a_context_may_be_an_archive_or_a_dockerfile_of_a_server() {
    let (daemon, server) = (SHARED.bare(), FileServer::start());
    let archive = tar_gz(&[
        ("Dockerfile", "FROM scratch\nCOPY . /all/\n"),
        ("f", "file"),
        ("no", "ignored"),
        (".dockerignore", "no\n"),
        ("sub/Dockerfile", "FROM scratch\nCOPY g /\n"),
        ("sub/g", "deeper"),
    ]);
    server.put("/ctx.tar.gz", Page::of(archive));
    server.put(
        "/Dockerfile",
        Page::of("FROM scratch\nADD http://x.invalid/?unused /never\nFROM scratch\nLABEL a=b\n"),
    );
    let (ran, out) = build_at(&daemon, &server.url("/ctx.tar.gz"), &[]);
    ran.ok();
    assert_eq!(fs::read_to_string(out.path().join("all/f")).expect("the file"), "file");
    assert!(!out.path().join("all/no").exists(), "what the ignore file names stays away");
    let (ran, out) = build_at(&daemon, &server.url("/ctx.tar.gz"), &["--opt", "contextsubdir=sub"]);
    ran.ok();
    assert_eq!(fs::read_to_string(out.path().join("g")).expect("the file"), "deeper");
    build_at(&daemon, &server.url("/Dockerfile"), &[]).0.ok();
    build_at(&daemon, &server.url("/gone.tar"), &[]).0.fails(1, &["404"]);
}
