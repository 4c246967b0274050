//! Tree: what a layer's entries make, in memory, before it is written as an index.
//!
//! The layer file's writer puts each entry here as it comes by and has the whole written at the end. Rules are those of the directory
//! form: parents are made where missing and may be links within the layer, of duplicates the last wins, folders merge, hard links share a node.
//!
//! # Invariants
//! Node 0 is the root. A folder's names are sorted by their bytes. Nodes that were replaced stay behind unreachable: whoever reads begins
//! at the root.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Component, Path},
};

use super::{
    Entry, EntryKind, OPAQUE_XATTR, Time, erofs,
    parse::{broken, opaque_root},
};
use crate::error::Result;

/// Memory that the tree of one layer may take: a few compressed megabytes can unfold to any number of names, link targets and attributes.
const MAX_BYTES: usize = 1 << 30;
/// What a node and its name take besides their bytes.
const NODE_BYTES: usize = 200;
/// Longest name, as kernels have it.
const MAX_NAME: usize = 255;
/// Longest target of a symbolic link, as kernels have it.
const MAX_TARGET: usize = 4095;
/// Links followed on the way to one path: more is a loop.
const MAX_LINKS: usize = 40;

/// What an entry is called in a message; put together only for one.
type Shown<'a> = &'a dyn Fn() -> String;

/// Where a file's bytes lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DataLocation {
    /// In the tar, so many bytes from its begin.
    Tar(u64),
    /// After the tar, so many bytes from there.
    Expanded(u64),
    /// In the data file, so many bytes from its begin.
    ExternalData(u64),
}

/// What a node is.
#[derive(Clone, Debug)]
pub(super) enum NodeKind {
    /// A folder, its names and nodes.
    Directory(BTreeMap<Box<[u8]>, usize>),
    /// A file of so many bytes.
    File(DataLocation, u64),
    /// A link.
    Symlink(Box<[u8]>),
    /// A character device; 0:0 is a whiteout.
    Char(u32, u32),
    /// A block device.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
}

/// One inode.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) kind: NodeKind,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Time,
    pub(super) xattrs: BTreeMap<Box<[u8]>, Vec<u8>>,
}

impl Node {
    fn folder() -> Self {
        let kind = NodeKind::Directory(BTreeMap::new());
        Self { kind, mode: 0o755, uid: 0, gid: 0, mtime: Time::default(), xattrs: BTreeMap::new() }
    }

    /// About what it takes in memory.
    fn bytes(&self) -> usize {
        let target = if let NodeKind::Symlink(target) = &self.kind { target.len() } else { 0 };
        let xattrs: usize =
            self.xattrs.iter().map(|(name, value)| NODE_BYTES + name.len() + value.len()).sum();
        NODE_BYTES + target + xattrs
    }

    fn is_folder(&self) -> bool {
        matches!(self.kind, NodeKind::Directory(_))
    }
}

/// A layer's tree.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    /// About what all of it takes in memory.
    bytes: usize,
}

impl Tree {
    pub(super) fn new() -> Self {
        Self { nodes: vec![Node::folder()], bytes: 0 }
    }

    pub(super) fn node(&self, number: usize) -> &Node {
        &self.nodes[number]
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Adds one entry; `place` is where a file's bytes lie.
    pub(super) fn insert(&mut self, entry: &Entry, place: DataLocation) -> Result<()> {
        let shown: Shown<'_> = &|| entry.path.display().to_string();
        let Some(name) = entry.path.file_name() else {
            // The root itself is as we make it: only that it hides what lies below could matter.
            return if entry.kind == EntryKind::Opaque { Err(opaque_root()) } else { Ok(()) };
        };
        if entry.kind == EntryKind::Opaque {
            let folder = self.walk(&entry.path, true, shown)?;
            self.nodes[folder].xattrs.insert(opaque(), b"y".to_vec());
            return Ok(());
        }
        let parent = self.walk(entry.path.parent().unwrap_or(Path::new("")), true, shown)?;
        let name = checked(name, shown)?;
        let present = self.children(parent).get(name).copied();
        if let EntryKind::Hardlink(target) = &entry.kind {
            let (folder, linked) = self.find(target, shown)?;
            if present.is_some_and(|replaced| self.holds(replaced, folder)) {
                return Err(broken(shown(), "hard link to what it takes the place of"));
            }
            self.spend(name.len() + NODE_BYTES, shown)?;
            self.children(parent).insert(name.into(), linked);
            return Ok(());
        }
        let mut node = described(entry, place, shown)?;
        self.spend(name.len() + node.bytes(), shown)?;
        if let (Some(number), NodeKind::Directory(_)) = (present, &node.kind) {
            match &mut self.nodes[number].kind {
                NodeKind::Directory(children) => node.kind = NodeKind::Directory(std::mem::take(children)),
                // The folder takes the place of what the whiteout removed: it does not merge with it.
                NodeKind::Char(0, 0) => drop(node.xattrs.insert(opaque(), b"y".to_vec())),
                _ => {}
            }
            if self.nodes[number].is_folder() {
                let mut xattrs = std::mem::take(&mut self.nodes[number].xattrs);
                xattrs.append(&mut node.xattrs);
                node.xattrs = xattrs;
                self.nodes[number] = node;
                return Ok(());
            }
        }
        let number = self.add(node);
        self.children(parent).insert(name.into(), number);
        Ok(())
    }

    /// Whether a folder is at `path`, whose links are resolved; None if nothing of this layer is.
    pub(super) fn is_folder(&self, path: &Path) -> Option<bool> {
        let mut here = 0;
        for name in path.iter() {
            let NodeKind::Directory(children) = &self.nodes[here].kind else { return None };
            here = *children.get(name.as_bytes())?;
        }
        Some(self.nodes[here].is_folder())
    }

    /// Counts what something takes in memory.
    fn spend(&mut self, bytes: usize, shown: Shown<'_>) -> Result<()> {
        self.bytes = self.bytes.saturating_add(bytes);
        match self.bytes > MAX_BYTES {
            true => {
                Err(broken(shown(), "the names, links and attributes of this layer take more than 1 GiB"))
            }
            false => Ok(()),
        }
    }

    fn add(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// The names in a node that is known to be a folder.
    fn children(&mut self, number: usize) -> &mut BTreeMap<Box<[u8]>, usize> {
        match &mut self.nodes[number].kind {
            NodeKind::Directory(children) => children,
            _ => unreachable!("walk returns folders"),
        }
    }

    /// Whether a folder is another or lies in it.
    fn holds(&self, outer: usize, folder: usize) -> bool {
        let mut todo = vec![outer];
        while let Some(number) = todo.pop() {
            if number == folder {
                return true;
            }
            if let NodeKind::Directory(children) = &self.nodes[number].kind {
                todo.extend(children.values());
            }
        }
        false
    }

    /// What a hard link names, after the folder that has it.
    fn find(&mut self, target: &Path, shown: Shown<'_>) -> Result<(usize, usize)> {
        let missing = || {
            broken(
                shown(),
                format!("hard link to {}, which is not there", target.display().to_string().escape_debug()),
            )
        };
        let name = target.file_name().ok_or_else(missing)?;
        let parent = self.walk(target.parent().unwrap_or(Path::new("")), false, shown)?;
        let linked = *self.children(parent).get(name.as_bytes()).ok_or_else(missing)?;
        match self.nodes[linked].is_folder() {
            true => Err(broken(shown(), "hard link to a folder")),
            false => Ok((parent, linked)),
        }
    }

    /// The folder at `path`, links on the way followed inside the layer; with `make`, missing ones are made.
    fn walk(&mut self, path: &Path, make: bool, shown: Shown<'_>) -> Result<usize> {
        let mut above = vec![0];
        // What is left to go, the next part last; and whether the entry itself said it or a link.
        let mut todo: Vec<(Vec<u8>, bool)> = Vec::new();
        push_parts(&mut todo, path, true);
        let mut links = 0;
        while let Some((part, said)) = todo.pop() {
            let here = above[above.len() - 1];
            if part == b".." {
                above.truncate(above.len().saturating_sub(1).max(1));
                continue;
            }
            let next = match self.children(here).get(part.as_slice()) {
                Some(next) => *next,
                None if make && said => {
                    checked(OsStr::from_bytes(&part), shown)?;
                    self.spend(part.len() + NODE_BYTES, shown)?;
                    let made = self.add(Node::folder());
                    self.children(here).insert(part.into(), made);
                    made
                }
                None => return Err(broken(shown(), "its parent is missing or a dangling link")),
            };
            match &self.nodes[next].kind {
                NodeKind::Directory(_) => above.push(next),
                NodeKind::Symlink(target) if links < MAX_LINKS => {
                    links += 1;
                    let target = target.clone();
                    if target.starts_with(b"/") {
                        above.truncate(1);
                    }
                    push_parts(&mut todo, Path::new(OsStr::from_bytes(&target)), false);
                }
                NodeKind::Symlink(_) => return Err(broken(shown(), "its parents are links in a loop")),
                _ => return Err(broken(shown(), "its parent is not a folder")),
            }
        }
        Ok(above[above.len() - 1])
    }
}

fn opaque() -> Box<[u8]> {
    OPAQUE_XATTR.as_bytes().into()
}

fn push_parts(todo: &mut Vec<(Vec<u8>, bool)>, path: &Path, said: bool) {
    for part in path.components().rev() {
        match part {
            Component::Normal(name) => todo.push((name.as_bytes().to_vec(), said)),
            Component::ParentDir => todo.push((b"..".to_vec(), said)),
            _ => {}
        }
    }
}

fn checked<'a>(name: &'a OsStr, shown: Shown<'_>) -> Result<&'a [u8]> {
    match name.len() > MAX_NAME || name.as_bytes().contains(&0) {
        true => Err(broken(shown(), format!("a name has at most {MAX_NAME} bytes, none of them 0"))),
        false => Ok(name.as_bytes()),
    }
}

/// The node of an entry that is not a hard link.
fn described(entry: &Entry, place: DataLocation, shown: Shown<'_>) -> Result<Node> {
    if entry.kind == EntryKind::Whiteout {
        return Ok(Node { kind: NodeKind::Char(0, 0), mode: 0o600, ..Node::folder() });
    }
    let kind = match &entry.kind {
        EntryKind::Directory | EntryKind::OpaqueDirectory => NodeKind::Directory(BTreeMap::new()),
        EntryKind::File { size } => NodeKind::File(place, *size),
        EntryKind::Symlink(target) => {
            let target = target.as_os_str().as_bytes();
            if target.is_empty() || target.len() > MAX_TARGET || target.contains(&0) {
                return Err(broken(
                    shown(),
                    format!("a link's target has 1 to {MAX_TARGET} bytes, none of them 0"),
                ));
            }
            NodeKind::Symlink(target.into())
        }
        EntryKind::Char(major, minor) => NodeKind::Char(*major, *minor),
        EntryKind::Block(major, minor) => NodeKind::Block(*major, *minor),
        EntryKind::Fifo => NodeKind::Fifo,
        EntryKind::Hardlink(_) | EntryKind::Opaque | EntryKind::Whiteout => unreachable!("no such node"),
    };
    let carries = matches!(kind, NodeKind::Directory(_) | NodeKind::File(..));
    let mut xattrs = BTreeMap::new();
    for (name, value) in entry.xattrs.iter().filter(|_| carries) {
        xattrs.insert(name.as_bytes().into(), value.clone());
    }
    if entry.kind == EntryKind::OpaqueDirectory {
        xattrs.insert(opaque(), b"y".to_vec());
    }
    let mode = match kind {
        NodeKind::Symlink(_) => 0o777,
        _ => entry.mode & 0o7777,
    };
    let node = Node { kind, mode, uid: entry.uid, gid: entry.gid, mtime: entry.mtime, xattrs };
    erofs::check(&node).map_err(|error| broken(shown(), error.to_string()))?;
    Ok(node)
}
