//! Timestamps: seconds since the epoch, as the APIs carry them, and their text.

pub(crate) use buildd_oci::time::format_seconds as rfc3339;

/// Seconds since the epoch, now.
pub(crate) fn now() -> i64 {
    let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    elapsed.map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}

/// A timestamp in whole seconds.
pub(crate) fn seconds(timestamp: Option<prost_types::Timestamp>) -> i64 {
    timestamp.map_or(0, |timestamp| timestamp.seconds)
}
