//! Context: what of a client's files crosses the wire, told by the counter of the vertex that loads them.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use buildd_tests::{
    daemon::{Daemon, Ran, run},
    fixture::{context, import_base, text},
    peers::peer,
    shared::Shared,
};

use crate::clients::Buildx;

/// The daemon of the tests that leave it as it was.
static SHARED: Shared = Shared::new();

const FILES: usize = 2000;

/// A tree of many files of 24 bytes.
fn project(dockerfile: &str) -> tempfile::TempDir {
    let dir = context(&[("Dockerfile", dockerfile)]);
    for file in 0..FILES {
        let folder = dir.path().join(format!("src/d{}", file % 50));
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join(format!("f{file}")), format!("the words of file {file:06}")).expect("a file");
    }
    dir
}

/// The amount that the progress shows last for the context; empty if no byte came.
fn transferred(ran: &Ran) -> String {
    let mut lines = ran.stderr.lines().filter_map(|line| line.split_once("transferring context:"));
    let (_, shown) = lines.next_back().unwrap_or_else(|| panic!("no counter in\n{}", ran.stderr));
    shown.split_whitespace().find(|word| word.ends_with('B')).unwrap_or_default().to_owned()
}

/// Builds the tree thrice with `build`: all of it, none of it, one file of it.
fn changes_alone_are_sent(dir: &Path, build: &dyn Fn() -> Ran, file: &str) {
    let first = transferred(&build().ok());
    assert!(first.starts_with("48"), "all files: {first}");
    assert_eq!(transferred(&build().ok()), "", "none");
    fs::write(dir.join("src/d7/f7"), "something quite different").expect("a change");
    assert_eq!(transferred(&build().ok()), file, "one");
    assert_eq!(transferred(&build().ok()), "", "none again");
}

#[test]
fn a_context_is_sent_once_and_then_what_changed() {
    let mut daemon = Daemon::start();
    import_base(&daemon);
    let dir = project("FROM scratch\nCOPY src /src\n");
    let out = daemon.path("out");
    let output = format!("type=local,dest={}", text(&out));
    let build = || daemon.buildctl(&["build", "--progress", "plain", "-o", &output, text(dir.path())]);
    changes_alone_are_sent(dir.path(), &build, "25B");
    assert_eq!(
        fs::read_to_string(out.join("src/d7/f7")).expect("the changed file"),
        "something quite different"
    );
    assert_eq!(fs::read_to_string(out.join("src/d8/f8")).expect("another file"), "the words of file 000008");

    // Other patterns: what is known serves them too.
    fs::write(dir.path().join("more"), "more").expect("one more file");
    fs::write(dir.path().join("Dockerfile"), "FROM scratch\nCOPY src /src\nCOPY more /\n").expect("a line");
    assert_eq!(transferred(&build().ok()), "4B");
    fs::write(dir.path().join(".dockerignore"), "src/d1*\n").expect("an ignore file");
    let narrowed = daemon.path("narrowed");
    let output = format!("type=local,dest={}", text(&narrowed));
    let ran = daemon.buildctl(&["build", "--progress", "plain", "-o", &output, text(dir.path())]).ok();
    assert_eq!(transferred(&ran), "");
    assert!(narrowed.join("src/d2").exists() && !narrowed.join("src/d1").exists());
    // A file that is only older is sent, and changes nothing.
    let file = fs::File::options().write(true).open(dir.path().join("more")).expect("a file");
    file.set_modified(std::time::UNIX_EPOCH).expect("another time");
    let ran = daemon.buildctl(&["build", "--progress", "plain", "-o", &output, text(dir.path())]).ok();
    assert_eq!(transferred(&ran), "4B");
    assert_eq!(ran.stderr.matches("CACHED").count(), 2, "{}", ran.stderr);
    assert_eq!(daemon.stop(rustix::process::Signal::TERM), Some(0));
}

#[test]
fn a_build_in_which_nothing_changed_writes_nothing() {
    let daemon = Daemon::start();
    import_base(&daemon);
    let dir = project("FROM alpine\nCOPY src /src\nRUN echo built > /file\n");
    let build = || daemon.buildctl(&["build", "-q", "-t", "same", text(dir.path())]).ok().stdout;
    let stored = || {
        let list = |folder: &str| {
            let folder = daemon.path("root").join(folder);
            let entries =
                fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
            entries.map(|entry| entry.expect("an entry").path()).collect::<BTreeSet<_>>()
        };
        ["layers", "content/blobs/sha256", "content/puts", "snapshots", "tmp"].map(list)
    };
    let (first, before) = (build(), stored());
    assert_eq!(build(), first);
    assert_eq!(stored(), before);
    // Text that is as long and as old is another text all the same.
    let dockerfile = dir.path().join("Dockerfile");
    let time = fs::metadata(&dockerfile).and_then(|meta| meta.modified()).expect("a time");
    fs::write(&dockerfile, "FROM alpine\nCOPY src /src\nRUN echo other > /file\n").expect("a Dockerfile");
    fs::File::options()
        .write(true)
        .open(&dockerfile)
        .and_then(|file| file.set_modified(time))
        .expect("a time");
    assert_ne!(build(), first);
}

#[test]
fn buildx_sends_what_changed() {
    let daemon = Daemon::start();
    let home = daemon.path("buildx");
    let buildx = |args: &[&str]| {
        let mut command: Command = peer("docker-buildx");
        command
            .env("DOCKER_CONFIG", &home)
            .env("BUILDX_CONFIG", home.join("buildx"))
            .env_remove("BUILDKIT_HOST")
            .args(args);
        run(&mut command)
    };
    buildx(&["create", "--name", "ours", "--driver", "remote", &daemon.address()]).ok();
    let dir = project("FROM scratch\nCOPY src /src\n");
    let output = format!("type=local,dest={}", text(&daemon.path("out")));
    let build =
        || buildx(&["build", "--builder", "ours", "--progress", "plain", "-o", &output, text(dir.path())]);
    changes_alone_are_sent(dir.path(), &build, "25B");
}

#[test]
fn targets_of_a_bake_file_build_on_each_other() {
    let daemon = SHARED.with_base();
    let out = daemon.path("baked");
    let bake = format!(
        "target \"base\" {{ dockerfile = \"base.Dockerfile\" }}\n\
         target \"app\" {{\n  contexts = {{ base = \"target:base\", files = \"target:base\" }}\n\
         output = [\"type=local,dest={}\"]\n}}\n",
        text(&out)
    );
    let dir = context(&[
        ("docker-bake.hcl", &bake),
        ("base.Dockerfile", "FROM alpine\nENV WHO=base\nRUN echo made > /made\n"),
        ("Dockerfile", "FROM base\nRUN echo $WHO > /who\nCOPY --from=files /made /copied\n"),
    ]);
    let buildx = Buildx::new(&daemon);
    let file = dir.path().join("docker-bake.hcl");
    let base = format!("base.context={}", text(dir.path()));
    let app = format!("app.context={}", text(dir.path()));
    let args = ["bake", "--builder", "ours", "--progress", "plain", "--allow", "fs=*", "-f", text(&file)];
    let ran = buildx.run(&[&args[..], &["--set", &base, "--set", &app, "app"]].concat()).ok();
    assert_eq!(ran.stderr.matches("RUN echo made").count().min(1), 1, "{}", ran.stderr);
    for (name, words) in [("made", "made\n"), ("copied", "made\n"), ("who", "base\n")] {
        assert_eq!(fs::read_to_string(out.join(name)).expect(name), words);
    }
}

#[test]
fn times_are_bound_by_the_text_and_by_the_environment() {
    let daemon = SHARED.with_base();
    let dir = context(&[("Dockerfile", "FROM alpine\nARG SOURCE_DATE_EPOCH=1000000000\nRUN echo x > /x\n")]);
    let time = |variables: &[(&str, &str)]| {
        let archive = daemon.path("times.tar");
        let output = format!("type=tar,dest={}", text(&archive));
        let mut command = daemon.command("buildctl");
        command.env_remove("SOURCE_DATE_EPOCH").envs(variables.iter().copied());
        run(command.args(["build", "-q", "-o", &output, text(dir.path())])).ok();
        let mut archive = tar::Archive::new(fs::File::open(archive).expect("an archive"));
        let entries = archive.entries().expect("entries").map(|entry| entry.expect("an entry"));
        let is_x = |entry: &tar::Entry<'_, _>| entry.path().is_ok_and(|path| path.ends_with("x"));
        let mut times = entries.filter(is_x).map(|entry| entry.header().mtime().expect("a time"));
        times.next().expect("the file")
    };
    assert_eq!(time(&[]), 1_000_000_000);
    assert_eq!(time(&[("SOURCE_DATE_EPOCH", "500000000")]), 500_000_000);
}
