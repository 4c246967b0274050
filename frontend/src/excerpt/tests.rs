//! Where the marks go, and what happens to ranges that lie outside.
use buildd_api::error_detail::{Position, Range, SourceText};

use super::*;

fn source(text: &str, lines: (i32, i32)) -> Source {
    let at = |line| Position { line, character: 0 };
    Source {
        info: SourceText {
            filename: "Dockerfile".into(),
            data: text.as_bytes().to_vec(),
            language: String::new(),
        },
        ranges: vec![Range { start: at(lines.0), end: at(lines.1) }],
    }
}

#[test]
fn the_lines_at_fault_are_marked() {
    assert_eq!(
        render(&source("a\nb\nc\nd\ne\nf\n", (3, 4))),
        "Dockerfile:3\n--------------------\n   1 |     a\n   2 |     b\n   3 | >>> c\n   4 | >>> d\n   5 |     e\n   6 |     f\n--------------------\n"
    );
    assert_eq!(
        render(&source("only", (1, 0))),
        "Dockerfile:1\n--------------------\n   1 | >>> only\n--------------------\n"
    );
}

#[test]
fn places_far_apart_are_blocks_of_their_own() {
    let mut two = source("a\nb\nc\nd\ne\nf\ng\nh\n", (1, 1));
    two.ranges.extend(source("", (7, 7)).ranges);
    two.ranges.extend(source("", (2, 2)).ranges);
    let shown = render(&two);
    assert!(shown.starts_with("Dockerfile:1\n"), "{shown}");
    assert_eq!(shown.matches(">>>").count(), 3, "{shown}");
    assert!(shown.contains("Dockerfile:7\n--------------------\n   5 |     e\n"), "{shown}");
}

#[test]
fn ranges_outside_and_control_bytes_do_no_harm() {
    assert_eq!(render(&source("a\n", (9, 9))), "");
    assert_eq!(render(&source("", (1, 1))), "");
    assert_eq!(render(&source("a\n", (-5, -1))), "");
    assert!(render(&source("x\u{1b}[2J", (1, 1))).contains("x\u{fffd}[2J"));
    assert!(render(&source(&"line\n".repeat(10_000), (1, i32::MAX))).lines().count() < MAX_LINES + 5);
}
