//! Durations as people write them.
use super::*;

#[test]
fn durations() {
    for (text, seconds) in [("90s", 90), ("1h30m", 5400), ("24h", 86_400), ("", 0)] {
        assert_eq!(parse_duration(text).expect(text), Duration::from_secs(seconds));
    }
    for text in ["5", "h", "1d", "-1s", "1.5h", "99999999999999999999h"] {
        assert!(parse_duration(text).is_err(), "{text}");
    }
}
