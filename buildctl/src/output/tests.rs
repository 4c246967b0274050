//! Sizes, ages, formats and the table.
use super::*;

#[test]
fn sizes_are_short() {
    for (bytes, text) in [
        (0, "0B"),
        (999, "999B"),
        (1000, "1.00kB"),
        (12_345, "12.3kB"),
        (999_900, "1.00MB"),
        (5_000_000_000, "5.00GB"),
    ] {
        assert_eq!(size(bytes), text);
    }
}

#[test]
fn sizes_are_read() {
    for (text, bytes) in
        [("10", 10), ("1.5kB", 1500), ("64MiB", 64 << 20), ("2g", 2 << 30), (" 3 MB ", 3_000_000)]
    {
        assert_eq!(parse_size(text).expect(text), bytes);
    }
    for text in ["", "x", "1XB", "1.2.3MB", "-5"] {
        assert!(parse_size(text).is_err(), "{text}");
    }
}

#[test]
fn ages() {
    for (seconds, text) in [
        (0, "0 seconds ago"),
        (61, "1 minute ago"),
        (7200, "2 hours ago"),
        (86_400 * 3, "3 days ago"),
        (86_400 * 21, "3 weeks ago"),
        (86_400 * 7 * 52 * 2, "2 years ago"),
        (-5, "0 seconds ago"),
    ] {
        assert_eq!(ago(1_000_000_000 - seconds, 1_000_000_000), text);
    }
}

#[test]
fn formats() {
    assert_eq!(parse_format("json"), Ok(Format::Json));
    assert_eq!(parse_format("{{json .}}"), Ok(Format::JsonLines));
    assert_eq!(parse_format("{{ json . }}"), Ok(Format::JsonLines));
    assert!(parse_format("{{.ID}}").is_err());
}

#[test]
fn columns_align() {
    let row = |cells: [&str; 2]| Row { cells: cells.map(str::to_owned).to_vec(), json: Value::Null };
    assert_eq!(
        table(&["NAME", "SIZE"], &[row(["a", "1"]), row(["longer", "2"])]),
        "NAME     SIZE\na        1\nlonger   2\n"
    );
}
