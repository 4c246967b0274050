//! Ssh: agents and keys of the client in steps: there while the step runs, gone after, and nothing of them in what is kept.

use std::{fs, path::Path, process::Command};

use buildd_tests::{
    daemon::{Daemon, Ran, run},
    fixture::{context, import_base, text},
    peers::peer,
};
use tempfile::TempDir;

fn key(dir: &Path) -> String {
    let path = dir.join("key");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "marker-4417", "-f"])
        .arg(&path)
        .output();
    assert!(made.expect("ssh-keygen").status.success());
    text(&path).to_owned()
}

fn build(daemon: &Daemon, dockerfile: &str, flags: &[&str]) -> (Ran, TempDir) {
    let dir = context(&[("Dockerfile", dockerfile)]);
    let out = tempfile::tempdir().expect("a folder");
    let output = format!("type=local,dest={}", text(out.path()));
    let args = [&["build", "--progress", "plain", "-o", &output], flags, &[text(dir.path())]].concat();
    (daemon.buildctl(&args), out)
}

#[test]
fn a_step_sees_the_agent_as_asked() {
    let daemon = Daemon::start();
    import_base(&daemon);
    let keys = tempfile::tempdir().expect("a folder");
    let flag = format!("default={}", key(keys.path()));
    let dockerfile = "FROM alpine\n\
        RUN --mount=type=ssh ls -ln $SSH_AUTH_SOCK | cut -c1-10 > /mode && echo $SSH_AUTH_SOCK > /where\n\
        RUN --mount=type=ssh,id=default,target=/run/a.sock,mode=0666,uid=7,gid=8,required \
            ls -ln /run/a.sock | tr -s ' ' | cut -d' ' -f1,3,4 > /asked\n\
        RUN test ! -e /run/a.sock && test ! -e /run/buildkit\n";
    let (ran, out) = build(&daemon, dockerfile, &["--ssh", &flag]);
    ran.ok();
    let read = |name: &str| fs::read_to_string(out.path().join(name)).expect(name);
    assert_eq!(read("mode"), "srw-------\n");
    assert_eq!(read("where"), "/run/buildkit/ssh_agent.0\n");
    assert_eq!(read("asked"), "srw-rw-rw- 7 8\n");
    for place in [daemon.path("root"), daemon.path("state")] {
        let found = run(Command::new("grep").args(["-rla", "marker-4417"]).arg(place));
        assert_eq!(found.stdout, "", "a key lies in {}", found.stdout);
    }
    // Of another client's agent nothing is in the key.
    let again = build(&daemon, dockerfile, &["--ssh", &flag]).0.ok();
    assert_eq!(again.stderr.matches("CACHED").count(), 3, "{}", again.stderr);
}

/// A folder with ssh-add and what it needs: the base has neither.
fn tools() -> TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let listed = run(Command::new("ldd").arg("/usr/bin/ssh-add")).ok().stdout;
    let libraries = listed.split_whitespace().filter(|word| word.starts_with('/'));
    for path in libraries.chain(["/usr/bin/ssh-add"]) {
        let name = Path::new(path).file_name().expect("a name");
        fs::copy(path, dir.path().join(name)).unwrap_or_else(|e| panic!("copy {path}: {e}"));
    }
    dir
}

const USE: &str = "FROM alpine\n\
    RUN --mount=type=ssh --mount=from=tools,target=/m \
        add='/m/ld-linux-x86-64.so.2 --library-path /m /m/ssh-add' && $add -l > /keys && \
        { $add -D && echo emptied || echo refused; } > /change 2>/dev/null\n";

#[test]
fn a_step_uses_the_agent_and_does_not_change_it() {
    let daemon = Daemon::start();
    import_base(&daemon);
    let (keys, tools) = (tempfile::tempdir().expect("a folder"), tools());
    let key = key(keys.path());
    let (ssh, named) = (format!("default={key}"), format!("tools={}", text(tools.path())));
    let (ran, out) = build(&daemon, USE, &["--ssh", &ssh, "--build-context", &named]);
    ran.ok();
    let read = |out: &TempDir, name: &str| fs::read_to_string(out.path().join(name)).expect(name);
    assert!(read(&out, "keys").contains("marker-4417 (ED25519)"), "{}", read(&out, "keys"));
    assert_eq!(read(&out, "change"), "refused\n");

    // The same with docker's client, whose agent is its own.
    let home = daemon.path("buildx");
    let buildx = |args: &[&str]| {
        let mut command: Command = peer("docker-buildx");
        command.env("DOCKER_CONFIG", &home).env("BUILDX_CONFIG", home.join("buildx"));
        run(command.env_remove("BUILDKIT_HOST").args(args))
    };
    buildx(&["create", "--name", "ours", "--driver", "remote", &daemon.address()]).ok();
    let dir = context(&[("Dockerfile", USE)]);
    let out = tempfile::tempdir().expect("a folder");
    let output = format!("type=local,dest={}", text(out.path()));
    let common = ["build", "--builder", "ours", "--no-cache", "-o", &output, "--build-context", &named];
    buildx(&[&common[..], &["--ssh", &ssh, text(dir.path())]].concat()).ok();
    assert!(read(&out, "keys").contains("ED25519"), "{}", read(&out, "keys"));
    assert_eq!(read(&out, "change"), "refused\n");
    let required = context(&[("Dockerfile", "FROM alpine\nRUN --mount=type=ssh,id=deploy,required true\n")]);
    buildx(&[&common[..], &["--ssh", &ssh, text(required.path())]].concat())
        .fails(1, &["\"deploy\" not found"]);
}

#[test]
fn an_agent_that_is_missing_is_told_if_it_is_required() {
    let daemon = Daemon::start();
    import_base(&daemon);
    let optional = "FROM alpine\nRUN --mount=type=ssh test ! -e $SSH_AUTH_SOCK\n";
    build(&daemon, optional, &[]).0.ok();
    let required = "FROM alpine\nRUN --mount=type=ssh,id=deploy,required=true true\n";
    build(&daemon, required, &[]).0.fails(1, &["ssh agent \"deploy\" not found", "--ssh deploy"]);
    let dir = context(&[("Dockerfile", optional)]);
    let mut command = daemon.command("buildctl");
    command.env_remove("SSH_AUTH_SOCK").args(["build", "--ssh", "default", text(dir.path())]);
    run(&mut command).fails(1, &["SSH_AUTH_SOCK is not set"]);
    daemon.buildctl(&["build", "--ssh", "default=/none", text(dir.path())]).fails(1, &["/none"]);
}
