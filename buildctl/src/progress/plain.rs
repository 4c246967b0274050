//! Plain: one line an event, each with the number of its vertex, as BuildKit prints them.

use std::io::Write as _;

use super::vertices::{Change, Vertex, Vertices};
use crate::output::size;

/// Numbers the vertices in the order in which they start.
#[derive(Debug, Default)]
pub(super) struct Plain {
    /// Number by index; 0 for none yet.
    numbers: Vec<usize>,
    last: usize,
}

impl Plain {
    pub(super) fn show(&mut self, vertices: &Vertices, changes: &[Change]) {
        let mut text = String::new();
        for change in changes {
            self.describe(vertices.all(), change, &mut text);
        }
        let _ = std::io::stderr().write_all(text.as_bytes());
    }

    fn describe(&mut self, all: &[Vertex], change: &Change, out: &mut String) {
        let mut line = |number: usize, text: &str| out.push_str(&format!("#{number} {text}\n"));
        match change {
            Change::Started(index) => {
                let number = self.number(*index);
                line(number, &all[*index].name);
            }
            Change::Status(index, job) => {
                let number = self.number(*index);
                let status = &all[*index].statuses[*job];
                let name = if status.name.is_empty() { &status.id } else { &status.name };
                let bytes = if status.current > 0 {
                    format!(" {}", size(status.current.unsigned_abs()))
                } else {
                    String::new()
                };
                line(number, &format!("{name}{bytes} done"));
            }
            Change::Log(index, lines) => {
                let number = self.number(*index);
                for (milliseconds, text) in lines {
                    line(number, &format!("{}.{:03} {text}", milliseconds / 1000, milliseconds % 1000));
                }
            }
            Change::Completed(index) => {
                let number = self.number(*index);
                line(number, &ending(&all[*index]));
                out.push('\n');
            }
            Change::Warning(_) => {}
        }
    }

    fn number(&mut self, index: usize) -> usize {
        if self.numbers.len() <= index {
            self.numbers.resize(index + 1, 0);
        }
        if self.numbers[index] == 0 {
            self.last += 1;
            self.numbers[index] = self.last;
        }
        self.numbers[index]
    }
}

fn ending(vertex: &Vertex) -> String {
    if !vertex.error.is_empty() {
        let canceled = vertex.error.ends_with("context canceled") || vertex.error == "canceled";
        return if canceled { "CANCELED".to_owned() } else { format!("ERROR: {}", vertex.error) };
    }
    if vertex.cached {
        return "CACHED".to_owned();
    }
    format!("DONE {:.1}s", vertex.seconds(0.0))
}

#[cfg(test)]
mod tests;
