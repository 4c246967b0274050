//! Fsck: the command on a real root: who may run it when, what its exit code says, and that a daemon goes on with what is left.

use std::{fs, os::unix::fs::FileExt, process::Command};

use buildd_tests::{
    daemon::{Daemon, run},
    fixture::{context, import_base, text},
};
use rustix::process::Signal;

#[test]
fn damage_is_found_dropped_and_gone() {
    let mut daemon = Daemon::start();
    import_base(&daemon);
    let dir =
        context(&[("Dockerfile", "FROM alpine\nCOPY file /\nRUN cat /file > /other\n"), ("file", "text")]);
    daemon.buildctl(&["build", "-t", "built", text(dir.path())]).ok();
    let process = format!("process {}", daemon.pid());
    daemon.fsck(&[]).fails(2, &[&process, "hint:"]);
    assert_eq!(daemon.stop(Signal::TERM), Some(0));
    let clean = daemon.fsck(&[]).ok().stdout;
    assert!(clean.ends_with(": clean\n"), "{clean}");
    // Killed, with an upload left behind: nothing is damaged.
    daemon.spawn(&[]);
    daemon.stop(Signal::KILL);
    fs::write(daemon.path("root/layers/999"), "x").expect("a leftover");
    let left = daemon.fsck(&[]).ok().stdout;
    assert!(left.contains("leftover  file layers/999") && left.contains("nothing is damaged"), "{left}");
    // One bit of the layer file that COPY made.
    let mut files: Vec<_> = fs::read_dir(daemon.path("root/layers"))
        .expect("layers")
        .flatten()
        .filter(|entry| entry.metadata().is_ok_and(|meta| meta.is_file() && meta.len() > 4096))
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u64>().ok())
        .collect();
    files.sort_unstable();
    let layer = files.last().expect("a layer file").to_string();
    let file =
        fs::File::options().write(true).open(daemon.path("root/layers").join(&layer)).expect("a layer");
    file.write_all_at(&[0xff], 4096 + 520).expect("a damaged byte");
    let found = daemon.fsck(&["--format", "json"]);
    assert_eq!(found.code, Some(1), "{found:?}");
    let found: serde_json::Value = serde_json::from_str(&found.stdout).expect("JSON");
    assert_eq!(found["repaired"], false);
    let findings = found["findings"].as_array().expect("a list");
    let damaged: Vec<_> = findings.iter().filter(|one| one["class"] == "damage").collect();
    assert_eq!(
        (damaged.len(), &damaged[0]["what"], &damaged[0]["subject"]),
        (1, &"layer".into(), &layer.clone().into()),
        "{findings:#?}"
    );
    assert!(findings.iter().any(|one| one["class"] == "follows" && one["what"] == "result"), "{findings:#?}");
    let dropped = daemon.fsck(&["--repair"]);
    assert_eq!(dropped.code, Some(1), "{dropped:?}");
    assert!(dropped.stdout.contains("dropped: 1 damaged"), "{dropped:?}");
    let again = daemon.fsck(&[]).ok().stdout;
    assert!(again.ends_with(": clean\n"), "{again}");
    // What is left serves; what was dropped is made again.
    daemon.spawn(&[]);
    daemon.buildctl(&["build", "-t", "built", text(dir.path())]).ok();
    let read = daemon.buildctl(&["run", "--rm", "built", "cat", "/other"]).ok().stdout;
    assert_eq!(read, "text");
    let mut missing = Command::new(buildd_tests::daemon::binaries().join("buildd"));
    run(missing.args(["fsck", "--root"]).arg(daemon.path("nothing"))).fails(2, &["nothing"]);
}
