//! Time: RFC 3339, as image configs, labels and annotations have it. All that formats or reads such a time does it here.

use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};

/// `2026-11-21T03:04:05Z`, with nanoseconds if there are any; a moment before 1970 is 1970.
pub fn format(time: SystemTime) -> String {
    let time = DateTime::<Utc>::from(time.max(SystemTime::UNIX_EPOCH));
    let digits = if time.timestamp_subsec_nanos() == 0 { SecondsFormat::Secs } else { SecondsFormat::Nanos };
    time.to_rfc3339_opts(digits, true)
}

/// The same of seconds since 1970, before it too; what no year of four digits has is 1970.
pub fn format_seconds(seconds: i64) -> String {
    DateTime::from_timestamp(seconds, 0).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// The moment of a text, with whatever offset; None if it is not RFC 3339.
pub fn parse(text: &str) -> Option<SystemTime> {
    DateTime::parse_from_rfc3339(text).ok().map(SystemTime::from)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn known_moments() {
        for (seconds, nanos, expected) in [
            (0, 0, "1970-01-01T00:00:00Z"),
            (951_782_400, 0, "2000-02-29T00:00:00Z"),
            (1_700_000_000, 5, "2023-11-14T22:13:20.000000005Z"),
            (4_102_444_799, 0, "2099-12-31T23:59:59Z"),
        ] {
            let time = UNIX_EPOCH + Duration::new(seconds, nanos);
            assert_eq!(format(time), expected);
            assert_eq!(parse(expected), Some(time));
        }
    }

    #[test]
    fn seconds_before_and_after() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_795_231_333, "2026-11-21T03:22:13Z"),
            (-1, "1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(format_seconds(seconds), text);
        }
    }

    #[test]
    fn an_offset_counts_and_what_is_no_time_is_none() {
        assert_eq!(parse("2000-02-29T02:00:00+02:00"), parse("2000-02-29T00:00:00Z"));
        for text in ["", "tomorrow", "2000-02-30T00:00:00Z", "2000-02-29"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
