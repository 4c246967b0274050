//! What is dropped is unmounted and removed elsewhere, and again if it failed.

use std::{sync::mpsc, time::Duration};

use super::*;

/// A stated liveness deadline: what is waited for takes milliseconds.
const LIVE: Duration = Duration::from_secs(60);

fn cleanup() -> (tempfile::TempDir, Cleanup) {
    let dir = tempfile::tempdir().expect("a folder");
    let trash = dir.path().join("trash");
    fs::create_dir(&trash).expect("a folder");
    let cleanup = Cleanup::new(&trash);
    (dir, cleanup)
}

#[test]
fn work_is_done_in_order_on_another_thread() {
    let (_dir, cleanup) = cleanup();
    let (sender, done) = mpsc::channel();
    for number in 0..100 {
        let sender = sender.clone();
        cleanup.run(move || {
            let thread = thread::current();
            sender.send((number, thread.id(), thread.name().map(str::to_owned))).expect("somebody waits");
        });
    }
    for expected in 0..100 {
        let (number, id, name) = done.recv_timeout(LIVE).expect("it is done");
        assert_eq!((number, name.as_deref()), (expected, Some("cleanup")));
        assert_ne!(id, thread::current().id());
    }
}

#[test]
fn a_large_removal_delays_no_release() {
    let (dir, cleanup) = cleanup();
    let (start, started) = mpsc::channel();
    let (finish, finished) = mpsc::channel::<()>();
    cleanup.removals.run(Box::new(move || {
        start.send(()).expect("somebody waits");
        let _ = finished.recv();
    }));
    started.recv_timeout(LIVE).expect("a removal is at work");
    let folder = dir.path().join("folder");
    fs::create_dir(&folder).expect("a folder");
    let (release, released) = mpsc::channel();
    cleanup.discard(folder.clone(), move || release.send(()).expect("somebody waits"));
    released.recv_timeout(LIVE).expect("a release waits for no removal");
    drop(finish);
    cleanup.settle();
    assert!(!folder.exists());
}

#[test]
fn what_could_not_be_removed_is_tried_again() {
    let (dir, cleanup) = cleanup();
    let (folder, trash) = (dir.path().join("folder"), dir.path().join("trash"));
    // A mount point in use by nobody can be moved along, but not removed.
    let point = folder.join("point");
    fs::create_dir_all(&point).expect("a folder");
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("tmpfs", &point, "tmpfs", flags, None).expect("a mount; this test needs root");
    cleanup.discard(folder.clone(), || {});
    cleanup.settle();
    let left: Vec<_> = fs::read_dir(&trash).expect("the trash").flatten().map(|entry| entry.path()).collect();
    assert!(!folder.exists() && left.len() == 1, "moved, and still there: {left:?}");
    rustix::mount::unmount(left[0].join("point"), rustix::mount::UnmountFlags::DETACH).expect("an unmount");
    cleanup.retry();
    cleanup.settle();
    assert_eq!(fs::read_dir(&trash).expect("the trash").count(), 0);
}

#[test]
fn a_panic_ends_neither_the_thread_nor_who_waits() {
    let (_dir, cleanup) = cleanup();
    let (sender, done) = mpsc::channel();
    cleanup.run(|| panic!("a test's own"));
    cleanup.run(move || sender.send(()).expect("somebody waits"));
    done.recv_timeout(LIVE).expect("the next is done");
    cleanup.settle();
}

#[test]
fn the_last_owner_may_be_a_work_of_its_own() {
    let (_dir, cleanup) = cleanup();
    let cleanup = Arc::new(cleanup);
    let (sender, done) = mpsc::channel();
    let own = Arc::clone(&cleanup);
    let (go, wait) = mpsc::channel::<()>();
    cleanup.run(move || {
        wait.recv().expect("the other owner has left");
        drop(own);
        sender.send(()).expect("somebody waits");
    });
    drop(cleanup);
    go.send(()).expect("the work waits");
    done.recv_timeout(LIVE).expect("it does not wait for itself");
}
