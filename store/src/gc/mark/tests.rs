//! Graphs in, survivors out; and random graphs against a model that asks the other way round.

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;

/// `kind id [label=value]... [> kind id]...`, a leading `!` makes a root.
fn graph(lines: &[&str]) -> Graph {
    let node = |text: &str| {
        let (kind, id) = text.trim().split_once(' ').expect("kind and id");
        Node::new("ns", kind, id)
    };
    let mut graph = Graph::new();
    for line in lines {
        let (root, line) = line.strip_prefix('!').map_or((false, *line), |line| (true, line));
        let mut parts = line.split('>');
        let head: Vec<&str> = parts.next().expect("a node").split_whitespace().collect();
        let label = |text: &&str| {
            let (key, value) = text.split_once('=').expect("label=value");
            (format!("containerd.io/gc.{key}"), value.to_owned())
        };
        let object =
            Object { labels: head[2..].iter().map(label).collect(), needs: parts.map(node).collect(), root };
        graph.insert(Node::new("ns", head[0], head[1]), object);
    }
    graph
}

fn survivors(lines: &[&str]) -> Vec<String> {
    let graph = graph(lines);
    let marking = Marking::of(graph.clone());
    graph.keys().filter(|node| marking.keeps(node)).map(|node| format!("{} {}", node.kind, node.id)).collect()
}

#[test]
fn what_is_reached_stays() {
    let cases: &[(&[&str], &[&str])] = &[
        (&["content a", "snapshots/overlayfs s"], &[]),
        (&["!images i > content m", "content m", "content x"], &["content m", "images i"]),
        (
            &[
                "!images i > content m",
                "content m ref.content.0=c ref.content.l.1=l",
                "content c",
                "content l",
            ],
            &["content c", "content l", "content m", "images i"],
        ),
        (
            &[
                "!images i > content c",
                "content c ref.snapshot.overlayfs=top",
                "snapshots/overlayfs top > snapshots/overlayfs low",
                "snapshots/overlayfs low",
                "snapshots/native top",
            ],
            &["content c", "images i", "snapshots/overlayfs low", "snapshots/overlayfs top"],
        ),
        (&["content a root=2026", "content b root="], &["content a"]),
        (
            &["!leases l > content a", "content a ref.content.x=b", "content b"],
            &["content a", "content b", "leases l"],
        ),
        (
            &[
                "!leases l flat=1 > content a > snapshots/overlayfs s",
                "content a ref.content.x=b",
                "content b",
                "snapshots/overlayfs s > snapshots/overlayfs p",
                "snapshots/overlayfs p",
            ],
            &["content a", "leases l", "snapshots/overlayfs p", "snapshots/overlayfs s"],
        ),
        (
            &[
                "!images i > content m",
                "content m",
                "content sbom bref.content=m",
                "content other bref.content=x",
            ],
            &["content m", "content sbom", "images i"],
        ),
        (&["content a ref.content.x=b", "content b ref.content.x=a"], &[]),
    ];
    for (lines, expected) in cases {
        assert_eq!(survivors(lines), *expected, "{lines:?}");
    }
}

#[test]
fn other_namespaces_are_other_things() {
    let mut graph = graph(&["!images i > content m", "content m"]);
    graph.insert(Node::new("other", "content", "m"), Object::default());
    assert!(!Marking::of(graph).keeps(&Node::new("other", "content", "m")));
}

#[test]
fn random_graphs_agree_with_a_search_for_a_root() {
    for seed in 0..2000 {
        let mut rng = StdRng::seed_from_u64(seed);
        let size = rng.random_range(1..12);
        let name = |n: usize| format!("b{n}");
        let mut graph = Graph::new();
        let mut edges = Vec::new();
        for from in 0..size {
            let mut object = Object { root: rng.random_bool(0.15), ..Object::default() };
            for n in 0..rng.random_range(0..3) {
                let to = rng.random_range(0..size);
                let target = Node::new("ns", "content", &name(to));
                match rng.random_range(0..3) {
                    0 => object.needs.push(target),
                    1 => drop(object.labels.insert(format!("{REFERENCE}content.{n}"), name(to))),
                    _ => {
                        object.labels.insert(format!("{BACK_REFERENCE}content.{n}"), name(to));
                        edges.push((to, from));
                        continue;
                    }
                }
                edges.push((from, to));
            }
            graph.insert(Node::new("ns", "content", &name(from)), object);
        }
        let marking = Marking::of(graph.clone());
        for wanted in 0..size {
            // From the thing to its owners, instead of from the roots to what they own.
            let (mut seen, mut todo) = (HashSet::from([wanted]), vec![wanted]);
            while let Some(at) = todo.pop() {
                todo.extend(
                    edges
                        .iter()
                        .filter(|(_, to)| *to == at)
                        .map(|(from, _)| *from)
                        .filter(|from| seen.insert(*from)),
                );
            }
            let owned = seen.iter().any(|n| graph[&Node::new("ns", "content", &name(*n))].root);
            assert_eq!(
                marking.keeps(&Node::new("ns", "content", &name(wanted))),
                owned,
                "seed {seed}: {graph:#?}"
            );
        }
    }
}
