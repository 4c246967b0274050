//! Mark: from what is there and what points at what, to what is kept. Pure: no database, no clock.
//!
//! A graph is marked from its roots; what is touched while the collection goes on is marked later (`Marking::touch`), with what it is then.
//!
//! # Sources
//! containerd `core/metadata/gc.go`, `docs/garbage-collection.md`; spec containerd-api 6.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::{db::Node, label::Labels};

/// Kind of a lease.
pub(super) const LEASES: &str = "leases";
/// Kinds of snapshots begin so; the snapshotter follows.
pub(super) const SNAPSHOTS: &str = "snapshots/";

const ROOT: &str = "containerd.io/gc.root";
const FLAT: &str = "containerd.io/gc.flat";
const REFERENCE: &str = "containerd.io/gc.ref.";
const BACK_REFERENCE: &str = "containerd.io/gc.bref.";

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
#[derive(Debug)]
pub(super) struct Marking {
    graph: Graph,
    /// What names each owner by a label of its own.
    back: HashMap<Node, Vec<Node>>,
    kept: HashSet<Node>,
    /// A node that was reached flat may be reached again by a way that follows its labels.
    followed: HashSet<Node>,
    /// Names of the snapshots that are kept, of whichever snapshotter.
    chains: HashSet<String>,
}

impl Marking {
    /// What the roots of a graph keep.
    pub(super) fn of(graph: Graph) -> Self {
        let mut back: HashMap<Node, Vec<Node>> = HashMap::new();
        for (node, object) in &graph {
            for owner in references(node, &object.labels, BACK_REFERENCE) {
                back.entry(owner).or_default().push(node.clone());
            }
        }
        let is_root =
            |object: &Object| object.root || object.labels.get(ROOT).is_some_and(|text| !text.is_empty());
        let roots = graph.iter().filter(|(_, object)| is_root(object));
        let roots = roots.map(|(node, _)| node.clone()).collect();
        let (kept, followed, chains) = Default::default();
        let mut marking = Self { graph, back, kept, followed, chains };
        marking.follow(roots);
        marking
    }

    /// Whether a thing must be kept.
    pub(super) fn keeps(&self, node: &Node) -> bool {
        self.kept.contains(node)
    }

    /// Whether a snapshot of this name must be kept.
    pub(super) fn keeps_chain(&self, name: &str) -> bool {
        self.chains.contains(name)
    }

    /// Something was made, changed, found or leased since the graph was read: it is kept, with all that it needs as it is now.
    pub(super) fn touch(&mut self, node: Node, now: Option<Object>) {
        if let Some(mut object) = now {
            let before = self.graph.remove(&node).unwrap_or_default();
            // What a lease lists is not in its row; what is new of that is touched itself.
            if node.kind == LEASES {
                object.needs = before.needs;
            }
            self.graph.insert(node.clone(), object);
        }
        self.kept.remove(&node);
        self.followed.remove(&node);
        self.follow(vec![node]);
    }

    fn follow(&mut self, roots: Vec<Node>) {
        let mut todo: Vec<(Node, bool)> = roots.into_iter().map(|node| (node, true)).collect();
        while let Some((node, follow)) = todo.pop() {
            let new = self.kept.insert(node.clone());
            if new && node.kind.starts_with(SNAPSHOTS) {
                self.chains.insert(node.id.clone());
            }
            if !(new || follow && !self.followed.contains(&node)) {
                continue;
            }
            if let Some(object) = self.graph.get(&node) {
                let onward = follow && !object.labels.contains_key(FLAT);
                todo.extend(object.needs.iter().map(|need| (need.clone(), onward)));
                if follow {
                    let named = references(&node, &object.labels, REFERENCE);
                    todo.extend(named.chain(self.owned(&node).cloned()).map(|need| (need, true)));
                }
            }
            if follow {
                self.followed.insert(node);
            }
        }
    }

    fn owned(&self, node: &Node) -> impl Iterator<Item = &Node> {
        self.back.get(node).into_iter().flatten()
    }

    /// What is there and not kept.
    pub(super) fn garbage(&self) -> Vec<&Node> {
        self.graph.keys().filter(|node| !self.keeps(node)).collect()
    }

    /// All that a thing points at by its nature and its labels, and what names it as an owner.
    pub(super) fn targets(&self, node: &Node) -> Vec<Node> {
        let Some(object) = self.graph.get(node) else { return Vec::new() };
        let named = references(node, &object.labels, REFERENCE);
        named.chain(object.needs.iter().cloned()).chain(self.owned(node).cloned()).collect()
    }
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
