//! Large graphs: deep ones, and small ones with more paths than anybody can walk.
//!
//! The deadline is one of liveness: what is below takes seconds at most, and would end the process or the universe first if the solver's
//! stack grew with the graph or its work with the graph's paths.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{Bench, Fake, fake, text};
use crate::{
    graph::MAX_VERTICES,
    scheduler::{Job, SolveError},
};

const DEADLINE: Duration = Duration::from_secs(60);
/// As many vertices as a definition may have: its last op, which only names the target, is one.
const DEEPEST: usize = MAX_VERTICES - 1;
/// Too many for any stack.
const DEEP: usize = 20_000;

/// Each on the one before.
fn chain(length: usize) -> Vec<Fake> {
    (0..length)
        .map(|n| Fake {
            inputs: n.checked_sub(1).map(|below| (below, None)).into_iter().collect(),
            ..fake(&format!("step {n}"), "")
        })
        .collect()
}

/// Each reads the one below twice, `selector` says how.
fn diamonds(selector: Option<&str>) -> Vec<Fake> {
    let mut fakes = chain(40);
    for fake in &mut fakes[1..] {
        let (below, _) = fake.inputs[0];
        fake.inputs = vec![(below, selector.map(ToOwned::to_owned)), (below, None)];
    }
    fakes
}

/// Steps that each hand all their mounts on to the next.
fn mounts() -> Vec<Fake> {
    const COUNT: u32 = 30;
    let mut fakes = chain(COUNT as usize + 1);
    for fake in &mut fakes {
        fake.inputs = vec![fake.inputs.first().cloned(); COUNT as usize].into_iter().flatten().collect();
        fake.more_outputs = COUNT - 1;
    }
    fakes
}

/// Builds in a job of its own: the value and how often something ran.
async fn build(bench: &Bench, fakes: &[Fake]) -> (String, usize) {
    tokio::time::timeout(DEADLINE, bench.build(fakes)).await.expect("within the deadline")
}

/// What runs first time, what a second build runs (nothing), and what a third runs whose first vertex is forced.
async fn check(fakes: &[Fake]) {
    let bench = Bench::new();
    let (first, execs) = build(&bench, fakes).await;
    assert_eq!(execs, fakes.len());
    assert_eq!(build(&bench, fakes).await, (first.clone(), 0));
    let mut forced = fakes.to_vec();
    forced[0].forced = true;
    assert_eq!(build(&bench, &forced).await, (first, fakes.len()));
}

#[tokio::test]
async fn a_deep_chain_is_built_and_found_again() {
    check(&chain(DEEPEST)).await;
}

#[tokio::test]
async fn a_deep_chain_of_content_inputs_is_built_and_found_again() {
    let bench = Bench::new();
    let mut fakes = chain(DEEP);
    for fake in &mut fakes[1..] {
        fake.inputs[0].1 = Some(String::new());
    }
    let (first, execs) = build(&bench, &fakes).await;
    assert_eq!(execs, DEEP);
    assert_eq!(build(&bench, &fakes).await, (first.clone(), 0));
    fakes[0].forced = true;
    assert_eq!(build(&bench, &fakes).await, (first, 1), "what reads the same by content hits");
}

#[tokio::test]
async fn diamonds_cost_their_edges_and_not_their_paths() {
    check(&diamonds(None)).await;
}

#[tokio::test]
async fn diamonds_of_content_inputs_cost_their_edges_and_not_their_paths() {
    check(&diamonds(Some(""))).await;
}

#[tokio::test]
async fn diamonds_that_ignore_the_cache_run_each_vertex_once() {
    let bench = Bench::new();
    for selector in [None, Some("")] {
        let all: Vec<_> = diamonds(selector).into_iter().map(Fake::forced).collect();
        let (first, execs) = build(&bench, &all).await;
        assert_eq!(execs, all.len());
        assert_eq!(build(&bench, &all).await, (first, all.len()));
    }
}

#[tokio::test]
async fn mounts_handed_on_cost_their_number_and_not_its_powers() {
    check(&mounts()).await;
}

#[tokio::test]
async fn many_stages_are_collected_by_one() {
    const STAGES: usize = 5_000;
    let bench = Bench::new();
    let mut fakes = vec![fake("base", "b")];
    fakes.extend((0..STAGES).map(|n| fake(&format!("stage {n}"), "").on(0)));
    let collect =
        Fake { inputs: (1..=STAGES).map(|n| (n, Some(String::new()))).collect(), ..fake("all", "") };
    fakes.push(collect);
    let (first, execs) = build(&bench, &fakes).await;
    assert_eq!(execs, STAGES + 2);
    assert_eq!(build(&bench, &fakes).await, (first, 0));
}

#[tokio::test]
async fn a_chain_left_in_its_middle_goes_on_from_there() {
    let bench = Bench::new();
    let mut fakes = chain(DEEP);
    let (expected, _) = build(&Bench::new(), &fakes).await;
    fakes[DEEP / 2].delay = Duration::from_secs(3600);
    let (job, definition) = (bench.job(), bench.world.definition(&fakes));
    let left = tokio::spawn(async move { job.build(&definition).await });
    let until = |execs: usize, running: usize| {
        let world = bench.world.clone();
        let reached = async move {
            while (world.execs.load(Ordering::SeqCst), world.running.load(Ordering::SeqCst))
                != (execs, running)
            {
                tokio::task::yield_now().await;
            }
        };
        async { tokio::time::timeout(DEADLINE, reached).await.expect("within the deadline") }
    };
    until(DEEP / 2 + 1, 1).await;
    left.abort();
    assert!(left.await.expect_err("left").is_cancelled());
    until(DEEP / 2 + 1, 0).await;
    assert_eq!(build(&bench, &chain(DEEP)).await, (expected, DEEP - DEEP / 2));
}

#[tokio::test]
async fn a_failure_deep_in_a_chain_is_the_builds() {
    let bench = Bench::new();
    let mut fakes = chain(DEEP);
    fakes[DEEP / 2].fails = true;
    let definition = bench.world.definition(&fakes);
    let failing = bench.job();
    let failed = tokio::time::timeout(DEADLINE, failing.build(&definition)).await;
    let error = failed.expect("within the deadline").expect_err("a failure");
    let SolveError::Vertex { name, .. } = &error else { panic!("{error:?}") };
    assert!(name.starts_with(&format!("{} Fake {{ op: \"step {}\"", DEEP / 2, DEEP / 2)), "{name}");
    assert_eq!(bench.world.execs.load(Ordering::SeqCst), DEEP / 2 + 1, "nothing above it ran");
}

#[tokio::test]
async fn a_job_that_made_something_else_below_forgets_the_keys_of_before() {
    // The job first finds `look` by the content that `run` had; then it makes `run` again, which gives something else. What it asks for next
    // stands on the new one, although the copy of the old one is still in the cache under the key that the job knew.
    let bench = Bench::new();
    let run = |value: &str| fake("run", value);
    let copy = fake("copy", "").reads(0, "");
    let look = [run("a"), copy.clone(), fake("look", "").on(1)];
    let end = |job: &Arc<Job>, fakes: &[Fake]| {
        let (job, definition) = (job.clone(), bench.world.definition(fakes));
        async move { text(&job.build(&definition).await.expect("a build").expect("a target")) }
    };
    bench.build(&look).await;
    let image = |value: &str| [run(value), copy.clone(), fake("image", "").on(1)];
    let (of_a, _) = bench.build(&image("a")).await;
    bench.store.drop_bytes(|result| text(result) == "a");
    let job = bench.job();
    // The vertex of the build to come: what it gives is not in its key.
    let looked = [run("b"), copy.clone(), fake("look", "").on(1)];
    end(&job, &looked).await;
    assert_eq!(end(&job, &[run("b")]).await, "b");
    assert_ne!(end(&job, &image("b")).await, of_a, "the image of the copy of b");
}
