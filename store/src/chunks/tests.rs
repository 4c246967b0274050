//! What one thread writes and another reads: all of it, in order, and how it ended.

use super::*;

/// Writes in a thread, reads here; what came, how reading ended and how writing did.
fn through(
    write: impl FnOnce(&mut Sending) -> Result<u32> + Send,
) -> (Vec<u8>, io::Result<usize>, Result<Option<u32>>) {
    let (queue, mut pieces) = queue();
    thread::scope(|scope| {
        let writing = scope.spawn(move || written(queue, write));
        let mut came = Vec::new();
        let read = pieces.read_to_end(&mut came);
        (came, read, writing.join().expect("no panic"))
    })
}

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at % 249) as u8).collect()
}

#[test]
fn all_comes_in_order_whatever_it_is_written_in() {
    for (size, step) in [(0, 1), (1, 1), (PIECE, 7777), (PIECE + 1, PIECE), (20 * PIECE + 3, 3 * PIECE + 1)] {
        let whole = bytes(size);
        let write = |out: &mut Sending| {
            whole.chunks(step).try_for_each(|some| out.write_all(some)).expect("a reader");
            Ok(5)
        };
        let (came, read, written) = through(write);
        assert!(came == whole, "{size} {step}");
        assert_eq!((read.expect("an end"), written.expect("written")), (size, Some(5)));
    }
}

#[test]
fn a_failure_is_told_to_the_reader_who_then_has_not_all() {
    let (came, read, written) = through(|out| {
        out.write_all(&bytes(2 * PIECE + 9)).expect("a reader");
        Err(Error::NotFound { what: "test", name: "x".to_owned() })
    });
    assert_eq!(came.len(), 2 * PIECE, "what was sent");
    assert!(read.is_err() && matches!(written, Err(Error::NotFound { .. })));
}

#[test]
fn a_writer_that_panics_is_no_end() {
    let (queue, mut pieces) = queue();
    let writing = thread::spawn(move || {
        written(queue, |out| -> Result<()> {
            out.write_all(&bytes(2 * PIECE)).expect("a reader");
            panic!("as the test wants it")
        })
    });
    let mut came = Vec::new();
    let read = pieces.read_to_end(&mut came).expect_err("not whole");
    assert!(writing.join().is_err() && came.len() < 2 * PIECE, "{read}");
}

#[test]
fn a_reader_who_goes_ends_the_writing() {
    let (queue, pieces) = queue();
    let writing = thread::spawn(move || {
        written(queue, |out| {
            let fail = |source| Error::WriteLayer { entry: "all".to_owned(), source };
            loop {
                out.write_all(&[1; 5000]).map_err(fail)?;
            }
        })
    });
    drop(pieces);
    let ended: Result<Option<()>> = writing.join().expect("no panic");
    assert!(matches!(ended, Ok(None)));
}
