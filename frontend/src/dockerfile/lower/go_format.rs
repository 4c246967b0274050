//! Go format: values as Go's `%q` prints them, for histories that must read like the reference's.
//!
//! HEALTHCHECK's line of an image's history is the only place where the reference prints a whole structure.
//!
//! # Sources
//! Go `fmt`, `strconv.Quote`, `time.Duration.String`.

use buildd_oci::config::Healthcheck;

const SECOND: i64 = 1_000_000_000;

/// `&{["CMD-SHELL" "true"] "30s" "0s" "0s" "0s" '\x03'}`
pub(super) fn healthcheck(check: &Healthcheck) -> String {
    let test: Vec<String> = check.test.iter().map(|word| quoted(word, '"')).collect();
    let times = [check.interval, check.timeout, check.start_period, check.start_interval];
    let times: Vec<String> = times.iter().map(|time| format!("\"{}\"", duration(*time))).collect();
    let retries = u32::try_from(check.retries).ok().and_then(char::from_u32).unwrap_or('\u{fffd}');
    format!("&{{[{}] {} {}}}", test.join(" "), times.join(" "), quoted(&retries.to_string(), '\''))
}

fn quoted(text: &str, quote: char) -> String {
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            c if c == quote => out.extend(['\\', c]),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

/// `1h0m0s`, `1.5s`, `20ms`; nanoseconds in.
fn duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let magnitude = nanos.unsigned_abs();
    let second = SECOND.unsigned_abs();
    if magnitude == 0 {
        return "0s".to_owned();
    }
    if magnitude < second {
        let (unit, name) = [(1_000_000, "ms"), (1_000, "µs"), (1, "ns")]
            .into_iter()
            .find(|(unit, _)| magnitude >= *unit)
            .unwrap_or((1, "ns"));
        return format!("{sign}{}{name}", decimal(magnitude, unit));
    }
    let (minutes, rest) = (magnitude / (60 * second), magnitude % (60 * second));
    let seconds = decimal(rest, second);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

/// `value / unit`, with only the decimals that it has; `unit` is a power of ten.
fn decimal(value: u64, unit: u64) -> String {
    let (whole, rest) = (value / unit, value % unit);
    let digits = usize::try_from(unit.ilog10()).unwrap_or_default();
    if rest == 0 {
        return whole.to_string();
    }
    let fraction = format!("{rest:0digits$}");
    format!("{whole}.{}", fraction.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_in_go() {
        for (nanos, text) in [
            (0, "0s"),
            (30 * SECOND, "30s"),
            (SECOND * 3 / 2, "1.5s"),
            (300 * SECOND, "5m0s"),
            (5400 * SECOND + 1_000_000, "1h30m0.001s"),
            (20_000_000, "20ms"),
            (1_500, "1.5µs"),
            (1, "1ns"),
        ] {
            assert_eq!(duration(nanos), text);
        }
    }

    #[test]
    fn a_check_reads_as_docker_writes_it() {
        let mut check = Healthcheck {
            test: vec!["CMD-SHELL".to_owned(), "curl \"x\"\t|| exit 1".to_owned()],
            interval: 300 * SECOND,
            timeout: 3 * SECOND,
            retries: 3,
            ..Healthcheck::default()
        };
        let expected = r#"&{["CMD-SHELL" "curl \"x\"\t|| exit 1"] "5m0s" "3s" "0s" "0s" '\x03'}"#;
        assert_eq!(healthcheck(&check), expected);
        for (retries, shown) in [(0, r"'\x00'"), (10, r"'\n'"), (39, r"'\''"), (65, "'A'")] {
            check.retries = retries;
            assert!(healthcheck(&check).ends_with(&format!(" {shown}}}")), "{retries}");
        }
    }
}
