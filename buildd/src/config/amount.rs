//! Amount: how much of the disk the build cache may keep, how much of the memory a step may take.
//!
//! # Sources
//! BuildKit `cmd/buildkitd/config` (`gckeepstorage`), `util/disk`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::OciWorker;

/// Hundredths of the disk that the cache keeps where nothing is configured.
const KEEP_PERCENT: u64 = 10;
/// Bytes that it keeps on however small a disk.
const KEEP_LEAST: u64 = 2_000_000_000;

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

impl OciWorker {
    /// Bytes of the build cache that stay when it is cut back; None if it never is.
    pub(crate) fn keep(&self, root: &Path) -> Option<u64> {
        if self.gc == Some(false) {
            return None;
        }
        let size = disk(root).size;
        match &self.keep_storage {
            Some(keep) => keep.bytes(size),
            None => Some((size / 100 * KEEP_PERCENT).max(KEEP_LEAST)),
        }
    }
}

/// A disk's bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Disk {
    /// All.
    pub(crate) size: u64,
    /// Those that are free for us.
    pub(crate) free: u64,
}

/// The disk that a folder lies on; nothing if it cannot be asked.
pub(crate) fn disk(folder: &Path) -> Disk {
    rustix::fs::statvfs(folder).map_or_else(
        |_| Disk::default(),
        |disk| Disk { size: disk.f_blocks * disk.f_frsize, free: disk.f_bavail * disk.f_frsize },
    )
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
