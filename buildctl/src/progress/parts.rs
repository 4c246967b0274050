//! Parts: how far the blobs of a pull or a push are, as bars on a terminal and as lines elsewhere.
//!
//! The daemon tells each change as containerd's `Progress`; who only wants the end result shows nothing.

use std::{
    fmt::Write as _,
    io::{IsTerminal as _, Write as _},
    time::Instant,
};

use buildd_api::containerd::containerd::types::transfer::Progress;

use super::tty::terminal_size;
use crate::output::size;

/// Columns of a bar.
const BAR: usize = 24;
/// Digits of a digest that tell blobs apart.
const DIGITS: usize = 12;

/// One blob.
#[derive(Debug)]
struct Part {
    name: String,
    event: String,
    done: u64,
    total: u64,
    began: Option<(Instant, u64)>,
}

/// All that is known by now.
#[derive(Debug)]
pub(crate) struct Parts {
    parts: Vec<Part>,
    terminal: bool,
    quiet: bool,
    drawn: usize,
}

impl Parts {
    /// Nothing yet.
    pub(crate) fn new(quiet: bool) -> Self {
        Self { parts: Vec::new(), terminal: std::io::stderr().is_terminal(), quiet, drawn: 0 }
    }

    /// Shows one change.
    pub(crate) fn show(&mut self, message: &Progress) {
        if message.desc.is_none() {
            return;
        }
        let (done, total) =
            (u64::try_from(message.progress).unwrap_or(0), u64::try_from(message.total).unwrap_or(0));
        let known = self.parts.iter().position(|part| part.name == message.name);
        let index = known.unwrap_or_else(|| {
            let part = Part { name: message.name.clone(), event: String::new(), done, total, began: None };
            self.parts.push(part);
            self.parts.len() - 1
        });
        let part = &mut self.parts[index];
        if part.began.is_none() && matches!(message.event.as_str(), "downloading" | "uploading") {
            part.began = Some((Instant::now(), done));
        }
        let new = part.event != message.event;
        part.event.clone_from(&message.event);
        (part.done, part.total) = (done, total);
        if self.quiet {
            return;
        }
        if self.terminal {
            self.draw();
        } else if new && message.event != "waiting" {
            let _ =
                writeln!(std::io::stderr(), "{}: {} {}", short(&message.name), message.event, size(total));
        }
    }

    fn draw(&mut self) {
        let (rows, columns) = terminal_size();
        let mut text = String::new();
        if self.drawn > 0 {
            let _ = write!(text, "\x1b[{}A\r\x1b[J", self.drawn);
        }
        // What is at work is at the end; the oldest lines give way.
        let room = rows.saturating_sub(2).max(1);
        let shown = &self.parts[self.parts.len().saturating_sub(room)..];
        for part in shown {
            let line: String = part.line().chars().take(columns.saturating_sub(1)).collect();
            text.push_str(&line);
            text.push('\n');
        }
        self.drawn = shown.len();
        let mut out = std::io::stderr().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

impl Part {
    fn line(&self) -> String {
        let filled = match self.total {
            0 => 0,
            total => usize::try_from(self.done.min(total) * BAR as u64 / total).unwrap_or(0),
        };
        let bar = format!("{}{}", "=".repeat(filled), " ".repeat(BAR - filled));
        let amount = format!("{}/{}", size(self.done), size(self.total));
        format!("{:<22} {:<14} [{bar}] {amount:<17} {}", short(&self.name), self.event, self.rate())
    }

    fn rate(&self) -> String {
        let Some((began, before)) = self.began else { return String::new() };
        let seconds = began.elapsed().as_secs_f64();
        if seconds < 0.2 || !matches!(self.event.as_str(), "downloading" | "uploading") {
            return String::new();
        }
        let bytes = self.done.saturating_sub(before) as f64 / seconds;
        format!("{}/s", size(bytes as u64))
    }
}

/// `layer-sha256:0123…` as `layer 0123456789ab`.
fn short(name: &str) -> String {
    match name.split_once('-') {
        Some((kind, digest)) => {
            let digits: String = digest.rsplit(':').next().unwrap_or_default().chars().take(DIGITS).collect();
            format!("{kind} {digits}")
        }
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Part, short};

    #[test]
    fn a_part_is_one_line() {
        let part = Part {
            name: "layer-sha256:0123456789abcdef".to_owned(),
            event: "extracting".to_owned(),
            done: 50,
            total: 100,
            began: None,
        };
        assert_eq!(
            part.line().trim_end(),
            "layer 0123456789ab     extracting     [============            ] 50B/100B"
        );
        assert_eq!(short("odd"), "odd");
    }
}
