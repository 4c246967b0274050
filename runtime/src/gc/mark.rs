//! Mark: from what is there and what points at what, to what is kept. Pure: no database, no clock.
//!
//! # Sources
//! containerd `core/metadata/gc.go`, `docs/garbage-collection.md`; spec containerd-api 6.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::content::Labels;

const ROOT: &str = "containerd.io/gc.root";
const FLAT: &str = "containerd.io/gc.flat";
const REFERENCE: &str = "containerd.io/gc.ref.";
const BACK_REFERENCE: &str = "containerd.io/gc.bref.";

/// A thing of a namespace. Kinds are those of lease resources (`content`, `images`, `ingests`, `snapshots/<snapshotter>`), and `containers`
/// and `leases`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Node {
    /// Namespace.
    pub ns: String,
    /// Kind.
    pub kind: String,
    /// Digest, name, key or ref.
    pub id: String,
}

impl Node {
    /// A thing.
    pub fn new(ns: &str, kind: &str, id: &str) -> Self {
        Self { ns: ns.to_owned(), kind: kind.to_owned(), id: id.to_owned() }
    }
}

/// What is known of a thing.
#[derive(Clone, Debug, Default)]
pub struct Object {
    /// Its labels.
    pub labels: Labels,
    /// What it needs by its nature: an image its target, a snapshot its parent.
    pub needs: Vec<Node>,
    /// Whether it is kept for its own sake.
    pub root: bool,
}

/// All things, and what points at what.
pub type Graph = BTreeMap<Node, Object>;

/// What must be kept, whether it is there or not (a label may name what nobody has).
pub fn mark(graph: &Graph) -> HashSet<Node> {
    let mut back: HashMap<Node, Vec<&Node>> = HashMap::new();
    for (node, object) in graph {
        for owner in references(node, &object.labels, BACK_REFERENCE) {
            back.entry(owner).or_default().push(node);
        }
    }
    let mut kept = HashSet::new();
    // A node that was reached flat may be reached again by a way that follows its labels.
    let mut followed = HashSet::new();
    let is_root =
        |object: &Object| object.root || object.labels.get(ROOT).is_some_and(|text| !text.is_empty());
    let roots = graph.iter().filter(|(_, object)| is_root(object));
    let mut todo: Vec<(Node, bool)> = roots.map(|(node, _)| (node.clone(), true)).collect();
    while let Some((node, follow)) = todo.pop() {
        let new = kept.insert(node.clone());
        if !(new || follow && !followed.contains(&node)) {
            continue;
        }
        if follow {
            followed.insert(node.clone());
        }
        let Some(object) = graph.get(&node) else { continue };
        let onward = follow && !object.labels.contains_key(FLAT);
        todo.extend(object.needs.iter().map(|need| (need.clone(), onward)));
        if follow {
            todo.extend(references(&node, &object.labels, REFERENCE).map(|need| (need, true)));
            todo.extend(back.get(&node).into_iter().flatten().map(|&owned| (owned.clone(), true)));
        }
    }
    kept
}

/// What the labels of a thing name: `<prefix><kind>[.<snapshotter>][./anything] = id`.
fn references<'a>(node: &'a Node, labels: &'a Labels, prefix: &'a str) -> impl Iterator<Item = Node> + 'a {
    labels.iter().filter_map(move |(key, id)| {
        let rest = key.strip_prefix(prefix)?;
        let word = rest.split(['.', '/']).next()?;
        let kind = match word {
            "content" => "content".to_owned(),
            "image" => "images".to_owned(),
            "container" => "containers".to_owned(),
            "snapshot" => {
                let snapshotter = rest.strip_prefix("snapshot.")?.split('/').next()?;
                format!("snapshots/{snapshotter}")
            }
            _ => return None,
        };
        Some(Node { ns: node.ns.clone(), kind, id: id.clone() })
    })
}

#[cfg(test)]
mod tests;
