//! Killing: kills a working daemon at random moments, as often as it is told to, and checks what is left each time.
//!
//! `cargo run --release -p buildd-tests --bin killing -- [KILLS [SEED]]`, after `cargo build --release --workspace`; root. A failure names the
//! seed. 200 kills take some five minutes.

use std::io::Write;

use buildd_tests::killing::Killing;

fn main() {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u64>().expect("a number"));
    let kills = numbers.next().unwrap_or(200);
    let seed = numbers.next().unwrap_or(1);
    let mut killing = Killing::new(seed);
    for round in 0..kills {
        killing.round(round);
        let _ = writeln!(std::io::stderr(), "seed {seed}: {} of {kills} kills", round + 1);
    }
    killing.finish();
}
