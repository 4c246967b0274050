//! Commands: one file each; this one holds what several share. `dispatch` calls them.

pub(crate) mod build;
pub(crate) mod completion;
pub(crate) mod content;
pub(crate) mod debug;
pub(crate) mod dial_stdio;
pub(crate) mod dockerfile;
pub(crate) mod du;
pub(crate) mod image;
pub(crate) mod lease;
pub(crate) mod login;
pub(crate) mod namespace;
pub(crate) mod prune;
pub(crate) mod registry;
pub(crate) mod run;
pub(crate) mod snapshot;
pub(crate) mod version;

use std::collections::{BTreeMap, HashMap};

/// Labels in one cell, in order.
fn labels(labels: &HashMap<String, String>) -> String {
    let sorted: BTreeMap<_, _> = labels.iter().collect();
    let pairs: Vec<String> = sorted.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(",")
}
