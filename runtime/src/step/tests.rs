//! The owner of a step keeps what the step uses until its processes have ended.

use std::{
    io::{PipeReader, pipe},
    sync::mpsc,
};

use super::*;

/// A stated liveness deadline: what is waited for takes milliseconds.
const LIVE: Duration = Duration::from_secs(60);

/// What a step stands on: says on which thread it is let go, and whether the step's folder was there still.
struct Ground {
    said: mpsc::Sender<(Option<String>, bool)>,
    folder: PathBuf,
}

impl Drop for Ground {
    fn drop(&mut self) {
        let thread = std::thread::current().name().map(str::to_owned);
        self.said.send((thread, self.folder.exists())).expect("somebody waits");
    }
}

fn process(folder: &Path, life: PipeReader) -> HelperProcess {
    HelperProcess { folder: folder.to_owned(), life: Some(life.into()) }
}

#[test]
fn what_a_dropped_step_stands_on_is_there_until_its_processes_are_gone() {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = dir.path().join("step");
    std::fs::create_dir(&folder).expect("a folder");
    let (said, hear) = mpsc::channel();
    let (life, alive) = pipe().expect("a pipe");
    let ending = Arc::default();
    let mut owner = Owner::new(Ground { said, folder: folder.clone() }, &ending);
    owner.take(process(&folder, life));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    // The helper lives: a drop that waited for it on this thread would never return.
    runtime.block_on(async { drop(owner) });
    assert!(!ending.wait(Duration::ZERO), "the step is not over");
    assert!(hear.try_recv().is_err() && folder.exists(), "its ground is let go under its processes");
    drop(alive);
    assert_eq!(hear.recv_timeout(LIVE).expect("it is let go"), (Some("step-end".to_owned()), false));
    assert!(ending.wait(LIVE));
}

#[test]
fn what_was_given_back_is_its_owners() {
    let dir = tempfile::tempdir().expect("a folder");
    let (said, hear) = mpsc::channel();
    let (life, alive) = pipe().expect("a pipe");
    let ending = Arc::default();
    let mut owner = Owner::new(Ground { said, folder: dir.path().to_owned() }, &ending);
    owner.take(process(&dir.path().join("step"), life));
    drop(alive);
    let ground = owner.give_back();
    assert!(ending.wait(LIVE));
    assert!(hear.try_recv().is_err(), "it lives as long as its owner wants");
    drop(ground);
    hear.try_recv().expect("and no longer");
}

#[test]
fn a_step_that_never_had_a_process_is_over_at_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let (said, hear) = mpsc::channel();
    let ending = Arc::default();
    drop(Owner::new(Ground { said, folder: dir.path().to_owned() }, &ending));
    assert_eq!(hear.recv_timeout(LIVE).expect("it is let go").0.as_deref(), Some("step-end"));
}
