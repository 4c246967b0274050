//! Lines of the display, and that a step's output cannot steer the terminal.
use super::*;

#[test]
fn lines_fit_the_width() {
    let mut running = Vertex { name: "[2/2] RUN make".into(), started: Some(5.0), ..Vertex::default() };
    running.log.extend(["a".to_owned(), "b\x1b[31mred\x1b[0m".to_owned()]);
    let cached = Vertex {
        name: "[1/2] FROM a".into(),
        cached: true,
        started: Some(1.0),
        completed: Some(1.0),
        ..Vertex::default()
    };
    let waiting = Vertex { name: "later".into(), ..Vertex::default() };
    assert_eq!(
        lines(&[cached, running, waiting], 40, 7.0, 1),
        [
            " => CACHED [1/2] FROM a            0.0s",
            " => [2/2] RUN make                 2.0s",
            " => => # bred",
        ]
    );
    let long = Vertex { name: "x".repeat(100), started: Some(0.0), ..Vertex::default() };
    assert!(lines(&[long], 40, 0.0, 1).iter().all(|line| line.chars().count() < 40));
}

#[test]
fn control_sequences_are_dropped() {
    for (text, cleaned) in
        [("a\x1b[2Jb", "ab"), ("a\rb\x07", "ab"), ("\x1b[1;31mx", "x"), ("\x1b", ""), ("a\tb", "a b")]
    {
        assert_eq!(clean(text), cleaned);
    }
}
