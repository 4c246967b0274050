//! Circles: which first-level modules of a target use each other in a ring, and where.
//!
//! A first-level module is a child of `lib.rs` or `main.rs`, with all that lies below it. The root itself is no module here: it
//! declares and composes. What is compiled for tests only does not count, for it may look at anything.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::reading::Reading;

/// Places shown of an edge.
const SHOWN: usize = 8;

/// One file as the search for circles needs it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// Its path, for the report.
    pub(super) name: &'a str,
    /// Its module's path below the root.
    pub(super) module: &'a [String],
    /// Compiled for tests only.
    pub(super) test: bool,
    /// What it names.
    pub(super) read: &'a Reading,
}

/// Module -> module it uses -> where, as `file:line: path`.
type Graph = BTreeMap<String, BTreeMap<String, Vec<String>>>;

/// One report for each set of modules that reach each other, and one for each import that would hide an edge.
pub(super) fn circles(files: &[Place<'_>]) -> Vec<String> {
    let (graph, mut found) = graph(files);
    let reach: BTreeMap<&str, BTreeSet<&str>> =
        graph.keys().map(|from| (from.as_str(), reachable(&graph, from))).collect();
    let mut seen = BTreeSet::new();
    for from in graph.keys().map(String::as_str) {
        if !reach[from].contains(from) || seen.contains(from) {
            continue;
        }
        let ring: BTreeSet<&str> = reach[from]
            .iter()
            .copied()
            .filter(|to| reach.get(to).is_some_and(|r| r.contains(from)))
            .collect();
        found.push(report(&graph, &ring));
        seen.extend(ring);
    }
    found
}

fn graph(files: &[Place<'_>]) -> (Graph, Vec<String>) {
    let modules: BTreeSet<&str> =
        files.iter().filter_map(|file| file.module.first()).map(String::as_str).collect();
    let root = files.iter().find(|file| file.module.is_empty());
    // A name at the root is a module or what the root took from one.
    let home = |word: &str| -> Option<String> {
        if modules.contains(word) {
            return Some(word.to_owned());
        }
        let full = root?.read.aliases.get(word)?;
        let from = if full[0] == "crate" { full.get(1)? } else { &full[0] };
        modules.contains(from.as_str()).then(|| from.clone())
    };
    let (mut graph, mut hidden) = (Graph::new(), Vec::new());
    for file in files.iter().filter(|file| !file.test) {
        let Some(from) = file.module.first() else { continue };
        for named in file.read.named.iter().filter(|named| !named.test && named.path[0] == "crate") {
            let place = || format!("{}:{}: {}", file.name, named.line, named.path.join("::"));
            match named.path.get(1).map(String::as_str) {
                None | Some("*") => hidden.push(format!("{} hides what it uses of the root", place())),
                Some(word) => {
                    if let Some(to) = home(word).filter(|to| to != from) {
                        graph.entry(from.clone()).or_default().entry(to).or_default().push(place());
                    }
                }
            }
        }
    }
    (graph, hidden)
}

fn reachable<'a>(graph: &'a Graph, from: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&str> = vec![from];
    while let Some(module) = next.pop() {
        for to in graph.get(module).into_iter().flat_map(BTreeMap::keys) {
            if reached.insert(to.as_str()) {
                next.push(to);
            }
        }
    }
    reached
}

/// The shortest way round, and then every edge inside the ring with the places that make it.
fn report(graph: &Graph, ring: &BTreeSet<&str>) -> String {
    let shortest = ring.iter().filter_map(|from| round(graph, from)).min_by_key(Vec::len).expect("a ring");
    let mut lines = vec![format!("{} ({} modules in the ring)", shortest.join(" -> "), ring.len())];
    for from in ring {
        for (to, places) in graph[*from].iter().filter(|(to, _)| ring.contains(to.as_str())) {
            lines.push(format!("  {from} -> {to}: {} times", places.len()));
            lines.extend(places.iter().take(SHOWN).map(|place| format!("    {place}")));
        }
    }
    lines.join("\n")
}

/// The shortest way from a module back to itself.
fn round(graph: &Graph, from: &str) -> Option<Vec<String>> {
    let mut ways = VecDeque::from([vec![from.to_owned()]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        let last = way.last().expect("a way has a start");
        for to in graph.get(last).into_iter().flat_map(BTreeMap::keys) {
            let longer = || way.iter().cloned().chain([to.clone()]).collect::<Vec<_>>();
            if to == from {
                return Some(longer());
            }
            if seen.insert(to.clone()) {
                ways.push_back(longer());
            }
        }
    }
    None
}
