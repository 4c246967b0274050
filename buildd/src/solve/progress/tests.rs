//! What readers see of output without end.

use futures::StreamExt as _;

use super::*;

#[test]
fn output_is_never_clipped_without_a_word() {
    let progress = Arc::new(Progress::default());
    let log =
        |bytes: usize| VertexLog { vertex: "v".to_owned(), msg: vec![b'x'; bytes], ..VertexLog::default() };
    for _ in 0..2 {
        progress.tell(StatusResponse { logs: vec![log(MAX_KEPT / 2)], ..StatusResponse::default() });
    }
    for _ in 0..3 {
        progress.tell(StatusResponse { logs: vec![log(1), log(1)], ..StatusResponse::default() });
    }
    progress.end();
    let seen: Vec<_> = futures::executor::block_on(progress.messages().collect());
    let lengths: Vec<usize> = seen.iter().map(|message| message.logs.len()).collect();
    assert_eq!(lengths, [1, 1, 1, 0, 0], "all that fits, one word, and nothing");
    let word = String::from_utf8_lossy(&seen[2].logs[0].msg).into_owned();
    assert!(word.contains("longer than 64 MiB") && seen[2].logs[0].vertex == "v", "{word}");
}

#[test]
fn whoever_reads_when_a_build_ends_misses_nothing() {
    for bytes in [10, MAX_PACKED + 1] {
        let progress = Arc::new(Progress::default());
        let log = |name: &str| VertexLog {
            vertex: name.to_owned(),
            msg: vec![b'x'; bytes],
            ..VertexLog::default()
        };
        for name in ["a", "b", "c"] {
            progress.tell(StatusResponse { logs: vec![log(name)], ..StatusResponse::default() });
        }
        let mut early = Box::pin(Arc::clone(&progress).messages());
        let first = futures::executor::block_on(early.next()).expect("a message");
        progress.end();
        progress.tell(StatusResponse::default());
        let late: Vec<_> = futures::executor::block_on(progress.messages().collect());
        assert_eq!(late.iter().map(|told| told.logs[0].vertex.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(late[1].logs[0].msg.len(), bytes);
        let rest: Vec<_> = futures::executor::block_on(early.collect());
        assert!(first == late[0] && rest == late[1..]);
    }
}
