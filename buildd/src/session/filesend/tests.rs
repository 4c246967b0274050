//! How the pieces of an archive end.

use futures::{FutureExt as _, StreamExt as _};

use super::*;

#[test]
fn only_a_declared_end_is_one() {
    let piece = || SharedBytes { data: "part".into() };
    for (declared, ended) in [(true, Some(None)), (false, None)] {
        let (sender, pieces) = mpsc::channel(QUEUE);
        sender.try_send(Some(piece())).expect("room");
        if declared {
            sender.try_send(None).expect("room");
        }
        drop(sender);
        let mut pieces = Box::pin(until_declared(pieces));
        assert_eq!(pieces.next().now_or_never(), Some(Some(piece())));
        assert_eq!(pieces.next().now_or_never(), ended, "declared: {declared}");
    }
}
