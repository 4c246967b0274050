//! Waits between tries: Retry-After in every form, jitter, and the end of patience.

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn backoff(attempts: u32, total: Duration) -> Backoff {
    Backoff::new(Patience { attempts, total }, Duration::from_millis(100))
}

#[test]
fn every_form_of_retry_after() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777); // Sun, 06 Nov 1994 08:49:37 GMT
    for (text, expected) in [
        ("0", Some(0)),
        ("7", Some(7)),
        (" 7 ", Some(7)),
        ("1000000000", Some(1_000_000_000)),
        ("99999999999999999999999", Some(u64::MAX)),
        ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
        ("Sunday, 06-Nov-94 08:49:47 GMT", Some(10)),
        ("Sun Nov  6 08:49:47 1994", Some(10)),
        ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
    ] {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().expect("a value"))]);
        assert_eq!(retry_after(&headers, now), expected.map(Duration::from_secs), "{text:?}");
    }
    assert_eq!(retry_after(&HeaderMap::new(), now), None);
}

#[test]
fn waits_grow_with_chance_in_them_and_end() {
    let mut waits = backoff(6, MINUTE);
    for step in [100, 200, 400, 800, 1600] {
        let wait = waits.after(None).expect("attempts are left").as_millis();
        assert!((step / 2..=step).contains(&wait), "{wait} ms, not half to all of {step}");
    }
    assert_eq!(waits.after(None), None);
}

#[test]
fn a_host_is_heeded_but_not_for_ever() {
    assert_eq!(backoff(6, MINUTE).after(Some(Duration::from_secs(5))), Some(Duration::from_secs(5)));
    assert_eq!(backoff(6, MINUTE * 2).after(Some(Duration::from_secs(u64::MAX))), Some(MINUTE));
    assert_eq!(backoff(6, MINUTE / 2).after(Some(MINUTE)), None, "longer than we wait in all");
    let own = backoff(6, MINUTE).after(Some(Duration::ZERO)).expect("attempts are left");
    assert!(own >= Duration::from_millis(50), "Retry-After: 0 is no licence to hammer");
}

#[test]
fn a_host_that_refuses_connections_is_tried_three_times() {
    let mut waits = backoff(u32::MAX, MINUTE);
    assert!(waits.after_refused().is_some() && waits.after_refused().is_some());
    assert_eq!(waits.after_refused(), None);
}

#[test]
fn statuses_that_pass() {
    let passing: Vec<u16> = (100..600).filter(|status| is_transient(*status)).collect();
    assert_eq!(passing, [408, 429, 500, 502, 503, 504]);
}

proptest::proptest! {
    #[test]
    fn any_retry_after_is_a_wait_or_none(text in "[ -~]{0,40}", seconds in 0u64..u64::MAX) {
        let now = SystemTime::now();
        let read = |text: &str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().expect("printable text"))]);
            retry_after(&headers, now)
        };
        let wait = read(&text);
        assert!(backoff(3, MINUTE * 2).after(wait).expect("attempts are left") <= MINUTE, "{text}");
        assert_eq!(read(&seconds.to_string()), Some(Duration::from_secs(seconds)));
        let later = now + Duration::from_secs(seconds % 1_000_000 + 1);
        let wait = read(&httpdate::fmt_http_date(later)).expect("a date").as_secs();
        assert!((seconds % 1_000_000..=seconds % 1_000_000 + 1).contains(&wait), "{wait}");
    }
}
