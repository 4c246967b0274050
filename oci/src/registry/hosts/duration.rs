//! Duration: Go's way to write a length of time (`1m30s`), as `dial_timeout` takes it.
//!
//! # Sources
//! Go `time.ParseDuration`; spec registries.md rule 41.

use std::time::Duration;

/// Longest dial timeout: more than this is a slip of the unit, and would hang whoever waits.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The length, or what is wrong with it.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let mut rest = text;
    let mut seconds = 0.0;
    if text.starts_with('-') {
        return Err("it is negative".to_owned());
    }
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let number: f64 = number.parse().map_err(|_| format!("{text:?} is not a length of time"))?;
        seconds += number * unit_seconds(unit)?;
        rest = after;
    }
    let length = Duration::try_from_secs_f64(seconds).map_err(|_| "it is too long".to_owned())?;
    match length {
        Duration::ZERO => Err("it must be longer than nothing".to_owned()),
        length if length > LONGEST => Err("it is longer than a day".to_owned()),
        length => Ok(length),
    }
}

fn unit_seconds(unit: &str) -> Result<f64, String> {
    Ok(match unit {
        "ns" => 1e-9,
        "us" | "µs" | "μs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "" => return Err("it has no unit".to_owned()),
        other => return Err(format!("unit {other:?} is none of ns, us, ms, s, m, h")),
    })
}
