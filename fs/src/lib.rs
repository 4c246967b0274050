//! Files without a daemon: what may block, ignore patterns, in-root paths, ordered walks.
