//! Random garbage: whatever is left at a cut points at nothing that is gone.

use std::collections::{BTreeMap, BTreeSet};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;
use crate::gc::mark::{Graph, Object};

fn thing(n: usize) -> Node {
    Node::new("ns", "content", &format!("b{n}"))
}

/// Things that point at others by their nature, by a label, or by a label of the other one.
fn random(rng: &mut StdRng, circles: bool) -> (Graph, Vec<(usize, usize)>) {
    let size = rng.random_range(1..40);
    let mut graph: Graph = (0..size).map(|n| (thing(n), Object::default())).collect();
    let mut edges = Vec::new();
    for _ in 0..rng.random_range(0..2 * size) {
        let (a, b) = (rng.random_range(0..size), rng.random_range(0..size));
        let (from, to) = if circles { (a, b) } else { (a.min(b), a.max(b)) };
        if from == to && !circles {
            continue;
        }
        let (owner, key) = match rng.random_range(0..3) {
            0 => {
                graph.get_mut(&thing(from)).expect("it is there").needs.push(thing(to));
                edges.push((from, to));
                continue;
            }
            1 => (from, format!("containerd.io/gc.ref.content.{to}")),
            _ => (to, format!("containerd.io/gc.bref.content.{from}")),
        };
        let named = if owner == from { to } else { from };
        graph.get_mut(&thing(owner)).expect("it is there").labels.insert(key, format!("b{named}"));
        edges.push((from, to));
    }
    (graph, edges)
}

#[test]
fn what_is_left_at_a_cut_is_whole() {
    for seed in 0..3000 {
        let mut rng = StdRng::seed_from_u64(seed);
        let circles = rng.random_bool(0.5);
        let (graph, edges) = random(&mut rng, circles);
        let most = rng.random_range(1..6);
        let batches = batches(&Marking::of(graph.clone()), most);
        let mut gone: BTreeSet<Node> = BTreeSet::new();
        for batch in &batches {
            assert!(circles || batch.len() <= most, "seed {seed}: {} at once", batch.len());
            gone.extend(batch.iter().cloned());
            for (from, to) in &edges {
                let hollow = !gone.contains(&thing(*from)) && gone.contains(&thing(*to));
                assert!(!hollow, "seed {seed}: b{from} is left without b{to}: {batches:?}");
            }
        }
        assert_eq!(gone.len(), graph.len(), "seed {seed}: all of it goes, each once");
        assert_eq!(batches.iter().map(Vec::len).sum::<usize>(), graph.len(), "seed {seed}");
    }
}

#[test]
fn a_circle_is_not_cut() {
    let object = |next: usize| Object {
        labels: BTreeMap::from([("containerd.io/gc.ref.content.x".to_owned(), format!("b{next}"))]),
        ..Object::default()
    };
    let graph: Graph = (0..10).map(|n| (thing(n), object((n + 1) % 10))).collect();
    assert_eq!(batches(&Marking::of(graph), 3).len(), 1);
}
