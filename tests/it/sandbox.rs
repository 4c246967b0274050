//! The containers of steps and those of tasks, seen by one probe: ours are as tight as libcontainer's.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use buildd_tests::{
    daemon::{Daemon, binaries, run},
    fixture::text,
};
use serde_json::Value;

/// Fields of `/proc/self/status` that say what a process may do.
const RIGHTS: [&str; 10] =
    ["Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"];
/// What else must be the same; the rest of what the probe tells are names of namespaces and numbers of processes.
const FINDINGS: [&str; 5] = ["descriptors", "readable", "writable", "bare", "allowed"];

/// A context whose files are the daemon's program, made small, and the libraries that it loads.
fn probe() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let program = dir.path().join("buildd");
    run(Command::new("strip").args(["-o", text(&program), text(&binaries().join("buildd"))])).ok();
    let loaded = run(Command::new("ldd").arg(&program)).ok().stdout;
    for library in loaded.split_whitespace().filter(|word| word.starts_with('/')) {
        let here = dir.path().join(library.trim_start_matches('/'));
        fs::create_dir_all(here.parent().expect("it lies in a folder")).expect("a folder");
        fs::copy(library, here).expect("a copy");
    }
    dir
}

/// What the probe told in some output: the line that is an object.
fn told(output: &str) -> BTreeMap<String, Value> {
    let line = output.lines().find_map(|line| Some(&line[line.find("{\"status\"")?..]));
    let line = line.unwrap_or_else(|| panic!("the probe told nothing: {output}"));
    let facts: Value = serde_json::from_str(line).expect("JSON");
    let rights = RIGHTS.map(|name| (name.to_owned(), facts["status"][name].clone()));
    rights.into_iter().chain(FINDINGS.map(|name| (name.to_owned(), facts[name].clone()))).collect()
}

fn image(daemon: &Daemon, dir: &Path, user: &str, run: &str) -> String {
    let lines = format!("FROM scratch\nCOPY . /\nUSER {user}\n{run}\n");
    fs::write(dir.join("Dockerfile"), lines).expect("a file");
    let built = daemon.buildctl(&["build", "--no-cache", "--progress", "plain", "-t", "probe", text(dir)]);
    let built = built.ok();
    built.stdout + &built.stderr
}

#[test]
fn steps_are_contained_as_tasks_are() {
    let (daemon, dir) = (Daemon::start(), probe());
    for user in ["0:0", "1000:1000"] {
        for network in ["none", "host"] {
            let flag = if network == "none" { "--network=none " } else { "" };
            let step = format!("RUN {flag}[\"/buildd\", \"step-probe\", \"look\"]");
            let step = told(&image(&daemon, dir.path(), user, &step));
            let task = ["run", "--rm", "--net", network, "probe", "/buildd", "step-probe", "look"];
            let task = told(&daemon.buildctl(&task).ok().stdout);
            assert_eq!(step, task, "as {user} on the network {network}");
            assert_eq!(step["Seccomp"], "2", "{step:?}");
        }
    }
}
