//! Ignore patterns: what they match, in which order they count, and that hostile ones are refused or quick.

use super::Patterns;

#[test]
fn patterns_match_paths_and_parents() {
    for (pattern, path, expected) in [
        ("a", "a", true),
        ("a", "a/b/c", true),
        ("a", "ab", false),
        ("/a", "a", true),
        ("*.log", "x.log", true),
        ("*.log", "d/x.log", false),
        ("**/*.log", "d/e/x.log", true),
        ("**/*.log", "x.log", true),
        ("**", "anything/at/all", true),
        ("d/**", "d", false),
        ("d/**", "d/e", true),
        ("d/**/f", "d/f", true),
        ("d/**/f", "d/e/g/f", true),
        ("d/**/f", "d/ef", false),
        ("**/f", "ef", false),
        ("?.c", "a.c", true),
        ("?.c", "ab.c", false),
        ("[a-c]x", "bx", true),
        ("[^a-c]x", "bx", false),
        ("[^a-c]x", "dx", true),
        (r"\*", "*", true),
        (r"\*", "a", false),
        ("a/../b", "b", true),
        ("./a/", "a", true),
        ("a.b", "axb", false),
        ("**foo", "dir/foo", true),
        ("dir/*", "dir/x/y", true),
        ("*", "x", true),
        ("ü*", "über", true),
    ] {
        let patterns = Patterns::from_list(&[pattern]).expect(pattern);
        assert_eq!(patterns.matches(path), expected, "{pattern} on {path}");
    }
}

#[test]
fn the_last_match_decides() {
    let patterns =
        Patterns::parse("# note\n*.log\n\n!keep.log\ntarget\n!target/x\n").expect("an ignore file");
    for (path, expected) in [
        ("a.log", true),
        ("keep.log", false),
        ("target/y", true),
        ("target/x", false),
        ("target/x/z", false),
        ("b", false),
    ] {
        assert_eq!(patterns.matches(path), expected, "{path}");
    }
    assert_eq!(patterns.explain("a.log"), Some((2, "*.log")));
    assert_eq!(patterns.explain("keep.log"), None);
}

#[test]
fn folders_above_a_match_are_reached() {
    let patterns = Patterns::from_list(&["a/b*/c", "x/**"]).expect("patterns");
    for (path, expected) in
        [("a", true), ("a/bb", true), ("a/c", false), ("x/y/z", true), ("y", false), ("a/b/c/d", true)]
    {
        assert_eq!(patterns.may_match_below(path), expected, "{path}");
    }
}

#[test]
fn broken_patterns_are_refused_and_hostile_ones_are_quick() {
    for pattern in ["[", "[]", "[a", "a\\", "!"] {
        assert!(Patterns::from_list(&[pattern]).is_err(), "{pattern}");
    }
    let hostile = Patterns::from_list(&["*a".repeat(300)]).expect("a long pattern");
    assert!(!hostile.matches(&"a".repeat(299)));
    assert!(hostile.matches(&"a".repeat(3000)));
}
