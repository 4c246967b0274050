//! x
#![allow(clippy::all, unreachable_pub, missing_docs, missing_debug_implementations)]
include!(concat!(env!("OUT_DIR"), "/containerd.rs"));
