//! Walks: their order, their filters, and what followed links bring.

use std::{fs, ops::ControlFlow, os::unix::fs::symlink, path::PathBuf};

use super::{WalkOptions, walk, walk_each};

struct Tree(PathBuf);

impl Tree {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("buildd-walk-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        for file in ["a/b", "a/c/d", "a.txt", "z/keep", "z/drop", "real/file"] {
            fs::create_dir_all(dir.join(file).parent().expect("a parent")).expect("folders");
            fs::write(dir.join(file), "x").expect("a file");
        }
        symlink("real", dir.join("link")).expect("a link");
        Self(dir)
    }

    fn paths(&self, include: &[&str], exclude: &[&str], follow: &[&str]) -> Vec<String> {
        let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        let options = WalkOptions { include: own(include), exclude: own(exclude), follow: own(follow) };
        walk(&self.0, &options).expect("a walk").into_iter().map(|entry| entry.path).collect()
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn entries_come_folder_first_and_filtered() {
    let tree = Tree::new("filter");
    assert_eq!(
        tree.paths(&[], &[], &[]),
        ["a", "a/b", "a/c", "a/c/d", "a.txt", "link", "real", "real/file", "z", "z/drop", "z/keep"]
    );
    assert_eq!(tree.paths(&["a/c"], &[], &[]), ["a", "a/c", "a/c/d"]);
    assert_eq!(tree.paths(&["nothing"], &[], &[]), [""; 0]);
    assert_eq!(tree.paths(&[], &["a*", "link", "real"], &[]), ["z", "z/drop", "z/keep"]);
    assert_eq!(tree.paths(&[], &["*", "!z/keep"], &[]), ["z", "z/keep"]);
}

#[test]
fn followed_paths_bring_their_targets() {
    let tree = Tree::new("follow");
    assert_eq!(tree.paths(&[], &[], &["link/file"]), ["link", "real", "real/file"]);
    assert_eq!(tree.paths(&[], &[], &["/z/k*"]), ["z", "z/keep"]);
    assert_eq!(tree.paths(&[], &[], &["absent"]), [""; 0]);
}

#[test]
fn a_walk_ends_when_no_more_is_wanted() {
    let tree = Tree::new("enough");
    let mut given = Vec::new();
    // The folder that only leads to what is included is given just before it: also that may be the last.
    let include = ["a/c/d".to_owned(), "z".to_owned()].into();
    walk_each(&tree.0, &WalkOptions { include, ..WalkOptions::default() }, &mut |entry| {
        given.push(entry.path);
        if given.len() < 2 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })
    .expect("to stop is no failure");
    assert_eq!(given, ["a", "a/c"]);
    let links = walk(&tree.0, &WalkOptions::default()).expect("a walk");
    let link = links.iter().find(|entry| entry.path == "link").expect("the link");
    assert_eq!(link.link.as_deref(), Some("real"));
    assert!(link.meta.is_symlink(), "it is not followed");
}
