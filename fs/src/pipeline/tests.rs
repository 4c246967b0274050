//! What a place is held by, and what ends with it.

use std::sync::mpsc;

use futures::FutureExt as _;

use super::*;

fn runtime() -> tokio::runtime::Runtime {
    // One thread for blocking work: no stage may need it.
    tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().expect("a runtime")
}

#[test]
fn stages_wait_for_each_other_and_kinds_for_nobody() {
    static FULL: Limit = Limit::new("full", 1);
    static FREE: Limit = Limit::new("free", 1);
    runtime().block_on(async {
        let pipeline = FULL.enter().await;
        let (first, second) = (mpsc::sync_channel::<u8>(0), mpsc::sync_channel::<u8>(0));
        // Each of the two goes on only when the other does.
        let ping = pipeline.start(move || first.0.send(1).map(|()| second.1.recv()));
        let pong = pipeline.start(move || first.1.recv().map(|n| second.0.send(n + 1)));
        assert_eq!(FREE.run(|| 7).await, 7, "another kind has places of its own");
        assert_eq!(ping.ended().await, Ok(Ok(2)));
        assert_eq!(pong.ended().await, Ok(Ok(())));
        assert!(FULL.enter().now_or_never().is_none(), "the pipeline is still there");
        drop(pipeline);
        assert!(FULL.enter().now_or_never().is_some());
    });
}

#[test]
fn a_future_that_is_dropped_gives_its_place_back_when_its_stage_ends() {
    static ONE: Limit = Limit::new("one", 1);
    runtime().block_on(async {
        let (go_on, wait) = mpsc::channel::<()>();
        let begun = ONE.run(move || wait.recv()).now_or_never();
        assert!(begun.is_none(), "it waits");
        assert!(ONE.enter().now_or_never().is_none(), "its thread is still there");
        drop(go_on);
        drop(ONE.enter().await);
        // Nor does one that never got a place keep one.
        let held = ONE.enter().await;
        assert!(ONE.run(|| ()).now_or_never().is_none());
        drop(held);
        assert!(ONE.enter().now_or_never().is_some());
    });
}

#[test]
fn a_panic_goes_on_in_the_caller_and_the_place_is_free() {
    static PANICS: Limit = Limit::new("panics", 1);
    runtime().block_on(async {
        let work = || -> u8 { panic!("as told") };
        let ended = panic::AssertUnwindSafe(PANICS.run(work)).catch_unwind().await;
        assert_eq!(ended.expect_err("a panic").downcast_ref::<&str>(), Some(&"as told"));
        assert!(PANICS.enter().now_or_never().is_some());
    });
}
