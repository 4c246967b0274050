//! Crash: what was acknowledged survives a kill at any moment, and nothing half done is ever seen.

use std::{
    os::unix::net::UnixListener,
    process::{Command, Stdio},
};

use buildd_tests::{
    daemon::{binaries, run},
    killing::Killing,
};

/// Kills in every run of the tests; `cargo run --release -p buildd-tests --bin killing` does more.
const KILLS: u64 = 25;

#[test]
fn kills_at_random_moments_of_mixed_work_lose_nothing() {
    let mut killing = Killing::new(5);
    (0..KILLS).for_each(|round| killing.round(round));
    killing.finish();
}

#[test]
fn a_daemon_that_dies_before_it_answers_has_acknowledged_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let socket = dir.path().join("sock");
    let listener = UnixListener::bind(&socket).expect("a socket");
    // Takes connections and drops them, as a kernel does for a process that was killed.
    std::thread::spawn(move || listener.incoming().for_each(drop));
    for _ in 0..20 {
        let mut client = Command::new(binaries().join("buildctl"));
        client.env("BUILDKIT_HOST", format!("unix://{}", socket.display()));
        let ran = run(client.args(["image", "ls"]).stdin(Stdio::null()));
        ran.fails(1, &["error: "]);
    }
}
