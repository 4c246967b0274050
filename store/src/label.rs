//! Label: free notes on a blob, an image, a snapshot and others, and how a row has them.

use std::collections::BTreeMap;

/// Free notes by name.
pub type Labels = BTreeMap<String, String>;

/// Labels as the database holds them.
pub fn labels_text(labels: &Labels) -> String {
    serde_json::to_string(labels).expect("strings have a JSON form")
}

/// The labels of a row.
pub fn labels_of(text: &str) -> Labels {
    serde_json::from_str(text).unwrap_or_default()
}
