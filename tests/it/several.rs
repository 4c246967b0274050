//! Several daemons on one machine: what is one's is no other's.

use std::{fs, path::PathBuf};

use buildd_tests::{
    daemon::{Daemon, run},
    fixture::{context, import_base, text},
    peers::ctr,
};

/// A daemon that is told no state folder, and the one that it has.
struct Stateless {
    daemon: Daemon,
    state: PathBuf,
}

impl Stateless {
    fn start() -> Self {
        let daemon = Daemon::start_without_state();
        let dump =
            run(daemon.command("buildd").args(["config", "dump", "--root", text(&daemon.path("root"))]));
        let dump = dump.ok().stdout;
        let state = dump.lines().find_map(|line| line.strip_prefix("state = ")).expect("a state folder");
        Self { state: PathBuf::from(state.trim_matches('"')), daemon }
    }
}

impl Drop for Stateless {
    /// What is left there of a daemon that ended well; nothing else is removed.
    fn drop(&mut self) {
        self.daemon.stop(rustix::process::Signal::TERM);
        for file in ["lock", "steps/seccomp.bpf"] {
            let _ = fs::remove_file(self.state.join(file));
        }
        for folder in ["steps", "tasks/default", "tasks", ""] {
            let _ = fs::remove_dir(self.state.join(folder));
        }
    }
}

#[test]
fn daemons_with_roots_of_their_own_do_not_touch_each_other() {
    let first = Stateless::start();
    import_base(&first.daemon);
    let image = "docker.io/library/alpine:latest";
    // What the first has begun, the start of the second must not remove.
    ctr(&first.daemon, &["run", "-d", image, "one", "sleep", "1000"]).ok();
    let build = |one: &Stateless, name: &str| {
        let dir = context(&[("Dockerfile", &format!("FROM alpine\nRUN echo {name} > /{name}\n"))]);
        one.daemon.buildctl(&["build", "-t", name, text(dir.path())]).ok();
    };
    build(&first, "before");
    let second = Stateless::start();
    import_base(&second.daemon);
    ctr(&second.daemon, &["run", "-d", image, "two", "sleep", "1000"]).ok();
    build(&first, "after");
    build(&second, "other");
    for (of, name, other) in [(&first, "one", &second.state), (&second, "two", &first.state)] {
        let listed = ctr(&of.daemon, &["tasks", "ls"]).ok().stdout;
        assert!(listed.contains("RUNNING") && listed.contains(name), "{listed}");
        assert!(of.state.join("tasks/default").join(name).exists());
        assert!(!other.join("tasks/default").join(name).exists());
        let echoed = ctr(&of.daemon, &["tasks", "exec", "--exec-id", "e", name, "echo", "lives"]).ok().stdout;
        assert_eq!(echoed, "lives\n");
    }
    let usual = std::path::Path::new("/run/buildd");
    assert!(!first.state.starts_with(usual) && !second.state.starts_with(usual));
    for (of, name) in [(&first, "one"), (&second, "two")] {
        ctr(&of.daemon, &["tasks", "rm", "--force", name]);
        ctr(&of.daemon, &["containers", "rm", name]).ok();
    }
}

#[test]
fn a_state_folder_has_one_daemon() {
    let first = Daemon::start();
    let dir = tempfile::tempdir().expect("a folder");
    let address = format!("unix://{}", text(&dir.path().join("sock")));
    let (root, state) = (dir.path().join("root"), first.path("state"));
    let flags = ["--addr", &address, "--root", text(&root), "--state", text(&state)];
    let holder = format!("process {}", first.pid());
    run(first.command("buildd").args(flags)).fails(1, &["uses the state folder", &holder, "another --state"]);
    import_base(&first);
    let dir = context(&[("Dockerfile", "FROM alpine\nRUN echo still > /here\n")]);
    first.buildctl(&["build", "-t", "still", text(dir.path())]).ok();
}
