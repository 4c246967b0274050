//! Simulation: random graphs built again and again through one store, against a model that always executes.
//!
//! Where all vertices are pure functions of what they read, a cached build must give exactly what the model computes. Where some give
//! something else each time they run, it must give what runs can have led to: every value came out of a run of its op on values that, in
//! turn, its inputs can have had, and a forced vertex's out of a run of this very build. Some builds are cancelled, some vertices fail, some
//! are forced, some results lose their bytes in between.

use std::{collections::BTreeSet, sync::atomic::Ordering, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{Bench, Fake, Run, selected, text, value};

const GRAPHS: u64 = 10_000;
const SELECTORS: [&str; 2] = ["", "head"];

fn graph(rng: &mut StdRng) -> Vec<Fake> {
    let size = rng.random_range(1..8);
    let chance = if rng.random_bool(0.5) { 0.2 } else { 0.0 };
    (0..size)
        .map(|number| {
            let inputs = if number == 0 { 0 } else { rng.random_range(0..3) };
            let input = |rng: &mut StdRng| {
                let selector = rng.random_bool(0.4).then(|| SELECTORS[rng.random_range(0..2)].to_owned());
                (rng.random_range(0..number), selector)
            };
            Fake {
                // Few names, so that graphs share vertices.
                op: format!("op{}", rng.random_range(0..6)),
                inputs: (0..inputs).map(|_| input(rng)).collect(),
                forced: rng.random_bool(0.1),
                fails: rng.random_bool(0.02),
                random: rng.random_bool(chance),
                ..Fake::default()
            }
        })
        .collect()
}

/// What the target must be; None if something it needs fails.
pub(super) fn model(fakes: &[Fake]) -> Vec<Option<String>> {
    let mut values: Vec<Option<String>> = Vec::new();
    for fake in fakes {
        let inputs: Option<Vec<String>> =
            fake.inputs.iter().map(|(index, _)| values[*index].clone()).collect();
        values.push(inputs.filter(|_| !fake.fails).map(|inputs| value(fake, &inputs)));
    }
    values
}

/// What the target may be, after these runs; those from `began` on are of the last build.
pub(super) fn possible(fakes: &[Fake], runs: &[Run], began: usize) -> BTreeSet<String> {
    let mut values: Vec<BTreeSet<String>> = Vec::new();
    for fake in fakes {
        let led_to = |run: &&Run| {
            let seen = |((index, selector), seen): (&(usize, Option<String>), &String)| match selector {
                None => values[*index].contains(seen),
                Some(selector) => values[*index].iter().any(|value| selected(selector, value) == *seen),
            };
            run.op == fake.op
                && run.seen.len() == fake.inputs.len()
                && fake.inputs.iter().zip(&run.seen).all(seen)
        };
        let runs = if fake.forced { &runs[began..] } else { runs };
        values.push(runs.iter().filter(led_to).map(|run| run.out.clone()).collect());
    }
    values.pop().expect("a target")
}

#[tokio::test]
async fn cached_builds_give_what_the_model_gives() {
    let mut bench = Bench::new();
    let mut random = 0;
    for seed in 0..GRAPHS {
        let mut rng = StdRng::seed_from_u64(seed);
        if seed % 50 == 0 {
            bench = Bench::new();
        }
        let fakes = graph(&mut rng);
        let definition = bench.world.definition(&fakes);
        if rng.random_bool(0.1) {
            bench.store.drop_bytes(|result| text(result).as_bytes()[0].is_multiple_of(3));
        }
        let job = bench.job();
        if rng.random_bool(0.1) {
            let limit = Duration::from_micros(rng.random_range(0..200));
            let _ = tokio::time::timeout(limit, job.build(&definition)).await;
        }
        let began = bench.world.runs.lock().expect("no panic").len();
        let built = bench.job().build(&definition).await;
        let expected = model(&fakes).pop().expect("a target");
        let pure = bench.pure && fakes.iter().all(|fake| !fake.random);
        bench.pure = pure;
        match (&built, &expected) {
            (Ok(Some(result)), Some(expected)) if pure => {
                assert_eq!(&text(result), expected, "seed {seed}: {fakes:#?}")
            }
            (Ok(Some(result)), _) => {
                // A cached result of an equal step may stand in for one that would fail now.
                let runs = bench.world.runs.lock().expect("no panic");
                let possible = possible(&fakes, &runs, began);
                assert!(
                    possible.contains(&text(result)),
                    "seed {seed}: {} {fakes:#?} {runs:#?}",
                    text(result)
                );
                random += usize::from(!pure);
            }
            (Err(_), None) => {}
            other => panic!("seed {seed}: {other:?} {fakes:#?}"),
        }
    }
    assert!(bench.world.execs.load(Ordering::SeqCst) > 0);
    assert!(random > 1000, "{random} builds had a vertex that gives something else each time");
}
