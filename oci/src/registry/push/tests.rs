//! Which repository a blob is mounted from.

use super::*;

#[test]
fn the_nearest_repository_is_mounted_from() {
    let nearest = |from: &[&str]| {
        let from: Vec<String> = from.iter().map(|name| (*name).to_owned()).collect();
        nearest("team/app/web", &from).map(str::to_owned)
    };
    assert_eq!(nearest(&[]), None);
    assert_eq!(nearest(&["team/app/web", ""]), None, "not from itself");
    assert_eq!(nearest(&["other", "base"]).as_deref(), Some("other"), "the first of equals");
    assert_eq!(nearest(&["library/alpine", "team/base", "team/app/api"]).as_deref(), Some("team/app/api"));
    assert_eq!(nearest(&["teams/app/web", "team/x"]).as_deref(), Some("team/x"), "by whole names");
}
