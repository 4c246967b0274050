//! Both directions over every kind and special bit, and what is refused.
use super::*;

#[test]
fn both_directions_agree() {
    let cases = [
        (0o100_644, 0o644),
        (0o040_755, 1 << 31 | 0o755),
        (0o120_777, 1 << 27 | 0o777),
        (0o020_600, 1 << 26 | 1 << 21 | 0o600),
        (0o060_660, 1 << 26 | 0o660),
        (0o010_644, 1 << 25 | 0o644),
        (0o140_755, 1 << 24 | 0o755),
        (0o104_755, 1 << 23 | 0o755),
        (0o102_755, 1 << 22 | 0o755),
        (0o041_777, 1 << 31 | 1 << 20 | 0o777),
    ];
    for (unix, go) in cases {
        assert_eq!(go_from_unix(unix), go, "{unix:o}");
        assert_eq!(unix_from_go(go), Some(unix), "{go:o}");
    }
}

#[test]
fn unknown_bits_name_no_kind() {
    for mode in [1 << 31 | 1 << 27, 1 << 21, 1 << 30, 0o1000, 1 << 19, u32::MAX] {
        assert_eq!(unix_from_go(mode), None, "{mode:o}");
    }
}
