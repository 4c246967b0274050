//! Node: a thing of a namespace, as leases and collections name it.

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
