//! Cache: what is kept for later builds: rows of results, folders of cache mounts.

pub mod mounts;
pub mod results;
