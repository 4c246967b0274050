//! Git: `ADD` of repositories, repositories as contexts and named contexts, served by git's own server program over HTTP.

use std::{fs, path::Path, process::Command};

use buildd_tests::{
    daemon::{Daemon, Ran, eventually, run},
    files::{FileServer, Page, Repository},
    fixture::{context, import_base, text},
    oracles::cgroups,
    peers::peer,
};
use tempfile::TempDir;

/// A daemon, a server and a folder whose repositories the server serves.
fn world(wants: Option<&str>) -> (Daemon, FileServer, TempDir) {
    let (daemon, server) = (Daemon::start(), FileServer::start());
    let folder = tempfile::tempdir().expect("a folder");
    server.serve_repositories(folder.path().to_owned(), wants);
    (daemon, server, folder)
}

fn build_at(daemon: &Daemon, path: &str, flags: &[&str]) -> (Ran, TempDir) {
    let out = tempfile::tempdir().expect("a folder");
    let output = format!("type=local,dest={}", text(out.path()));
    let args = [&["build", "--progress", "plain", "-o", &output], flags, &[path]].concat();
    (daemon.buildctl(&args), out)
}

fn build(daemon: &Daemon, dockerfile: &str, flags: &[&str]) -> (Ran, TempDir) {
    let dir = context(&[("Dockerfile", dockerfile)]);
    build_at(daemon, text(dir.path()), flags)
}

fn read(tree: &TempDir, path: &str) -> String {
    fs::read_to_string(tree.path().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The requests for repositories so far.
fn asked(server: &FileServer) -> usize {
    server.asked().iter().filter(|asked| asked.path.starts_with("/git/")).count()
}

#[test]
fn f_16_a_git_that_takes_too_much_memory_ends_alone_and_is_named() {
    let config = tempfile::NamedTempFile::new().expect("a file");
    fs::write(config.path(), "[worker]\nstep-memory = \"64MB\"\n").expect("write");
    let (daemon, server) = (Daemon::start_with(&["--config", text(config.path())]), FileServer::start());
    let folder = tempfile::tempdir().expect("a folder");
    server.serve_repositories(folder.path().to_owned(), None);
    // git unpacks a file of less than 512 MB in memory.
    Repository::new(folder.path(), "large").commit(&[("f", &"0".repeat(200_000_000))]);
    Repository::new(folder.path(), "small").commit(&[("f", "small")]);
    let add = |name: &str| format!("FROM scratch\nADD {} /\n", server.url(&format!("/git/{name}.git")));
    let (ran, _) = build(&daemon, &add("large"), &[]);
    ran.fails(1, &["git fetch", "large.git", "git ran out of memory", "raise step-memory"]);
    let (ran, out) = build(&daemon, &add("small"), &[]);
    ran.ok();
    assert_eq!(read(&out, "f"), "small");
    let prefix = format!("git-{}-", daemon.pid());
    eventually("git's control groups are gone", || cgroups(&prefix).is_empty());
}

#[test]
fn a_repository_is_added_and_a_moving_branch_is_followed() {
    let (daemon, server, folder) = world(None);
    let repository = Repository::new(folder.path(), "a");
    let first = repository.commit(&[("f", "one"), ("docs/d", "deep"), (".dockerignore", "f\n")]);
    repository.git(&["tag", "-a", "-m", "t", "v1"]);
    repository.git(&["push", "-q", "origin", "v1"]);
    let url = server.url("/git/a.git");
    let dockerfile = format!("FROM scratch\nADD {url}#main /main/\nADD {url}#v1:docs /docs/\n");
    let (ran, out) = build(&daemon, &dockerfile, &[]);
    ran.ok();
    assert_eq!((read(&out, "main/f").as_str(), read(&out, "docs/d").as_str()), ("one", "deep"));
    assert!(!out.path().join("main/.git").exists());
    let again = build(&daemon, &dockerfile, &[]).0.ok();
    assert_eq!(again.stderr.matches("CACHED").count(), 2, "{}", again.stderr);
    repository.commit(&[("f", "two")]);
    let out = build(&daemon, &dockerfile, &[]).1;
    assert_eq!((read(&out, "main/f").as_str(), read(&out, "docs/d").as_str()), ("two", "deep"));
    // A whole commit id asks nobody once it is known, and an older one is found among what the branch left.
    let pinned = format!("FROM scratch\nADD --keep-git-dir=true {url}#{first} /src/\n");
    let (ran, out) = build(&daemon, &pinned, &[]);
    ran.ok();
    assert_eq!(read(&out, "src/f"), "one");
    assert_eq!(read(&out, "src/.git/HEAD").trim(), first);
    let before = asked(&server);
    build(&daemon, &pinned, &[]).0.ok();
    assert_eq!(asked(&server), before, "a commit's id needs no answer of the remote");
}

#[test]
fn what_is_not_there_or_not_as_promised_is_told() {
    let (daemon, server, folder) = world(None);
    let repository = Repository::new(folder.path(), "a");
    std::os::unix::fs::symlink("/etc", repository.tree().join("link")).expect("a link");
    let commit = repository.commit(&[("f", "one")]);
    let other = "0123456789".repeat(4);
    let url = server.url("/git/a.git");
    for (line, expected) in [
        (format!("ADD {url}#nowhere /"), "there is no ref or commit \"nowhere\"".to_owned()),
        (format!("ADD {url}#main:gone /"), "\"gone\" is no folder".to_owned()),
        (format!("ADD {url}#main:link /"), "\"link\" is no folder".to_owned()),
        (format!("ADD {url}#main:f /"), "\"f\" is no folder".to_owned()),
        (format!("ADD --checksum={other} {url}#main /"), format!("it is {commit}, not {other}")),
        (format!("ADD {url}#{other} /"), format!("there is no ref or commit \"{other}\"")),
        (format!("ADD {}#main /", server.url("/git/none.git")), "not found".to_owned()),
        (format!("ADD {url}#--upload-pack=x /"), "can be no part of it".to_owned()),
        (format!("COPY {url} /"), "source can't be a git ref for COPY".to_owned()),
    ] {
        build(&daemon, &format!("FROM scratch\n{line}\n"), &[]).0.fails(1, &[&expected]);
    }
    let fine = format!("FROM scratch\nADD --checksum={} {url}#main /\n", &commit[..12]);
    build(&daemon, &fine, &[]).0.ok();
}

#[test]
fn a_repository_is_a_context_and_a_named_context() {
    let (daemon, server, folder) = world(None);
    import_base(&daemon);
    let repository = Repository::new(folder.path(), "a");
    repository.commit(&[
        ("Dockerfile", "FROM scratch\nCOPY f /top\n"),
        ("f", "top"),
        ("sub/Dockerfile", "FROM scratch\nCOPY . /\n"),
        ("sub/g", "below"),
        ("other", "FROM scratch\nCOPY f /other\n"),
    ]);
    let url = server.url("/git/a.git");
    let (ran, out) = build_at(&daemon, &url, &[]);
    ran.ok();
    assert_eq!(read(&out, "top"), "top");
    let (ran, out) = build_at(&daemon, &format!("{url}#main:sub"), &[]);
    ran.ok();
    assert_eq!(read(&out, "g"), "below");
    let (ran, out) = build_at(&daemon, &format!("{url}?branch=main"), &["-f", "other"]);
    ran.ok();
    assert_eq!(read(&out, "other"), "top");

    server.put("/page", Page::of("a page"));
    let local = context(&[("l", "local"), (".dockerignore", "no\n"), ("no", "n")]);
    let dockerfile = "FROM base AS b\nCOPY --from=repo /f /f\nCOPY --from=page /page /page\nCOPY --from=local / /l/\n\
                      RUN --mount=from=repo,source=sub,target=/m cat /m/g > /g\n";
    let repo = format!("repo={url}#main");
    let page = format!("page={}", server.url("/page"));
    let flags = [
        "--build-context",
        &repo,
        "--build-context",
        &page,
        "--build-context",
        &format!("local={}", text(local.path())),
        "--build-context",
        "base=docker-image://alpine",
    ];
    let (ran, out) = build(&daemon, dockerfile, &flags);
    ran.ok();
    for (path, expected) in [("f", "top"), ("page", "a page"), ("l/l", "local"), ("g", "below")] {
        assert_eq!(read(&out, path), expected, "{path}");
    }
    assert!(!out.path().join("l/no").exists(), "a named folder's own ignore file counts");
}

#[test]
fn buildx_names_repositories_and_folders_as_contexts() {
    let (daemon, server, folder) = world(None);
    let repository = Repository::new(folder.path(), "a");
    repository.commit(&[
        ("Dockerfile", "FROM scratch\nCOPY f /top\nCOPY --from=more /m /m\nCOPY --from=repo /f /again\n"),
        ("f", "top"),
    ]);
    let home = daemon.path("buildx");
    let buildx = |args: &[&str]| {
        let mut command: Command = peer("docker-buildx");
        command.env("DOCKER_CONFIG", &home).env("BUILDX_CONFIG", home.join("buildx"));
        run(command.env_remove("BUILDKIT_HOST").args(args))
    };
    buildx(&["create", "--name", "ours", "--driver", "remote", &daemon.address()]).ok();
    let more = context(&[("m", "more")]);
    let out = tempfile::tempdir().expect("a folder");
    let output = format!("type=local,dest={}", text(out.path()));
    let url = server.url("/git/a.git");
    let (more, repo) = (format!("more={}", text(more.path())), format!("repo={url}#main"));
    let named = ["--build-context", &more, "--build-context", &repo];
    buildx(&[&["build", "--builder", "ours", "-o", &output], &named[..], &[&format!("{url}#main")]].concat())
        .ok();
    for (path, expected) in [("top", "top"), ("m", "more"), ("again", "top")] {
        assert_eq!(read(&out, path), expected, "{path}");
    }
}

#[test]
fn a_token_opens_its_repository_and_is_found_nowhere() {
    // base64 of "x-access-token:planted-marker-5120"
    let wants = "basic eC1hY2Nlc3MtdG9rZW46cGxhbnRlZC1tYXJrZXItNTEyMA==";
    let (daemon, server, folder) = world(Some(wants));
    Repository::new(folder.path(), "a").commit(&[("f", "mine")]);
    let secret = context(&[("token", "planted-marker-5120\n")]);
    let flag = format!("id=GIT_AUTH_TOKEN.{},src={}", server.authority(), text(&secret.path().join("token")));
    let url = server.url("/git/a.git");
    let dockerfile = format!("FROM scratch\nADD --keep-git-dir=true {url}#main /src/\n");
    let refused = build(&daemon, &dockerfile, &[]).0;
    refused.fails(1, &["terminal prompts disabled", "--secret id=GIT_AUTH_TOKEN"]);
    let (ran, out) = build(&daemon, &dockerfile, &["--secret", &flag]);
    let said = ran.ok();
    assert_eq!(read(&out, "src/f"), "mine");
    for marker in ["planted-marker-5120", "eC1hY2Nlc3MtdG9rZW4"] {
        assert!(!said.stderr.contains(marker) && !daemon.log().contains(marker));
        for place in [daemon.path("root"), daemon.path("state"), out.path().to_owned()] {
            assert_eq!(files_with(&place, marker), Vec::<String>::new());
        }
    }
    assert!(
        server.asked().iter().any(|asked| asked.headers.get("authorization").is_some_and(|a| a == wants))
    );
}

fn files_with(place: &Path, marker: &str) -> Vec<String> {
    run(Command::new("grep").args(["-rla", marker]).arg(place)).stdout.lines().map(str::to_owned).collect()
}

#[test]
fn submodules_come_over_the_same_protocols_only() {
    let (daemon, server, folder) = world(None);
    Repository::new(folder.path(), "inner").commit(&[("i", "inner")]);
    let outer = Repository::new(folder.path(), "outer");
    outer.commit(&[("f", "outer")]);
    outer.git(&["submodule", "--quiet", "add", "../inner.git", "in"]);
    outer.commit(&[]);
    let evil = Repository::new(folder.path(), "evil");
    evil.git(&["submodule", "--quiet", "add", text(&folder.path().join("inner.git")), "in"]);
    evil.commit(&[("f", "evil")]);
    let add = |name: &str| format!("FROM scratch\nADD {} /s/\n", server.url(&format!("/git/{name}")));
    let (ran, out) = build(&daemon, &add("outer.git"), &[]);
    ran.ok();
    assert_eq!((read(&out, "s/f").as_str(), read(&out, "s/in/i").as_str()), ("outer", "inner"));
    assert!(!out.path().join("s/.git").exists() && !out.path().join("s/in/.git").exists());
    let (ran, out) = build(&daemon, &add("outer.git?submodules=false"), &[]);
    ran.ok();
    assert!(!out.path().join("s/in/i").exists());
    build(&daemon, &add("evil.git"), &[]).0.fails(1, &["transport 'file' not allowed"]);
}

#[test]
fn git_04_neither_the_machine_nor_a_repository_says_how_git_works() {
    let home = tempfile::tempdir().expect("a folder");
    let ran = home.path().join("ran");
    let evil = format!("touch {}; cat", text(&ran));
    let hook = home.path().join("hooks/post-checkout");
    fs::create_dir_all(hook.parent().expect("a folder")).expect("a folder");
    fs::write(&hook, format!("#!/bin/sh\ntouch {}\n", text(&ran))).expect("a hook");
    fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a mode");
    let config = format!(
        "[filter \"evil\"]\n\tsmudge = {evil}\n\trequired = true\n[filter \"lfs\"]\n\tsmudge = {evil}\n\
         [core]\n\thooksPath = {}\n\tfsmonitor = {evil}\n",
        text(hook.parent().expect("a folder"))
    );
    fs::write(home.path().join(".gitconfig"), config).expect("settings");
    let daemon =
        Daemon::start_in(&[("HOME", text(home.path())), ("XDG_CONFIG_HOME", text(home.path()))], &[]);
    let (server, folder) = (FileServer::start(), tempfile::tempdir().expect("a folder"));
    server.serve_repositories(folder.path().to_owned(), None);
    let repository = Repository::new(folder.path(), "a");
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 2\n";
    repository.commit(&[
        ("f", "as it is"),
        ("large", pointer),
        (".gitattributes", "f filter=evil\nlarge filter=lfs diff=lfs merge=lfs\n"),
    ]);
    let dockerfile = format!("FROM scratch\nADD {}#main /\n", server.url("/git/a.git"));
    let (built, out) = build(&daemon, &dockerfile, &[]);
    built.ok();
    assert_eq!((read(&out, "f").as_str(), read(&out, "large").as_str()), ("as it is", pointer));
    assert!(!ran.exists(), "no program of the machine's settings ran");
}

#[test]
fn git_05_a_token_follows_no_redirect() {
    let (daemon, server, _folder) = world(None);
    let other = FileServer::start();
    other.put("/git/a.git/info/refs", Page::of("not for you"));
    server.put("/moved.git/info/refs", Page::redirect(&other.url("/git/a.git/info/refs")));
    let secret = context(&[("token", "planted-marker-6631\n")]);
    let file = secret.path().join("token");
    for id in ["GIT_AUTH_TOKEN".to_owned(), format!("GIT_AUTH_TOKEN.{}", server.authority())] {
        let flag = format!("id={id},src={}", text(&file));
        let dockerfile = format!("FROM scratch\nADD {}#main /\n", server.url("/moved.git"));
        let (ran, _) = build(&daemon, &dockerfile, &["--secret", &flag]);
        assert_eq!(ran.code, Some(1), "{}", ran.stderr);
        assert!(!ran.stderr.contains("planted-marker-6631"), "{}", ran.stderr);
    }
    assert!(
        server.asked().iter().any(|asked| asked.headers.contains_key("authorization")),
        "its host gets it"
    );
    let told = other.asked().into_iter().find(|asked| asked.headers.contains_key("authorization"));
    assert!(told.is_none(), "{told:?}");
}
