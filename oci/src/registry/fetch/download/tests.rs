use super::*;

#[test]
fn content_ranges() {
    for (text, expected) in [
        ("bytes 0-9/100", Some(0..10)),
        ("bytes 90-99/100", Some(90..100)),
        ("bytes 5-5/*", Some(5..6)),
        ("bytes 0-99/99", None),
        ("bytes 0-100/100", None),
        ("bytes 9-0/100", None),
        ("bytes */100", None),
        ("bytes 0-/100", None),
        ("bytes -5-9/100", None),
        ("bytes 0-18446744073709551615/100", None),
        ("items 0-9/100", None),
        ("0-9", None),
        ("", None),
    ] {
        assert_eq!(content_range(text, 100), expected, "{text}");
    }
}
