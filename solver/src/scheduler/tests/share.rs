//! Share: what one build may take, of the places for steps and of memory.

use std::{sync::atomic::Ordering, time::Duration};

use super::{Bench, Fake, fake};
use crate::{graph::MAX_VERTICES, scheduler::SolveError};

#[tokio::test]
async fn res_10_who_comes_with_little_does_not_wait_for_very_much_of_another() {
    const STEPS: usize = 200;
    let bench = Bench::new();
    let mut many: Vec<Fake> = (0..STEPS)
        .map(|n| Fake { delay: Duration::from_millis(5), ..fake(&format!("one of many {n}"), "v") })
        .collect();
    many.push(Fake { inputs: (0..STEPS).map(|n| (n, None)).collect(), ..fake("all", "") });
    let (definition, job) = (bench.world.definition(&many), bench.job());
    let large = tokio::spawn(async move { job.build(&definition).await.map(drop) });
    while bench.world.running.load(Ordering::SeqCst) < 4 {
        tokio::task::yield_now().await;
    }
    bench.build(&[fake("little", "v")]).await;
    let before = bench.world.runs.lock().expect("no panic").len();
    assert!(before < STEPS / 2, "{before} of {STEPS} steps came first");
    large.await.expect("no panic").expect("the large build");
}

#[tokio::test]
async fn res_11_a_build_names_no_more_vertices_however_often_it_asks() {
    let bench = Bench::new();
    let job = bench.job();
    // Of each definition only the last is asked for: the others are named, not built.
    let named = |from: usize| -> Vec<Fake> {
        (from..from + MAX_VERTICES / 2).map(|n| fake(&format!("vertex {n}"), "v")).collect()
    };
    let half = bench.world.definition(&named(0));
    for _ in 0..3 {
        job.build(&half).await.expect("the same again names nothing new");
    }
    job.build(&bench.world.definition(&named(MAX_VERTICES))).await.expect("as many as may be");
    let refused = job.build(&bench.world.definition(&[fake("one more", "v")])).await.expect_err("too many");
    let SolveError::Definition(reason) = refused else { panic!("{refused:?}") };
    assert_eq!(
        reason.to_string(),
        "this build has named 100001 ops in all its definitions, at most 100000 are allowed"
    );
    job.build(&half).await.expect("what it has it may ask for");
    bench.build(&[fake("one more", "v")]).await;
}
