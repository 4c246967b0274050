//! Simulation of crowds: jobs that build related graphs at the same time through one solver, some leaving at any point.
//!
//! Vertices that give one of a few values each time stand beside vertices that always give one of these, so that a result saved under the
//! key of inputs it was not made from shows up where nothing nondeterministic is left. The runtime has one thread and nothing waits for a
//! clock: a seed is one interleaving.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{Bench, Fake, sim::model, sim::possible, text};
use crate::{op::OpError, result::OpResult, scheduler::SolveError};

const ROUNDS: u64 = 10_000;
/// A round that takes longer has lost a wake-up: it needs microseconds.
const STUCK: Duration = Duration::from_secs(60);

/// A future whose owner leaves at its `left`th poll: None then.
struct Leaving<F> {
    inner: Option<Pin<Box<F>>>,
    left: Option<usize>,
}

impl<F: Future> Future for Leaving<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.left == Some(0) {
            self.inner = None;
            return Poll::Ready(None);
        }
        self.left = self.left.map(|left| left - 1);
        let inner = self.inner.as_mut().expect("not polled after the end");
        inner.as_mut().poll(cx).map(Some)
    }
}

/// Graphs over a few names, so that most vertices exist in several of them; what a vertex does is in its name.
fn graph(rng: &mut StdRng) -> Vec<Fake> {
    let size = rng.random_range(2..7);
    let mut fakes = Vec::new();
    for number in 0..size {
        let yields = if rng.random_bool(0.2) { 40 } else { rng.random_range(0..4) };
        let source = number == 0 || rng.random_bool(0.25);
        let (op, value, random) = match rng.random_range(0..3) {
            _ if !source => (format!("op{}", rng.random_range(0..2)), String::new(), false),
            0 => (format!("one-of-{}", rng.random_range(0..1)), "ab".to_owned(), true),
            1 => ("always-a".to_owned(), "a".to_owned(), false),
            _ => ("always-b".to_owned(), "b".to_owned(), false),
        };
        let forced = rng.random_bool(if random { 0.4 } else { 0.05 });
        let count = if source { 0 } else { rng.random_range(1..3) };
        let inputs: Vec<_> = (0..count)
            .map(|_| (rng.random_range(0..number), rng.random_bool(0.5).then(String::new)))
            .collect();
        let fails = !source && rng.random_bool(0.03);
        let op = if fails { format!("{op}-fails") } else { op };
        fakes.push(Fake { op, value, inputs, forced, fails, yields, random, ..Fake::default() });
    }
    fakes
}

type Built = Option<Result<Option<OpResult>, SolveError>>;

fn check(bench: &Bench, fakes: &[Fake], began: usize, built: &Built, seed: u64) {
    let fails = model(fakes).pop().expect("a target").is_none();
    match built {
        None => {}
        Some(Ok(Some(result))) => {
            let runs = bench.world.runs.lock().expect("no panic");
            let possible = possible(fakes, &runs, began);
            assert!(
                possible.contains(&text(result)),
                "seed {seed}: {} is none of {possible:?}: {fakes:#?} {runs:#?}",
                text(result)
            );
        }
        Some(Err(SolveError::Vertex { error: OpError { source, .. }, .. })) => {
            assert!(
                fails && source.to_string() == "it failed",
                "seed {seed}: {source} of what cannot fail: {fakes:#?}"
            );
        }
        other => panic!("seed {seed}: {other:?} {fakes:#?}"),
    }
}

#[tokio::test]
async fn crowds_get_what_runs_can_have_led_to() {
    let mut bench = Arc::new(Bench::new());
    let (mut left, mut came) = (0, 0);
    for seed in 0..ROUNDS {
        let mut rng = StdRng::seed_from_u64(seed);
        if seed % 50 == 0 {
            bench = Arc::new(Bench::new());
        }
        if rng.random_bool(0.3) {
            let third = rng.random_range(0..3);
            bench.store.drop_bytes(|result| text(result).as_bytes()[0] % 3 == third);
        }
        let first = graph(&mut rng);
        let mut crowd = Vec::new();
        for _ in 0..rng.random_range(1..4) {
            let fakes = if rng.random_bool(0.5) { first.clone() } else { graph(&mut rng) };
            let leave = rng.random_bool(0.3).then(|| rng.random_range(0..8));
            let bench = bench.clone();
            crowd.push(tokio::spawn(async move {
                let definition = bench.world.definition(&fakes);
                let began = bench.world.runs.lock().expect("no panic").len();
                let job = bench.job();
                let build = async { job.build(&definition).await };
                let built = Leaving { inner: Some(Box::pin(build)), left: leave }.await;
                check(&bench, &fakes, began, &built, seed);
                built.is_none()
            }));
        }
        for task in crowd {
            let gone = tokio::time::timeout(STUCK, task).await;
            let gone = gone.unwrap_or_else(|_| panic!("seed {seed}: a build hangs")).expect("checked");
            left += usize::from(gone);
            came += 1;
        }
    }
    assert!(left > 1000 && came > 15_000, "{left} of {came} left");
}
