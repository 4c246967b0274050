//! Paths inside a root: nothing in them leads out of it.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use super::{Follow, clean, open_in_root, open_root, resolve};

struct Tree(PathBuf);

impl Tree {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("buildd-fs-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("root/a/b")).expect("folders");
        fs::write(dir.join("secret"), "outside").expect("a file");
        symlink("/a/b", dir.join("root/absolute")).expect("a link");
        symlink("../../../../secret", dir.join("root/a/up")).expect("a link");
        symlink("loop", dir.join("root/loop")).expect("a link");
        Self(dir)
    }

    fn root(&self) -> PathBuf {
        self.0.join("root")
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn links_resolve_inside_the_root() {
    let tree = Tree::new("resolve");
    for (path, follow, expected) in [
        ("absolute/x/y", Follow::All, "a/b/x/y"),
        ("/absolute", Follow::All, "a/b"),
        ("/absolute", Follow::Parents, "absolute"),
        ("a/up", Follow::All, "secret"),
        ("../../etc/passwd", Follow::All, "etc/passwd"),
        ("a/b/../../new", Follow::All, "new"),
        ("/", Follow::All, ""),
    ] {
        assert_eq!(
            resolve(&tree.root(), Path::new(path), follow).expect(path),
            Path::new(expected),
            "{path}"
        );
    }
    assert!(resolve(&tree.root(), Path::new("loop"), Follow::All).is_err());
}

#[test]
fn the_kernel_does_not_leave_the_root() {
    let tree = Tree::new("open");
    let root = open_root(&tree.root()).expect("the root");
    let open = |path: &str| {
        open_in_root(
            std::os::fd::AsFd::as_fd(&root),
            Path::new(path),
            rustix::fs::OFlags::RDONLY,
            rustix::fs::Mode::empty(),
        )
    };
    assert!(open("/absolute").is_ok());
    assert!(open("a/up").is_err(), "a link led out of the root");
    assert!(open("../secret").is_err());
}

#[test]
fn cleaning_never_climbs() {
    for (path, expected) in [("/a//b/./c", "a/b/c"), ("../../x", "x"), ("a/../..", ""), ("", "")] {
        assert_eq!(clean(Path::new(path)), Path::new(expected));
    }
}
