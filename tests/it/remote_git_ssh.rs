//! Git over ssh: repositories of a real server, with the client's key or agent, and never of a host that nobody vouches for.

use std::{
    fs,
    process::{Child, Command, Stdio},
};

use buildd_tests::{
    daemon::{Daemon, Ran, eventually, run},
    files::Repository,
    fixture::{context, text},
    ssh_server::{SshServer, key},
};
use tempfile::TempDir;

fn build(mut command: Command, place: &str, flags: &[&str]) -> (Ran, TempDir) {
    let out = tempfile::tempdir().expect("a folder");
    let output = format!("type=local,dest={}", text(out.path()));
    command.env_remove("SSH_AUTH_SOCK");
    (run(command.args(["build", "--progress", "plain", "-o", &output]).args(flags).arg(place)), out)
}

fn read(tree: &TempDir, path: &str) -> String {
    fs::read_to_string(tree.path().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// An agent with one key.
struct Agent(Child, String);

impl Agent {
    fn start(dir: &TempDir, key: &std::path::Path) -> Self {
        let socket = text(&dir.path().join("agent")).to_owned();
        let mut agent = Command::new("ssh-agent");
        let agent = agent.args(["-D", "-a", &socket]).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let agent = Self(agent.expect("start ssh-agent"), socket);
        let add = || run(Command::new("ssh-add").arg("-q").arg(key).env("SSH_AUTH_SOCK", &agent.1));
        eventually("an agent", || add().code == Some(0));
        agent
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn git_08_a_repository_comes_over_ssh_from_a_known_host_to_who_has_the_key() {
    let daemon = Daemon::start();
    let folder = tempfile::tempdir().expect("a folder");
    let mine = key(folder.path(), "marker-9125");
    let server = SshServer::start(&mine);
    let repository = Repository::new(folder.path(), "a");
    repository.commit(&[("Dockerfile", "FROM scratch\nCOPY f /copied\n"), ("f", "one")]);
    let url = server.url(&repository.bare());
    let dir = context(&[("Dockerfile", &format!("FROM scratch\nADD {url}#main /src/\n"))]);
    let added = text(dir.path());
    let with_key = format!("default={}", text(&mine));
    let buildctl = || daemon.command("buildctl");

    // A host that nobody vouches for, and one that is not who it was.
    let closed = ["Host key verification failed", "/etc/ssh/ssh_known_hosts"];
    build(buildctl(), added, &["--ssh", &with_key]).0.fails(1, &closed);
    let trust = server.trusted(false);
    build(buildctl(), added, &["--ssh", &with_key]).0.fails(1, &closed);
    drop(trust);

    let _trust = server.trusted(true);
    build(buildctl(), added, &[]).0.fails(1, &["Permission denied (publickey", "--ssh default"]);
    let (ran, out) = build(buildctl(), added, &["--ssh", &with_key]);
    ran.ok();
    assert_eq!(read(&out, "src/f"), "one");
    // As a context, with the agent of the terminal.
    let agent = Agent::start(&folder, &mine);
    let out = tempfile::tempdir().expect("a folder");
    let output = format!("type=local,dest={}", text(out.path()));
    let mut command = buildctl();
    command.env("SSH_AUTH_SOCK", &agent.1).args(["build", "--ssh", "default", "-o", &output]);
    run(command.arg(format!("{url}#main"))).ok();
    assert_eq!(read(&out, "copied"), "one");
    // A branch that moves is followed.
    repository.commit(&[("f", "two")]);
    let (ran, out) = build(buildctl(), added, &["--ssh", &with_key]);
    ran.ok();
    assert_eq!(read(&out, "src/f"), "two");
    let secret = fs::read_to_string(&mine).expect("the key");
    let line = secret.lines().nth(1).expect("its second line");
    for place in ["root", "state"] {
        let found = run(Command::new("grep").args(["-rlaF", "-e", line]).arg(daemon.path(place)));
        assert_eq!(found.stdout, "", "the key lies below {place}");
    }
}
