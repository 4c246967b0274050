//! Identifier: which words may name a namespace or be part of a topic.
//!
//! # Sources
//! containerd `pkg/identifiers/validate.go`.

use crate::error::{Error, Result};

/// Bytes of a name.
const MAX_NAME: usize = 76;

/// Fails unless `name` may name a namespace: words of letters and digits, joined by one of `.`, `_`, `-`.
pub fn check(name: &str) -> Result<()> {
    let word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric());
    match name.len() <= MAX_NAME && name.split(['.', '_', '-']).all(word) {
        true => Ok(()),
        false => Err(Error::Invalid {
            what: "namespace",
            name: name.chars().take(MAX_NAME).collect(),
            reason: format!(
                "a name is letters and digits, joined by '.', '_' or '-', at most {MAX_NAME} bytes"
            ),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_joined_by_single_marks() {
        for good in ["default", "k8s.io", "a-b_c.d", "0"] {
            check(good).expect(good);
        }
        let long = "a".repeat(MAX_NAME + 1);
        for bad in ["", "a..b", "-a", "a/", "../x", "a b", "ä", long.as_str()] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
