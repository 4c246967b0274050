//! What a step may do to its mount points while it runs, and where mounts may not go.

use std::{fs, os::unix::fs::symlink, path::Path};

use super::{allowed, make_folder, missing, remove};

#[test]
fn mnt_05_a_stub_whose_folder_became_a_link_is_not_sought_outside() {
    let dir = tempfile::tempdir().expect("a folder");
    let (root, host) = (dir.path().join("root"), dir.path().join("host"));
    fs::create_dir_all(host.join("b/c")).expect("folders");
    fs::write(host.join("f"), "").expect("a file");
    fs::create_dir(&root).expect("a folder");
    let stubs = missing(&root, ["/a/b/c", "/a/f", "/own/g"].map(Into::into).into_iter()).expect("stubs");
    assert_eq!(stubs.len(), 6, "{stubs:?}");
    fs::create_dir_all(root.join("own")).expect("a folder");
    fs::write(root.join("own/g"), "").expect("a file");
    symlink(&host, root.join("a")).expect("a link");
    remove(&root, &stubs);
    assert!(host.join("b/c").exists() && host.join("f").exists(), "the host's own were removed");
    assert!(!root.join("own").exists(), "what is still as it was goes");
    // What the step put there is its own.
    fs::create_dir(root.join("own")).expect("a folder");
    fs::write(root.join("own/g"), "text").expect("a file");
    remove(&root, &stubs);
    assert!(root.join("own/g").exists());
}

#[test]
fn a_folder_is_made_inside_the_root_whatever_links_say() {
    let dir = tempfile::tempdir().expect("a folder");
    let (root, host) = (dir.path().join("root"), dir.path().join("host"));
    fs::create_dir_all(root.join("real")).expect("folders");
    fs::create_dir(&host).expect("a folder");
    symlink("/real", root.join("in")).expect("a link");
    symlink(&host, root.join("out")).expect("a link");
    symlink("../../../..", root.join("up")).expect("a link");
    for path in ["/in/x/y", "/out/x/y", "up/z", "/../w", "/"] {
        make_folder(&root, Path::new(path)).expect(path);
    }
    assert!(root.join("real/x/y").is_dir() && root.join("z").is_dir() && root.join("w").is_dir());
    assert_eq!(fs::read_dir(&host).expect("it").count(), 0);
    fs::write(root.join("file"), "").expect("a file");
    assert!(make_folder(&root, Path::new("/file/x")).is_err());
}

#[test]
fn mnt_03_and_mnt_04_what_the_kernel_shows_is_not_mounted_over() {
    let dir = tempfile::tempdir().expect("a folder");
    let root = dir.path();
    fs::create_dir_all(root.join("proc/self")).expect("folders");
    symlink("/proc/sys", root.join("link")).expect("a link");
    symlink("../../sys/fs", root.join("up")).expect("a link");
    let refused = [
        "/proc",
        "/proc/self/x",
        "/sys",
        "/sys/fs/cgroup",
        "/dev",
        "/dev/pts",
        "/dev/mqueue",
        "/",
        "//",
        "..",
        "proc/",
        "/x/../proc",
        "/link",
        "/link/kernel",
        "/up/cgroup",
    ];
    for target in refused {
        let error = allowed(root, Path::new(target)).expect_err(target);
        assert!(error.to_string().contains("must stay as it is"), "{target}: {error}");
    }
    for target in ["/cache", "relative", "/dev/shm/x", "/dev/net", "/processes", "/etc/resolv.conf", "/../x"]
    {
        allowed(root, Path::new(target)).expect(target);
    }
}
