//! Memory: what the allocator holds and nobody uses goes back to the kernel.
//!
//! glibc keeps what many threads freed, in a heap for each of them, for as long as the process lives: a daemon that a hundred clients left would stay as
//! large as it was with them.

use crate::sys;

/// Gives free memory back; not for often, as it holds each heap up for some milliseconds.
pub fn give_back() {
    sys::trim_heaps();
}

#[cfg(all(test, target_env = "gnu"))]
mod tests;
