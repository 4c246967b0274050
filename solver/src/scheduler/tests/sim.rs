//! Simulation: random graphs built again and again through one store, against a model that always executes.
//!
//! A value is a pure function of what a vertex reads, so a cached build must give exactly what the model computes. Some
//! builds are cancelled, some vertices fail, some are forced, some results lose their bytes in between.

use std::{sync::atomic::Ordering, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{Bench, Fake, text, value};

const GRAPHS: u64 = 10_000;
const SELECTORS: [&str; 2] = ["", "head"];

fn graph(rng: &mut StdRng) -> Vec<Fake> {
    let size = rng.random_range(1..8);
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
                ..Fake::default()
            }
        })
        .collect()
}

/// What the target must be; None if something it needs fails.
fn model(fakes: &[Fake]) -> Vec<Option<String>> {
    let mut values: Vec<Option<String>> = Vec::new();
    for fake in fakes {
        let inputs: Option<Vec<String>> =
            fake.inputs.iter().map(|(index, _)| values[*index].clone()).collect();
        values.push(inputs.filter(|_| !fake.fails).map(|inputs| value(fake, &inputs)));
    }
    values
}

#[tokio::test]
async fn cached_builds_give_what_the_model_gives() {
    let mut bench = Bench::new();
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
        let built = bench.job().build(&definition).await;
        let expected = model(&fakes).pop().expect("a target");
        match (&built, &expected) {
            (Ok(Some(result)), Some(expected)) => {
                assert_eq!(&text(result), expected, "seed {seed}: {fakes:#?}")
            }
            // A cached result of an equal step may stand in for one that would fail now.
            (Ok(Some(_)), None) => {}
            (Err(_), None) => {}
            other => panic!("seed {seed}: {other:?} {fakes:#?}"),
        }
    }
    assert!(bench.world.execs.load(Ordering::SeqCst) > 0);
}
