//! Memory that threads freed leaves the process.

use std::{fs, thread};

use super::*;

/// KiB of the process that no file stands behind.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("proc");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn what_threads_freed_goes_back_to_the_kernel() {
    const PIECES: usize = 32 << 10;
    let before = resident();
    let kept: Vec<_> = (0..4)
        .map(|_| {
            thread::spawn(|| {
                let mut pieces: Vec<Vec<u8>> = (0..PIECES).map(|_| vec![1; 1 << 10]).collect();
                // The last one holds the heap's end where it is.
                pieces.pop()
            })
        })
        .collect::<Vec<_>>()
        .into_iter()
        .map(|thread| thread.join().expect("no panic"))
        .collect();
    let freed = resident();
    assert!(freed > before + (64 << 10), "{before} KiB before, {freed} after");
    give_back();
    let after = resident();
    assert!(after < before + (16 << 10), "{before} KiB before, {freed} then, {after} at last");
    drop::<Vec<Option<Vec<u8>>>>(kept);
}
