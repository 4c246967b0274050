//! HEALTHCHECK: how a container's health is tested.
//!
//! Durations are Go's (`1m30s`), at least a millisecond, or 0 for the default.

use super::{Command, Reader, flags::Flags};
use crate::error::Fault;

/// `HEALTHCHECK [flags] CMD …` or `HEALTHCHECK NONE`; durations in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Healthcheck {
    /// None switches an inherited test off.
    pub command: Option<Command>,
    /// Time between tests.
    pub interval: i64,
    /// Time one test may take.
    pub timeout: i64,
    /// Time in which failures do not count.
    pub start_period: i64,
    /// Time between tests while starting.
    pub start_interval: i64,
    /// Failures in a row that mean unhealthy.
    pub retries: i64,
}

pub(super) fn parse(reader: &Reader<'_>, flags: &Flags) -> Result<Healthcheck, Fault> {
    if reader.rest.is_empty() {
        return Err(reader.too_few("at least one argument"));
    }
    let (kind, rest) = reader.rest.split_once(char::is_whitespace).unwrap_or((&reader.rest, ""));
    let inner = Reader { keyword: reader.keyword, rest: rest.trim().to_owned(), ..*reader };
    let command = match kind.to_ascii_uppercase().as_str() {
        "NONE" if inner.rest.is_empty() => return Ok(Healthcheck::default()),
        "NONE" => return Err(Fault::new("HEALTHCHECK NONE takes no arguments")),
        "CMD" if inner.rest.is_empty() => {
            return Err(Fault::new("missing command after HEALTHCHECK CMD"));
        }
        "CMD" => inner.command()?,
        _ => {
            return Err(Fault::new(format!("unknown type {kind:?} in HEALTHCHECK (try CMD)")));
        }
    };
    let duration = |name: &str| match flags.value(name) {
        None => Ok(0),
        Some(text) => duration(&text, name),
    };
    let retries = match flags.value("retries").filter(|text| !text.is_empty()) {
        None => 0,
        Some(text) => match text.parse::<i32>() {
            Ok(number) if number >= 0 => i64::from(number),
            _ => return Err(Fault::new(format!("--retries cannot be negative or no number: {text}"))),
        },
    };
    Ok(Healthcheck {
        command: Some(command),
        interval: duration("interval")?,
        timeout: duration("timeout")?,
        start_period: duration("start-period")?,
        start_interval: duration("start-interval")?,
        retries,
    })
}

fn duration(text: &str, flag: &str) -> Result<i64, Fault> {
    let invalid = || Fault::new(format!("invalid duration {text:?} on flag --{flag}"));
    let (mut rest, mut total) = (text, 0f64);
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(invalid)?;
        let number: f64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return Err(invalid()),
        };
        rest = &rest[letters..];
        total += number * unit;
    }
    if total != 0.0 && total < 1e6 {
        return Err(Fault::new(format!("Interval {flag:?} cannot be less than 1ms")));
    }
    if total >= i64::MAX as f64 { Err(invalid()) } else { Ok(total as i64) }
}
