//! Crash: what was acknowledged survives a kill at any moment, and nothing half done is ever seen.

use buildd_tests::killing::Killing;

/// Kills in every run of the tests; `cargo run --release -p buildd-tests --bin killing` does more.
const KILLS: u64 = 25;

#[test]
fn kills_at_random_moments_of_mixed_work_lose_nothing() {
    let mut killing = Killing::new(5);
    (0..KILLS).for_each(|round| killing.round(round));
    killing.finish();
}
