//! Lists that are in order, and lists that are not, with the path that is refused.
use super::*;

/// Paths that end in a slash are folders.
fn first_refused<'a>(paths: &[&'a str]) -> Option<&'a str> {
    let mut order = PathOrder::default();
    paths.iter().copied().find(|path| {
        let (name, directory) = path.strip_suffix('/').map_or((*path, false), |name| (name, true));
        order.next(name, directory).is_err()
    })
}

#[test]
fn lists_in_order() {
    for paths in [
        &["a/", "a/b", "a.b"][..],
        &["a/", "a/b/", "a/b/c", "a/c", "b"],
        &["a", "a.b/", "a.b/x", "ab"],
        &["d/", "d/e/", "f/", "f/g"],
        &[],
    ] {
        assert_eq!(first_refused(paths), None, "{paths:?}");
    }
}

#[test]
fn lists_out_of_order_or_unclean() {
    for (paths, refused) in [
        (&["b", "a"][..], "a"),
        (&["a", "a"], "a"),
        (&["a.b", "a/"], "a/"),
        (&["a", "a/b"], "a/b"),
        (&["a/b"], "a/b"),
        (&["a/", "b", "a/c"], "a/c"),
        (&["a/", "a/b/c"], "a/b/c"),
        (&["/etc"], "/etc"),
        (&[".."], ".."),
        (&["a/", "a/../b"], "a/../b"),
        (&["."], "."),
        (&[""], ""),
        (&["a/", "a//b"], "a//b"),
        (&["a\0b"], "a\0b"),
    ] {
        assert_eq!(first_refused(paths), Some(refused), "{paths:?}");
    }
    assert_eq!(PathOrder::default().next(&"x".repeat(PATH_BYTES), false), Ok(()));
    assert!(PathOrder::default().next(&"x".repeat(PATH_BYTES + 1), false).is_err());
}
