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
