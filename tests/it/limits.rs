//! Limits: memory that runs out in a step, a disk that is full, contexts that come through a pipe.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use buildd_tests::{
    daemon::{Daemon, Ran, run},
    fixture::{context, import_base, text},
    peers::peer,
};

fn fed(mut command: Command, input: &[u8]) -> Ran {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start the client");
    child.stdin.take().expect("piped").write_all(input).expect("feed the client");
    child.wait_with_output().expect("the client ends").into()
}

fn tar(dir: &Path, compress: &str) -> Vec<u8> {
    let archive = tempfile::NamedTempFile::new().expect("a file");
    run(Command::new("tar").arg("-C").arg(dir).args([compress, "-cf"]).arg(archive.path()).arg(".")).ok();
    fs::read(archive.path()).expect("the archive")
}

#[test]
fn a_context_comes_through_a_pipe() {
    let daemon = Daemon::start();
    import_base(&daemon);
    let dir = context(&[
        ("Dockerfile", "FROM alpine\nCOPY . /in\nRUN ls /in > /list\n"),
        (".dockerignore", "*.log\n"),
        ("kept", "kept"),
        ("a.log", ""),
    ]);
    for (n, compress) in ["--no-auto-compress", "-z", "-J", "-j", "--zstd"].into_iter().enumerate() {
        let out = daemon.path(&format!("out{n}"));
        let mut command = daemon.command("buildctl");
        command.args(["build", "-o", &format!("type=local,dest={}", text(&out)), "-"]);
        fed(command, &tar(dir.path(), compress)).ok();
        let list = fs::read_to_string(out.join("list")).expect("the list");
        assert_eq!(list, "Dockerfile\nkept\n", "{compress}");
    }
    let mut command = daemon.command("buildctl");
    command.args(["build", "-t", "from-text", "-"]);
    fed(command, b"FROM alpine\nRUN echo text > /made\n").ok();
    assert_eq!(daemon.buildctl(&["run", "--rm", "from-text", "cat", "/made"]).ok().stdout, "text\n");
    let mut command = daemon.command("buildctl");
    command.args(["build", "-t", "never", "-"]);
    fed(command, b"").fails(1, &["standard input"]);

    let home = daemon.path("buildx");
    let buildx = || {
        let mut command = peer("docker-buildx");
        command
            .env("DOCKER_CONFIG", &home)
            .env("BUILDX_CONFIG", home.join("buildx"))
            .env_remove("BUILDKIT_HOST");
        command
    };
    run(buildx().args(["create", "--name", "ours", "--driver", "remote", &daemon.address()])).ok();
    let out = daemon.path("out-buildx");
    let mut command = buildx();
    command.args(["build", "--builder", "ours", "-o", &format!("type=local,dest={}", text(&out)), "-"]);
    fed(command, &tar(dir.path(), "-z")).ok();
    assert_eq!(fs::read_to_string(out.join("list")).expect("the list"), "Dockerfile\nkept\n");
}

#[test]
fn a_step_that_takes_too_much_memory_is_killed_and_says_so() {
    let config = tempfile::NamedTempFile::new().expect("a file");
    fs::write(config.path(), "[worker]\nstep-memory = \"64MB\"\nstep-processes = 20\n").expect("write");
    let daemon = Daemon::start_with(&["--config", text(config.path())]);
    import_base(&daemon);
    let build = |line: &str| {
        let dir = context(&[("Dockerfile", &format!("FROM alpine\nRUN {line}\n"))]);
        daemon.buildctl(&["build", "--progress", "plain", "-t", "never", text(dir.path())])
    };
    build("head -c 200000000 /dev/zero | tail")
        .fails(1, &["ran out of memory", "Dockerfile:2", "use less memory"]);
    build("exec tail /dev/zero").fails(1, &["exit code: 137", "ran out of memory"]);
    // A fork bomb ends at its limit.
    build("set -e; for i in $(seq 40); do sleep 5 & done; wait").fails(1, &["can't fork"]);
    build("echo fine").ok();
}

#[test]
fn blob_01_a_bomb_ends_where_it_outgrows_what_is_allowed_and_leaves_nothing() {
    let config = tempfile::NamedTempFile::new().expect("a file");
    fs::write(config.path(), "[worker]\nlayer-growth = \"10MB\"\n").expect("write");
    let daemon = Daemon::start_with(&["--config", text(config.path())]);
    import_base(&daemon);
    let dir = context(&[("Dockerfile", "FROM alpine\nADD bomb.tar.gz /\n"), ("zeros", "")]);
    fs::File::options()
        .write(true)
        .open(dir.path().join("zeros"))
        .and_then(|file| file.set_len(200_000_000))
        .expect("a large file");
    let mut pack = Command::new("tar");
    run(pack.current_dir(dir.path()).args(["-czf", "bomb.tar.gz", "--remove-files", "zeros"])).ok();
    let kilobytes = || {
        let all = run(Command::new("du").arg("-sk").arg(daemon.path("root"))).ok().stdout;
        all.split_whitespace().next().and_then(|size| size.parse::<u64>().ok()).expect("a size")
    };
    let before = kilobytes();
    daemon
        .buildctl(&["build", "-t", "never", text(dir.path())])
        .fails(1, &["bomb.tar.gz", "a bomb?", "layer-growth"]);
    let more = kilobytes().saturating_sub(before);
    assert!(more < 5000, "{more} KB are left of it");
    daemon.buildctl(&["image", "inspect", "never"]).fails(1, &["never"]);
}

/// A small disk of its own, taken away with the value.
pub(crate) struct Disk(pub(crate) std::path::PathBuf);

impl Disk {
    /// A file system of so many megabytes.
    pub(crate) fn mount(at: &Path, megabytes: u32) -> Self {
        fs::create_dir_all(at).expect("a mount point");
        let image = at.with_extension("img");
        run(Command::new("truncate").arg("-s").arg(format!("{megabytes}M")).arg(&image)).ok();
        run(Command::new("mkfs.ext4").arg("-q").arg(&image)).ok();
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(at)).ok();
        Self(at.to_owned())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = run(Command::new("umount").arg("--lazy").arg(&self.0));
        assert!(unmounted.code == Some(0) || std::thread::panicking(), "{}", unmounted.stderr);
    }
}

#[test]
fn a_full_disk_is_named_and_the_next_command_works() {
    let place = tempfile::tempdir().expect("a folder");
    let disk = Disk::mount(&place.path().join("disk"), 48);
    let root = disk.0.join("root");
    let daemon = Daemon::start_with(&["--root", text(&root)]);
    import_base(&daemon);
    let dir = context(&[("Dockerfile", "FROM alpine\nCOPY big /\n")]);
    fs::write(dir.path().join("big"), vec![1; 60 << 20]).expect("a large file");
    let full = daemon.buildctl(&["build", "-t", "too-big", text(dir.path())]);
    full.fails(1, &["No space left on device", "free some space"]);
    let step = context(&[("Dockerfile", "FROM alpine\nRUN head -c 60000000 /dev/urandom > /big\n")]);
    daemon
        .buildctl(&["build", "-t", "too-big", text(step.path())])
        .fails(1, &["head: standard output", "Dockerfile:2"]);
    assert_eq!(daemon.buildctl(&["image", "ls", "-q"]).ok().stdout, "docker.io/library/alpine:latest\n");
    let small = context(&[("Dockerfile", "FROM alpine\nRUN echo small > /small\n")]);
    daemon.buildctl(&["prune"]).ok();
    daemon.buildctl(&["build", "-t", "small", text(small.path())]).ok();
    assert_eq!(daemon.buildctl(&["run", "--rm", "small", "cat", "/small"]).ok().stdout, "small\n");
    drop(daemon);
}
