//! The table of a container's processes: nobody who starts, pauses or waits holds up who looks.

use std::{
    process::{Child, Stdio},
    sync::mpsc,
    thread,
};

use super::*;

/// A stated liveness deadline: what is waited for takes milliseconds.
const LIVE: Duration = Duration::from_secs(60);

/// A table whose first process is a child of the test, and runs.
fn running() -> (tempfile::TempDir, Child, Processes) {
    let dir = tempfile::tempdir().expect("a folder");
    let child = Command::new("cat").stdin(Stdio::piped()).spawn().expect("start cat");
    let pid = Pid::from_raw(child.id().cast_signed());
    let process = Pidfd::open(pid).expect("it lives");
    let first = First { pid, process, streams: Streams::default(), kept: Kept::default(), console: None };
    let processes = Processes::new(dir.path().join("exit.json"), first);
    processes.begin("").expect("it waits to be started");
    processes.started("", None).expect("it runs");
    (dir, child, processes)
}

fn add(processes: &Processes, name: &str) {
    processes.add(name.to_owned(), serde_json::Value::Null, Streams::default()).expect("a new name");
}

fn end(mut child: Child) {
    child.kill().and_then(|()| child.wait()).expect("end our own child");
}

#[test]
fn whoever_waits_for_an_exec_that_could_not_be_started_is_answered() {
    let (_dir, child, processes) = running();
    add(&processes, "e");
    processes.begin("e").expect("it waits to be started");
    let (sender, answer) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| sender.send(processes.wait("e").map(|exit| exit.code).map_err(|no| no.reason)));
        processes.not_started("e", true);
        assert_eq!(answer.recv_timeout(LIVE).expect("an answer"), Ok(0), "as in containerd");
    });
    assert_eq!(processes.wait("e").map(|exit| exit.code).expect("one that comes later, too"), 0);
    let state = processes.state("e", false).expect("it is known");
    assert_eq!((state.status, state.exit), (Status::Created, None));
    processes.forget("e").expect("it does not run");
    assert!(processes.wait("e").is_err());
    end(child);
}

#[test]
fn a_start_that_was_refused_can_be_tried_again() {
    let (_dir, child, processes) = running();
    add(&processes, "e");
    processes.begin("e").expect("it waits to be started");
    let again = processes.begin("e").err().expect("it is being started");
    assert_eq!(again.class, Class::Precondition);
    processes.not_started("e", false);
    processes.begin("e").expect("nothing was tried");
    end(child);
}

#[test]
fn whoever_waits_for_a_process_that_is_forgotten_is_answered() {
    let (_dir, child, processes) = running();
    add(&processes, "e");
    let (sender, answer) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| sender.send(processes.wait("e").map_err(|no| no.class)));
        processes.forget("e").expect("it was not started");
        let class = answer.recv_timeout(LIVE).expect("an answer").expect_err("it is gone");
        assert_eq!(class, Class::NotFound);
    });
    end(child);
}

#[test]
fn a_pause_waits_for_starts_and_lets_no_other_begin() {
    let (_dir, child, processes) = running();
    add(&processes, "e");
    add(&processes, "f");
    processes.begin("e").expect("it waits to be started");
    let (paused, pause) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| processes.pause(|| paused.send(()).map_err(Refusal::from)));
        let refused = loop {
            match processes.begin("f") {
                // The pause has not begun.
                Ok(_) => processes.not_started("f", false),
                Err(refused) => break refused,
            }
        };
        assert_eq!(refused.class, Class::Precondition);
        assert!(refused.reason.starts_with("cannot exec in a paused container"), "{}", refused.reason);
        assert!(pause.try_recv().is_err(), "a process is being started");
        // Nobody else waits for the container meanwhile.
        processes.state("", false).expect("it is known");
        processes.kill("", Signal::SIGCONT as i32).expect("it runs");
        processes.not_started("e", false);
        pause.recv_timeout(LIVE).expect("nothing is being started");
    });
    processes.begin("f").expect("the pause is over");
    end(child);
}
