//! Definitions as graphs: their outputs, and broken ones by name.

use buildd_api::buildkit::pb;
use buildd_oci::digest::Digest;
use prost::Message;

use super::{Graph, GraphError};

fn source(name: &str) -> Vec<u8> {
    let op = pb::op::Op::Source(pb::SourceOp { identifier: name.to_owned(), ..Default::default() });
    pb::Op { op: Some(op), ..Default::default() }.encode_to_vec()
}

fn over(inputs: &[(&[u8], i64)], op: Option<pb::op::Op>) -> Vec<u8> {
    let inputs =
        inputs.iter().map(|(raw, index)| pb::Input { digest: Digest::of(raw).to_string(), index: *index });
    pb::Op { inputs: inputs.collect(), op, ..Default::default() }.encode_to_vec()
}

fn definition(def: Vec<Vec<u8>>) -> pb::Definition {
    pb::Definition { def, ..Default::default() }
}

#[test]
fn a_definition_names_its_last_input() {
    let base = source("docker-image://x");
    let graph = Graph::load(&definition(vec![base.clone(), over(&[(&base, 0)], None)]))
        .expect("valid")
        .expect("a target");
    assert_eq!(graph.target.vertex, Digest::of(&base));
    assert_eq!(graph.vertices[&Digest::of(&base)].name(), "docker-image://x");
    assert!(Graph::load(&definition(Vec::new())).expect("scratch").is_none());
}

/// Ops, and what the error must be.
type Case = (Vec<Vec<u8>>, fn(&GraphError) -> bool);

#[test]
fn broken_definitions_are_named() {
    let base = source("docker-image://x");
    let file = || Some(pb::op::Op::File(pb::FileOp::default()));
    let orphan = over(&[(b"absent", 0)], file());
    let cases: Vec<Case> = vec![
        (vec![base.clone()], |e| matches!(e, GraphError::Terminal)),
        (vec![base.clone(), over(&[(&base, 0), (&base, 0)], None)], |e| matches!(e, GraphError::Terminal)),
        (vec![base.clone(), over(&[(&base, -1)], None)], |e| matches!(e, GraphError::Input { .. })),
        (vec![base.clone(), over(&[(&base, 5_000_000_000)], None)], |e| {
            matches!(e, GraphError::Input { .. })
        }),
        (vec![over(&[(&base, 0)], None)], |e| matches!(e, GraphError::Input { .. })),
        (vec![orphan.clone(), over(&[(&orphan, 0)], None)], |e| matches!(e, GraphError::Input { .. })),
        (vec![vec![0xff; 9], over(&[(&base, 0)], None)], |e| matches!(e, GraphError::Decode { .. })),
        (vec![over(&[], None), over(&[(&base, 0)], None)], |e| matches!(e, GraphError::Unknown { .. })),
    ];
    for (number, (def, expected)) in cases.into_iter().enumerate() {
        let error = Graph::load(&definition(def)).expect_err("a broken definition");
        assert!(expected(&error), "case {number}: {error}");
    }
}

#[test]
fn random_definitions_are_loaded_or_refused() {
    let mut numbers = crate::random::Random::new();
    let mut random = move |below: usize| numbers.below(below);
    let mut loaded = 0;
    for _ in 0..5000 * crate::random::times() {
        let mut ops: Vec<Vec<u8>> = vec![source("docker-image://x"), source("local://y")];
        for _ in 0..random(6) {
            let inputs: Vec<_> =
                (0..random(3)).map(|_| (ops[random(ops.len())].clone(), random(3) as i64 - 1)).collect();
            let inputs: Vec<_> = inputs.iter().map(|(op, index)| (op.as_slice(), *index)).collect();
            let kind = [
                None,
                Some(pb::op::Op::File(pb::FileOp::default())),
                Some(pb::op::Op::Exec(pb::ExecOp::default())),
            ];
            ops.push(over(&inputs, kind[random(3)].clone()));
        }
        let last = ops[random(ops.len())].clone();
        ops.push(over(&[(&last, 0)], None));
        // Then some bytes change, or an op goes, comes twice, or moves.
        match random(6) {
            0 => drop(ops.remove(random(ops.len()))),
            1 => ops.push(ops[random(ops.len())].clone()),
            2 => {
                let (one, other) = (random(ops.len()), random(ops.len()));
                ops.swap(one, other);
            }
            3 => {
                let op = random(ops.len());
                if !ops[op].is_empty() {
                    let at = random(ops[op].len());
                    ops[op][at] ^= 1 << random(8);
                }
            }
            _ => {}
        }
        loaded += usize::from(Graph::load(&definition(ops)).is_ok());
    }
    assert!(loaded > 100, "{loaded} of 5000 could be loaded: the generator says too little");
}
