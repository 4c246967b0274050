//! Retry: which failures pass by themselves, and how long to wait for that.
//!
//! `transport` asks after each failed attempt; nothing here sleeps.
//!
//! # Sources
//! RFC 9110 "Retry-After"; spec registries.md rule 62 with its "do better".

use std::time::{Duration, SystemTime};

use reqwest::header::{HeaderMap, RETRY_AFTER};

/// Longest wait that a host may ask for: `Retry-After: 1000000000` would stop a build for ever.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);
/// Longest wait of our own.
const MAX_BACKOFF: Duration = Duration::from_secs(15);

/// How much is done about failures that may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Patience {
    /// Most attempts.
    pub(crate) attempts: u32,
    /// Longest time from the first attempt to the last.
    pub(crate) total: Duration,
}

impl Patience {
    /// There is another host to ask.
    pub(crate) fn next_host_waits(total: Duration) -> Self {
        Self { attempts: 2, total }
    }

    /// This is the last host: somebody waits for an answer, good or bad.
    pub(crate) fn last_host(total: Duration) -> Self {
        Self { attempts: 6, total }
    }

    /// Much work is behind us: only time counts.
    pub(crate) fn push(total: Duration) -> Self {
        Self { attempts: u32::MAX, total }
    }

    /// Whoever calls tries again himself.
    pub(crate) const ONCE: Self = Self { attempts: 1, total: Duration::ZERO };
}

/// The waits of one request.
#[derive(Debug)]
pub(crate) struct Backoff {
    patience: Patience,
    first: Duration,
    made: u32,
    start: std::time::Instant,
}

impl Backoff {
    /// Before the first attempt; `first` is the usual wait after it.
    pub(crate) fn new(patience: Patience, first: Duration) -> Self {
        Self { patience, first, made: 0, start: std::time::Instant::now() }
    }

    /// After a failed attempt: how long to wait before the next one; `None`: there is none. `asked` is what the host wants.
    pub(crate) fn after(&mut self, asked: Option<Duration>) -> Option<Duration> {
        self.made += 1;
        if self.made >= self.patience.attempts {
            return None;
        }
        let step = self.first.saturating_mul(1 << (self.made - 1).min(10)).min(MAX_BACKOFF);
        // Half fixed, half by chance: those who failed together do not come back together.
        let own = step.mul_f64(0.5 + rand::random::<f64>() / 2.0);
        let wait = own.max(asked.unwrap_or_default().min(MAX_RETRY_AFTER));
        (self.start.elapsed() + wait <= self.patience.total).then_some(wait)
    }

    /// The same for a host that cannot be connected to and never could: its name is probably wrong.
    pub(crate) fn after_refused(&mut self) -> Option<Duration> {
        if self.made + 1 >= 3 { None } else { self.after(None) }
    }
}

/// Whether a status may be gone the next time.
pub(crate) fn is_transient(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
}

/// What `Retry-After` asks for: seconds or a date; nonsense asks for nothing.
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than fit are a long wait all the same.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests;
