//! Content-Range: what is read of it, and what it may say of a blob.

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

proptest::proptest! {
    #[test]
    fn a_content_range_lies_in_its_blob(text in "(bytes)? ?[0-9*-]{0,12}/?[0-9*]{0,6}|.*", size in 0u64..2000) {
        if let Some(range) = content_range(&text, size) {
            assert!(range.start < range.end && range.end <= size, "{text}");
        }
    }

    #[test]
    fn a_content_range_is_read_as_it_is_written(start in 0u64..1000, length in 1u64..1000, more in 0u64..1000) {
        let (end, size) = (start + length, start + length + more);
        let text = format!("bytes {start}-{}/{size}", end - 1);
        assert_eq!(content_range(&text, size), Some(start..end));
        assert_eq!(content_range(&text, size + 1), None);
    }
}
