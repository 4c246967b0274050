//! Header values as Go's clients and daemons write them.
use super::*;

#[test]
fn escapes_are_undone() {
    for (text, plain) in [
        ("a%2Fb", "a/b"),
        ("%C3%A4+b", "ä b"),
        ("%", "%"),
        ("%4", "%4"),
        ("%zz", "%zz"),
        ("plain.txt", "plain.txt"),
        ("ä%41", "äA"),
    ] {
        assert_eq!(unescape(text), plain);
    }
}

#[test]
fn values_are_escaped_only_if_said() {
    let mut metadata = MetadataMap::new();
    metadata.append("exclude-patterns", "a+b".parse().expect("ASCII"));
    metadata.append("exclude-patterns", "c%41".parse().expect("ASCII"));
    assert_eq!(values(&metadata, "exclude-patterns"), ["a+b", "c%41"]);
    metadata.insert("exclude-patterns-encoded", "1".parse().expect("ASCII"));
    assert_eq!(values(&metadata, "exclude-patterns"), ["a b", "cA"]);
}
