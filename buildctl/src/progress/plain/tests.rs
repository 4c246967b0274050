//! The lines of a vertex from start to end.
use super::*;

fn lines(plain: &mut Plain, all: &[Vertex], change: Change) -> String {
    let mut out = String::new();
    plain.describe(all, &change, &mut out);
    out
}

#[test]
fn a_step_reads_well() {
    let mut plain = Plain::default();
    let step = |error: &str, cached| Vertex {
        name: "[1/2] RUN x".into(),
        error: error.into(),
        cached,
        started: Some(1.0),
        completed: Some(3.25),
        ..Vertex::default()
    };
    let all = [step("", false), step("exit code: 1", false), step("", true), step("context canceled", false)];
    assert_eq!(lines(&mut plain, &all, Change::Started(2)), "#1 [1/2] RUN x\n");
    assert_eq!(lines(&mut plain, &all, Change::Started(0)), "#2 [1/2] RUN x\n");
    assert_eq!(lines(&mut plain, &all, Change::Log(0, vec![(1042, "hi".into())])), "#2 1.042 hi\n");
    assert_eq!(lines(&mut plain, &all, Change::Completed(0)), "#2 DONE 2.2s\n\n");
    assert_eq!(lines(&mut plain, &all, Change::Completed(2)), "#1 CACHED\n\n");
    assert_eq!(lines(&mut plain, &all, Change::Completed(1)), "#3 ERROR: exit code: 1\n\n");
    assert_eq!(lines(&mut plain, &all, Change::Completed(3)), "#4 CANCELED\n\n");
}
