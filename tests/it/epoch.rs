//! `SOURCE_DATE_EPOCH` that names a context or a stage: the steps see a number, and no file is newer.

use std::{fs, os::unix::fs::MetadataExt, process::Command};

use buildd_tests::{
    daemon::{Daemon, run},
    files::{FileServer, Page, Repository},
    fixture::{context, import_base, text},
};

/// What a build told its step of the time, and the time of the file it made.
fn built(daemon: &Daemon, path: &str, flags: &[&str]) -> (String, i64) {
    let out = tempfile::tempdir().expect("a folder");
    let output = format!("type=local,dest={}", text(out.path()));
    let mut command = daemon.command("buildctl");
    command.env_remove("SOURCE_DATE_EPOCH").args(["build", "-o", &output]).args(flags).arg(path);
    run(&mut command).ok();
    let file = out.path().join("told");
    let told = fs::read_to_string(&file).expect("made by RUN");
    (told.trim_end().to_owned(), fs::metadata(&file).expect("the same").mtime())
}

const STEP: &str = "FROM alpine\nARG SOURCE_DATE_EPOCH\nRUN echo \"$SOURCE_DATE_EPOCH\" > /told\n";
const CONTEXT: [&str; 2] = ["--build-arg", "SOURCE_DATE_EPOCH=context"];

#[test]
fn a_repository_has_the_time_of_its_commit() {
    let (daemon, server) = (Daemon::start(), FileServer::start());
    import_base(&daemon);
    let folder = tempfile::tempdir().expect("a folder");
    server.serve_repositories(folder.path().to_owned(), None);
    let repository = Repository::new(folder.path(), "a");
    let by_text = format!("ARG SOURCE_DATE_EPOCH=context\n{STEP}");
    repository.commit(&[("Dockerfile", STEP), ("text", &by_text), ("sub/Dockerfile", STEP)]);
    let seconds: i64 = repository.git(&["show", "-s", "--format=%ct"]).parse().expect("the commit's time");
    let url = server.url("/git/a.git");
    let expected = (seconds.to_string(), seconds);
    assert_eq!(built(&daemon, &url, &CONTEXT), expected);
    assert_eq!(built(&daemon, &format!("{url}#main:sub"), &CONTEXT), expected);
    assert_eq!(built(&daemon, &url, &["-f", "text"]), expected);
    let number = ["-f", "text", "--build-arg", "SOURCE_DATE_EPOCH=1000000000"];
    assert_eq!(built(&daemon, &url, &number), ("1000000000".to_owned(), 1_000_000_000));

    // A named context, and a stage that holds nothing but a repository.
    let dir = context(&[("Dockerfile", &format!("FROM scratch AS code\nADD {url} /src\n{STEP}"))]);
    let named = format!("lib={url}");
    let flags = ["--build-arg", "SOURCE_DATE_EPOCH=lib", "--build-context", &named];
    assert_eq!(built(&daemon, text(dir.path()), &flags), expected);
    assert_eq!(built(&daemon, text(dir.path()), &["--build-arg", "SOURCE_DATE_EPOCH=code"]), expected);
    let slip = ["build", "--build-arg", "SOURCE_DATE_EPOCH=cod", text(dir.path())];
    daemon.buildctl(&slip).fails(1, &["\"cod\"", "did you mean code?"]);
}

#[test]
fn what_a_server_sends_has_the_time_that_it_says_or_that_its_entries_have() {
    let (daemon, server) = (Daemon::start(), FileServer::start());
    import_base(&daemon);
    server.put("/Dockerfile", Page::of(STEP).with("last-modified", "Tue, 06 Feb 2001 04:05:06 GMT"));
    assert_eq!(built(&daemon, &server.url("/Dockerfile"), &CONTEXT), ("981432306".to_owned(), 981_432_306));

    let dir = context(&[("Dockerfile", STEP), ("older", "x")]);
    for (name, seconds) in [("Dockerfile", 1_100_000_000), ("older", 1_000_000_000)] {
        let file = fs::File::options().write(true).open(dir.path().join(name)).expect("a file");
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        file.set_modified(time).expect("a time");
    }
    let archive = daemon.path("context.tar.gz");
    run(Command::new("tar").arg("-czf").arg(&archive).arg("-C").arg(dir.path()).arg(".")).ok();
    server.put("/context.tar.gz", Page::of(fs::read(archive).expect("the archive")));
    let expected = ("1100000000".to_owned(), 1_100_000_000);
    assert_eq!(built(&daemon, &server.url("/context.tar.gz"), &CONTEXT), expected);

    // Files of the client have none: nothing is bound.
    let (told, time) = built(&daemon, text(dir.path()), &CONTEXT);
    assert!(told.is_empty() && time > 1_500_000_000, "{told:?} {time}");
}
