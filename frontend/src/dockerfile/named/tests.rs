//! What is set last stands last.

use super::Named;

#[test]
fn the_newest_value_goes_to_the_end() {
    let mut named: Named<u8> =
        [("a", 1), ("b", 2), ("c", 3)].map(|(n, v)| (n.to_owned(), v)).into_iter().collect();
    named.set("a", 4);
    assert_eq!(named.iter().collect::<Vec<_>>(), [("b", &2), ("c", &3), ("a", &4)]);
    assert_eq!((named.get("a"), named.get("d"), named.len()), (Some(&4), None, 3));
    assert!(!named.is_empty());
}
