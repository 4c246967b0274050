//! Amount: how much of the disk the build cache may keep, how much of the memory a step may take.
//!
//! # Sources
//! BuildKit `cmd/buildkitd/config` (`gckeepstorage`), `util/disk`.

use serde::{Deserialize, Serialize};

/// An amount, absolute or as a part, as BuildKit's file has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Amount {
    /// Bytes.
    Bytes(u64),
    /// `10%`, or bytes with a unit (`5GB`).
    Text(String),
}

impl Amount {
    /// Bytes, of this many in all; None if the text is no amount.
    pub(crate) fn bytes(&self, all: u64) -> Option<u64> {
        let text = match self {
            Self::Bytes(bytes) => return Some(*bytes),
            Self::Text(text) => text.trim(),
        };
        if let Some(part) = text.strip_suffix('%') {
            let part = part.trim().parse::<u64>().ok().filter(|part| *part <= 100)?;
            return Some(all / 100 * part);
        }
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let unit = match text[digits..].trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "tb" => 1_000_000_000_000,
            _ => return None,
        };
        text[..digits].parse::<u64>().ok()?.checked_mul(unit)
    }
}

#[cfg(test)]
mod tests {
    use super::Amount;

    #[test]
    fn amounts_are_bytes_units_or_parts() {
        let bytes = |text: &str| Amount::Text(text.to_owned()).bytes(1000);
        let cases = [
            ("10%", Some(100)),
            ("5GB", Some(5_000_000_000)),
            ("7", Some(7)),
            ("101%", None),
            ("5 potatoes", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(bytes(text), expected, "{text}");
        }
        assert_eq!(Amount::Bytes(3).bytes(0), Some(3));
    }
}
