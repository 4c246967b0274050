//! Policy: what of the build cache stays when it is cut back.
//!
//! The rules of `[[worker.oci.gcpolicy]]` apply one after the other; without any, four are made of the sizes in `[worker.oci]`, and those,
//! where none is given, of the size of the disk.
//!
//! # Sources
//! BuildKit `cmd/buildkitd/config/gcpolicy*.go`.

use std::{path::Path, time::Duration};

use buildd_store::usage::Policy;
use serde::{Deserialize, Serialize};

use super::{Amount, ConfigError, OciWorker, amount};
use crate::filter::Filters;

/// What is easily made again, and how long it is kept: files of clients, cache mounts, checkouts.
const TRANSIENT: [&str; 3] = ["type==source.local", "type==exec.cachemount", "type==source.git.checkout"];
const TRANSIENT_AGE: Duration = Duration::from_secs(48 * 3600);
const TRANSIENT_MAX: u64 = 512_000_000;
/// How long anything unused is kept.
const AGE: Duration = Duration::from_secs(60 * 24 * 3600);
/// Defaults of the sizes, as hundredths of the disk, and most bytes.
const RESERVED: (u64, u64) = (10, 10_000_000_000);
const MAX_USED: (u64, u64) = (80, 100_000_000_000);
const MIN_FREE: (u64, u64) = (20, u64::MAX);

/// One rule, as BuildKit's file has it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct GcPolicy {
    /// Also what is shared with images.
    pub(crate) all: bool,
    /// Only what matches one of these.
    pub(crate) filters: Vec<String>,
    /// Keep what was used within this time: `48h`, or seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) keep_duration: Option<Age>,
    /// The older name of `reservedSpace`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) keep_bytes: Option<Amount>,
    /// How much is left in any case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reserved_space: Option<Amount>,
    /// How much is left at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_used_space: Option<Amount>,
    /// How much of the disk shall be free.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) min_free_space: Option<Amount>,
}

/// A time, as BuildKit's file has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Age {
    /// Seconds.
    Seconds(u64),
    /// `90s`, `1h30m`, `48h`.
    Text(String),
}

impl Age {
    /// The time; None if the text is none.
    fn duration(&self) -> Option<Duration> {
        let text = match self {
            Self::Seconds(seconds) => return Some(Duration::from_secs(*seconds)),
            Self::Text(text) => text.as_str(),
        };
        let (mut total, mut rest) = (Duration::ZERO, text);
        while !rest.is_empty() {
            let (number, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
            let seconds = match tail.chars().next()? {
                's' => 1,
                'm' => 60,
                'h' => 3600,
                _ => return None,
            };
            let part = number.parse::<u64>().ok()?.checked_mul(seconds)?;
            total = total.checked_add(Duration::from_secs(part))?;
            rest = &tail[1..];
        }
        (!text.is_empty()).then_some(total)
    }
}

/// The size of the disk that the root lies on. One that cannot be asked is taken for the largest: nothing is forgotten for its sake.
pub(crate) fn disk_size(root: &Path) -> u64 {
    rustix::fs::statvfs(root).map_or(u64::MAX, |disk| disk.f_blocks * disk.f_frsize)
}

/// A rule with all its sizes in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    /// Only what matches one of these.
    pub(crate) filters: Vec<String>,
    /// How much stays.
    pub(crate) policy: Policy,
}

impl OciWorker {
    /// The rules for the disk that the root lies on; none if the cache is never cut back.
    pub(crate) fn rules(&self, root: &Path) -> Vec<Rule> {
        let disk = disk_size(root);
        match (self.gc, self.gcpolicy.is_empty()) {
            (Some(false), _) => Vec::new(),
            (_, true) => self.defaults(disk),
            (_, false) => self.gcpolicy.iter().map(|policy| policy.rule(disk)).collect(),
        }
    }

    fn defaults(&self, disk: u64) -> Vec<Rule> {
        let bytes = |amount: &Option<Amount>| amount.as_ref().and_then(|amount| amount.bytes(disk));
        let part = |(percent, most): (u64, u64)| Some((disk / 100 * percent).min(most));
        let mut sizes = Policy {
            reserved: bytes(&self.reserved_space),
            max_used: bytes(&self.max_used_space),
            min_free: bytes(&self.min_free_space),
            ..Policy::default()
        };
        if sizes == Policy::default() {
            sizes.reserved = bytes(&self.keep_storage);
        }
        if sizes == Policy::default() {
            sizes.reserved = part(RESERVED);
            sizes.max_used = part(MAX_USED);
            sizes.min_free = part(MIN_FREE);
        }
        let transient =
            Policy { keep_duration: Some(TRANSIENT_AGE), max_used: Some(TRANSIENT_MAX), ..Policy::default() };
        let filters = TRANSIENT.map(str::to_owned).to_vec();
        let plain = |policy| Rule { filters: Vec::new(), policy };
        vec![
            Rule { filters, policy: transient },
            plain(Policy { keep_duration: Some(AGE), ..sizes }),
            plain(sizes),
            plain(Policy { all: true, ..sizes }),
        ]
    }

    /// Checks what types cannot say.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        amount("worker.oci.gckeepstorage", self.keep_storage.as_ref())?;
        amount("worker.oci.reservedSpace", self.reserved_space.as_ref())?;
        amount("worker.oci.maxUsedSpace", self.max_used_space.as_ref())?;
        amount("worker.oci.minFreeSpace", self.min_free_space.as_ref())?;
        self.gcpolicy.iter().try_for_each(GcPolicy::check)
    }
}

impl GcPolicy {
    fn rule(&self, disk: u64) -> Rule {
        let bytes = |amount: &Option<Amount>| amount.as_ref().and_then(|amount| amount.bytes(disk));
        let policy = Policy {
            all: self.all,
            keep_duration: self.keep_duration.as_ref().and_then(Age::duration),
            reserved: bytes(&self.reserved_space).or_else(|| bytes(&self.keep_bytes)),
            max_used: bytes(&self.max_used_space),
            min_free: bytes(&self.min_free_space),
        };
        Rule { filters: self.filters.clone(), policy }
    }

    fn check(&self) -> Result<(), ConfigError> {
        amount("worker.oci.gcpolicy.keepBytes", self.keep_bytes.as_ref())?;
        amount("worker.oci.gcpolicy.reservedSpace", self.reserved_space.as_ref())?;
        amount("worker.oci.gcpolicy.maxUsedSpace", self.max_used_space.as_ref())?;
        amount("worker.oci.gcpolicy.minFreeSpace", self.min_free_space.as_ref())?;
        let refuse = |key, value: &str, known: &str| {
            Err(ConfigError::Value { key, value: value.to_owned(), known: known.to_owned() })
        };
        if let Some(Age::Text(text)) = self.keep_duration.as_ref().filter(|age| age.duration().is_none()) {
            return refuse("worker.oci.gcpolicy.keepDuration", text, "a number of seconds, 90s, 30m, 48h");
        }
        match self.filters.iter().find(|filter| Filters::parse(&[(*filter).clone()]).is_err()) {
            Some(filter) => refuse("worker.oci.gcpolicy.filters", filter, "type==regular, description~=^RUN"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
