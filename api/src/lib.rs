//! Wire types of the two public APIs, and the few rules that both ends of a wire must share.
//!
//! [`buildkit`] and [`containerd`] are generated; [`file_sync`] and [`error_detail`] are what BuildKit's clients and servers agree on beyond their
//! .proto files; [`bytes_message`] reads and writes one of their messages without a copy. Nothing here does I/O or decides anything.

pub mod buildkit;
pub mod bytes_message;
pub mod containerd;
pub mod error_detail;
pub mod file_sync;
pub mod llb;

#[cfg(test)]
#[path = "../../tests/src/random.rs"]
mod random;
