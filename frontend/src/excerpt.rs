//! Excerpt: the lines of a Dockerfile around an error, with `>>>` before those that are at fault.
//!
//! The daemon sends the text and the ranges as a typed detail; the form is BuildKit's, which people and scripts know.

use std::fmt::Write as _;

use buildd_api::error_detail::Source;

/// Lines shown before and after those at fault.
const CONTEXT: usize = 2;
/// Lines of an excerpt, all its places together: a heredoc may be long.
const MAX_LINES: usize = 60;

/// The excerpt, a block for each place; empty if the ranges lie outside the text.
pub fn render(source: &Source) -> String {
    let text = String::from_utf8_lossy(&source.info.data);
    let lines: Vec<&str> = text.lines().collect();
    let marked = |number: usize| {
        source.ranges.iter().any(|range| {
            let (start, end) = (range.start.line, range.end.line.max(range.start.line));
            i32::try_from(number).is_ok_and(|n| start <= n && n <= end)
        })
    };
    let rule = "-".repeat(20);
    let (mut out, mut next, mut room) = (String::new(), 1, MAX_LINES);
    while let Some(first) = (next..=lines.len()).find(|number| room > 0 && marked(*number)) {
        let last = (first..=lines.len()).take_while(|number| marked(*number)).last().unwrap_or(first);
        let from = first.saturating_sub(CONTEXT).max(next);
        let to = (last + CONTEXT).min(lines.len()).min(from + room);
        let _ = writeln!(out, "{}:{first}\n{rule}", source.info.filename);
        for number in from..=to {
            let mark = if marked(number) { ">>>" } else { "   " };
            let _ = writeln!(out, "{number:4} | {mark} {}", printable(lines[number - 1]));
        }
        let _ = writeln!(out, "{rule}");
        room = room.saturating_sub(to - from + 1);
        next = to + 1;
    }
    out
}

/// The line without what could steer a terminal.
fn printable(line: &str) -> String {
    line.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests;
