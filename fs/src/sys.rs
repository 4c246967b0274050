//! Sys: system calls of no one crate that have no safe form. With `runtime/src/sys.rs` the only unsafe code.
#![allow(unsafe_code)]

use std::{fs::File, os::fd::AsRawFd};

/// The user or group number that means "leave it as it is" to the kernel: whoever is given it stays root (CVE-2024-40635).
pub const NO_ID: u32 = u32::MAX;

/// Gives the kernel what is free in the allocator's heaps; nothing, where that is not glibc's.
pub fn trim_heaps() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes the heaps' own locks, and touches free memory alone.
    let _ = unsafe { libc::malloc_trim(0) };
}

/// Lets the kernel begin to write what a file has in memory, and waits for no more than a place in the disk's queue. A mere hint: where it cannot
/// be given, the sync that follows does all the work.
pub fn start_writeback(file: &File) {
    // SAFETY: the descriptor is open as long as `file` lives; no memory is passed.
    let _ = unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
}
