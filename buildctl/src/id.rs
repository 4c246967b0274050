//! Ids: names that nobody else chooses, for builds, uploads, leases and sessions.

use rand::Rng as _;

/// A new id in the form of BuildKit's: 25 characters of base 36, some 128 random bits.
pub(crate) fn new_id() -> String {
    const LENGTH: usize = 25;
    let mut rng = rand::rng();
    let digit = |n: u32| char::from_digit(n, 36).expect("below 36");
    (0..LENGTH).map(|_| digit(rng.random_range(0..36))).collect()
}
