//! A content-addressed graph of work, solved with a cache; it knows nothing of containers, files or databases.
//!
//! ```text
//! Definition -> graph (checked) -> job: key from the leaves up -> cache hit -> result
//!                                                             \-> miss: inputs, key again -> flight -> save -> result
//! ```
//!
//! `op` is what the runtime implements, `cache` what it stores results in, `scheduler` the way between.
#![forbid(unsafe_code)]

pub mod cache;
pub mod cache_key;
pub mod explain;
pub mod graph;
pub mod op;
pub mod progress;
pub mod result;
pub mod scheduler;

#[cfg(test)]
#[path = "../../tests/src/random.rs"]
mod random;
