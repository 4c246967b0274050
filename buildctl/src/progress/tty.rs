//! Terminal: the running steps redrawn in place, with times and the last lines of their logs.

use std::{
    io::Write as _,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use super::{
    Outcome,
    vertices::{Vertex, Vertices},
};
use crate::output::size;

/// Log lines shown below a running step.
const RUNNING_LOG: usize = 6;
/// Log lines shown of a failed step.
const FAILED_LOG: usize = 40;
/// Size of a terminal that does not tell.
const DEFAULT_SIZE: (usize, usize) = (24, 80);

/// What is on the screen.
#[derive(Debug)]
pub(super) struct Tty {
    start: Instant,
    drawn: usize,
}

impl Tty {
    pub(super) fn new() -> Self {
        Self { start: Instant::now(), drawn: 0 }
    }

    /// Replaces what was drawn before.
    pub(super) fn draw(&mut self, vertices: &Vertices) {
        if vertices.all().is_empty() {
            return;
        }
        let (rows, columns) = terminal_size();
        let mut lines = lines(vertices.all(), columns, now(), RUNNING_LOG);
        // The oldest lines give way; what runs is at the end.
        let room = rows.saturating_sub(2).max(1);
        if lines.len() > room {
            lines.drain(..lines.len() - room);
        }
        lines.insert(0, self.head(vertices, "Building"));
        self.put(&lines);
    }

    pub(super) fn finish(&mut self, vertices: &Vertices, outcome: Outcome) {
        if vertices.all().is_empty() {
            return;
        }
        let (_, columns) = terminal_size();
        let mut lines = lines(vertices.all(), columns, now(), 0);
        let word = if outcome == Outcome::Done { "Building" } else { "Failed" };
        lines.insert(0, self.head(vertices, word));
        if outcome == Outcome::Failed {
            lines.extend(failed_logs(vertices.all()));
        }
        self.put(&lines);
        self.drawn = 0;
    }

    fn head(&self, vertices: &Vertices, word: &str) -> String {
        let all = vertices.all().iter().filter(|vertex| vertex.started.is_some());
        let done = all.clone().filter(|vertex| vertex.completed.is_some()).count();
        let total = vertices.all().len();
        let finished = if done == total && word == "Building" { " FINISHED" } else { "" };
        format!("[+] {word} {:.1}s ({done}/{total}){finished}", self.start.elapsed().as_secs_f64())
    }

    fn put(&mut self, lines: &[String]) {
        let mut text = String::new();
        if self.drawn > 0 {
            text.push_str(&format!("\x1b[{}A\r\x1b[J", self.drawn));
        }
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        self.drawn = lines.len();
        let mut out = std::io::stderr().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

/// The last lines of what failed, as BuildKit frames them.
pub(super) fn failed_logs(all: &[Vertex]) -> Vec<String> {
    let mut lines = Vec::new();
    for vertex in all.iter().filter(|vertex| !vertex.error.is_empty() && !vertex.log.is_empty()) {
        lines.push("------".to_owned());
        lines.push(format!(" > {}:", clean(&vertex.name)));
        let skipped = vertex.log.len().saturating_sub(FAILED_LOG);
        lines.extend(vertex.log.iter().skip(skipped).map(|line| clean(line)));
        lines.push("------".to_owned());
    }
    lines
}

fn lines(all: &[Vertex], columns: usize, now: f64, log: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for vertex in all.iter().filter(|vertex| vertex.started.is_some()) {
        let running = vertex.completed.is_none();
        let mark = match (vertex.error.is_empty(), vertex.cached) {
            (false, _) => "ERROR ",
            (true, true) => "CACHED ",
            (true, false) => "",
        };
        lines.push(timed(&format!(" => {mark}{}", clean(&vertex.name)), vertex.seconds(now), columns));
        if !running {
            continue;
        }
        for status in vertex.statuses.iter().filter(|status| status.completed.is_none()) {
            let name = if status.name.is_empty() { &status.id } else { &status.name };
            let of = if status.total > 0 {
                format!(" / {}", size(status.total.unsigned_abs()))
            } else {
                String::new()
            };
            let done = size(status.current.unsigned_abs());
            lines.push(cut(&format!(" => => {} {done}{of}", clean(name)), columns));
        }
        let skipped = vertex.log.len().saturating_sub(log);
        lines.extend(
            vertex.log.iter().skip(skipped).map(|line| cut(&format!(" => => # {}", clean(line)), columns)),
        );
    }
    lines
}

/// The text at the left and the seconds at the right edge.
fn timed(text: &str, seconds: f64, columns: usize) -> String {
    let time = format!("{seconds:.1}s");
    let room = columns.saturating_sub(time.len() + 2);
    let text = cut(text, room);
    format!("{text:room$} {time}")
}

fn cut(text: &str, columns: usize) -> String {
    text.chars().take(columns.saturating_sub(1)).collect()
}

/// Output of steps without what could steer the terminal.
pub(super) fn clean(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\x1b' && chars.next_if_eq(&'[').is_some() {
            // A control sequence ends with a letter or so.
            while chars.next_if(|c| !('@'..='~').contains(c)).is_some() {}
            chars.next();
        } else if c == '\t' {
            out.push(' ');
        } else if !c.is_control() {
            out.push(c);
        }
    }
    out
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |elapsed| elapsed.as_secs_f64())
}

pub(super) fn terminal_size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(std::io::stderr()) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => (size.ws_row.into(), size.ws_col.into()),
        _ => DEFAULT_SIZE,
    }
}

#[cfg(test)]
mod tests;
