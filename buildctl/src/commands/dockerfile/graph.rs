//! Graph: a definition as a DOT digraph, a node for each op, an arrow from each input to its user.

use std::{collections::HashMap, fmt::Write as _};

use buildd_api::buildkit::pb::{self, op::Op};
use buildd_oci::digest::Digest;
use prost::Message as _;

const NAME: &str = "llb.customname";

/// All definitions in one graph, each a cluster.
pub(super) fn dot(definitions: &[(String, pb::Definition)]) -> String {
    let mut out = String::from("digraph {\n  node [shape=box];\n");
    for (number, (platform, definition)) in definitions.iter().enumerate() {
        let _ = writeln!(out, "  subgraph cluster_{number} {{\n    label={};", quoted(platform));
        cluster(&mut out, number, definition);
        out.push_str("  }\n");
    }
    out.push_str("}\n");
    out
}

fn cluster(out: &mut String, cluster: usize, definition: &pb::Definition) {
    let mut nodes = HashMap::new();
    for (number, bytes) in definition.def.iter().enumerate() {
        let Ok(op) = pb::Op::decode(bytes.as_slice()) else { continue };
        let digest = Digest::of(bytes).to_string();
        let node = format!("n{cluster}_{number}");
        let name = definition.metadata.get(&digest).and_then(|metadata| metadata.description.get(NAME));
        let label = name.cloned().unwrap_or_else(|| kind(&op));
        let shape = if op.op.is_none() { " shape=point" } else { "" };
        let _ = writeln!(out, "    {node} [label={}{shape}];", quoted(&label));
        for input in &op.inputs {
            if let Some(from) = nodes.get(&input.digest) {
                let _ = writeln!(out, "    {from} -> {node};");
            }
        }
        nodes.insert(digest, node);
    }
}

fn kind(op: &pb::Op) -> String {
    match &op.op {
        None => "result".to_owned(),
        Some(Op::Source(source)) => source.identifier.clone(),
        Some(Op::Exec(exec)) => exec.meta.as_ref().map_or_else(String::new, |meta| meta.args.join(" ")),
        Some(Op::File(_)) => "file".to_owned(),
        Some(Op::Merge(_)) => "merge".to_owned(),
        Some(Op::Diff(_)) => "diff".to_owned(),
        Some(Op::Build(_)) => "build".to_owned(),
    }
}

fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{escaped}\"")
}
