//! AST: a text taken apart without loss, for tools that show, check or rewrite it.
//!
//! Where [`lines`](super::lines) keeps what a build needs, here every physical line belongs to exactly one piece: a directive, a comment, a
//! blank line, or an instruction with its continuations, the comments among them, and its heredocs.
//!
//! # Invariants
//! The pieces' bytes, put together, are the text.

use std::ops::Range;

use serde_json::{Value, json};

use super::{
    instruction::{self, Located},
    lines::{self, Document, Statement},
};
use crate::error::{Fault, Lines};

/// A text taken apart.
#[derive(Clone, Debug)]
pub struct Ast {
    /// The text.
    pub text: Vec<u8>,
    /// Directives, and the statements that the instructions are of.
    pub document: Document,
    /// In the order of the text.
    pub pieces: Vec<Piece>,
}

/// Some whole lines.
#[derive(Clone, Debug)]
pub struct Piece {
    /// What they are.
    pub kind: Kind,
    /// Which ones.
    pub lines: Lines,
    /// Their bytes, line ends included.
    pub bytes: Range<usize>,
}

/// What a piece is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Nothing but blanks, or a continuation of nothing.
    Blank,
    /// `# key=value` that means something.
    Directive,
    /// Any other `#` line outside of an instruction.
    Comment,
    /// An instruction; the statement is that of the same number in the document.
    Instruction {
        /// Which statement.
        number: usize,
        /// Its meaning.
        located: Box<Located>,
        /// The lines before the heredocs.
        head: Lines,
        /// The lines of each heredoc, its end included.
        heredocs: Vec<Lines>,
    },
}

impl Ast {
    /// Takes a text apart; or tells all that is wrong with it.
    pub fn read(text: &[u8]) -> Result<Self, Fault> {
        let document = lines::read(text)?;
        let instructions = instruction::parse(&document)?;
        let ends: Vec<usize> = text
            .split_inclusive(|byte| *byte == b'\n')
            .scan(0, |end, line| {
                *end += line.len();
                Some(*end)
            })
            .collect();
        let start = |line: usize| if line == 1 { 0 } else { ends[line - 2] };
        let mut pieces = Vec::new();
        let mut next = 1;
        let piece =
            |kind, lines: Lines| Piece { kind, lines, bytes: start(lines.first)..ends[lines.last - 1] };
        for (number, (statement, located)) in document.statements.iter().zip(instructions).enumerate() {
            for line in next..statement.lines.first {
                let bytes = start(line)..ends[line - 1];
                let kind = trivia(&text[bytes], line <= document.directives);
                pieces.push(piece(kind, Lines { first: line, last: line }));
            }
            let (head, heredocs) = parts(statement);
            pieces.push(piece(
                Kind::Instruction { number, located: Box::new(located), head, heredocs },
                statement.lines,
            ));
            next = statement.lines.last + 1;
        }
        for line in next..=ends.len() {
            let kind = trivia(&text[start(line)..ends[line - 1]], line <= document.directives);
            pieces.push(piece(kind, Lines { first: line, last: line }));
        }
        Ok(Self { text: text.to_vec(), document, pieces })
    }

    /// The statement of an instruction.
    pub fn statement(&self, number: usize) -> &Statement {
        &self.document.statements[number]
    }

    /// The bytes of a piece, as text.
    pub fn source(&self, piece: &Piece) -> String {
        String::from_utf8_lossy(&self.text[piece.bytes.clone()]).into_owned()
    }

    /// For programs: everything, and where it stands.
    pub fn json(&self) -> Value {
        let pieces: Vec<Value> = self.pieces.iter().map(|piece| self.piece_json(piece)).collect();
        let document = &self.document;
        json!({
            "escape": document.escape.to_string(),
            "syntax": document.syntax,
            "check": document.check,
            "pieces": pieces,
        })
    }

    fn piece_json(&self, piece: &Piece) -> Value {
        let kind = match piece.kind {
            Kind::Blank => "blank",
            Kind::Directive => "directive",
            Kind::Comment => "comment",
            Kind::Instruction { .. } => "instruction",
        };
        let mut value = json!({
            "kind": kind,
            "lines": [piece.lines.first, piece.lines.last],
            "bytes": [piece.bytes.start, piece.bytes.end],
            "text": self.source(piece),
        });
        if let Kind::Instruction { number, located, head, heredocs } = &piece.kind {
            let statement = self.statement(*number);
            let (flags, arguments) = instruction::flags_of(statement, self.document.escape);
            value["keyword"] = json!(statement.keyword);
            value["flags"] = json!(flags);
            value["arguments"] = json!(arguments);
            value["comments"] = json!(statement.comments);
            value["head"] = json!([head.first, head.last]);
            let meaning = format!("{:?}", located.instruction);
            value["meaning"] = json!(meaning);
            let heredoc = |(heredoc, lines): (&lines::Heredoc, &Lines)| {
                json!({
                    "name": heredoc.name, "expand": heredoc.expand, "chomp": heredoc.chomp,
                    "lines": [lines.first, lines.last],
                })
            };
            let all: Vec<Value> = statement.heredocs.iter().zip(heredocs).map(heredoc).collect();
            value["heredocs"] = json!(all);
        }
        value
    }
}

fn trivia(line: &[u8], directive: bool) -> Kind {
    let text = String::from_utf8_lossy(line);
    match text.trim_start_matches('\u{feff}').trim_start().starts_with('#') {
        true if directive => Kind::Directive,
        true => Kind::Comment,
        false => Kind::Blank,
    }
}

/// The lines before the heredocs of a statement, and those of each heredoc.
fn parts(statement: &Statement) -> (Lines, Vec<Lines>) {
    let head = Lines { first: statement.lines.first, last: statement.head };
    let mut next = statement.head + 1;
    let body = |heredoc: &lines::Heredoc| {
        let first = next;
        next += heredoc.content.split_inclusive('\n').count() + 1;
        Lines { first, last: next - 1 }
    };
    (head, statement.heredocs.iter().map(body).collect())
}

#[cfg(test)]
mod tests;
