//! Dates and envelopes.
use super::*;

#[test]
fn dates() {
    for (seconds, text) in [
        (0, "1970-01-01T00:00:00Z"),
        (951_782_399, "2000-02-28T23:59:59Z"),
        (951_782_400, "2000-02-29T00:00:00Z"),
        (1_709_164_800, "2024-02-29T00:00:00Z"),
        (1_795_231_333, "2026-11-21T03:22:13Z"),
        (-1, "1969-12-31T23:59:59Z"),
    ] {
        assert_eq!(rfc3339(seconds), text);
    }
}

#[test]
fn envelopes() {
    let update = WindowUpdate { update: 5 };
    let mut envelope = any(&update);
    assert_eq!(envelope.type_url, "containerd.types.transfer.WindowUpdate");
    assert_eq!(from_any::<WindowUpdate>(&envelope).expect("whole"), Some(update));
    assert_eq!(from_any::<Data>(&envelope).expect("another"), None);
    envelope.type_url = "type.googleapis.com/containerd.types.transfer.WindowUpdate".to_owned();
    assert!(from_any::<WindowUpdate>(&envelope).expect("whole").is_some());
    envelope.value = vec![0xff];
    assert!(from_any::<WindowUpdate>(&envelope).is_err());
}
