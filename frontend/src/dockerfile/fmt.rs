//! Fmt: a text in its usual form, with the same meaning.
//!
//! Keywords in capitals, one blank between words, continuations indented by four blanks, at most one empty line in a row, no empty
//! continuation lines, no blanks at line ends. Nobody has to trust that list: each rewritten instruction is parsed again and taken only if
//! it means the same, and so is the whole. What a shell will read is therefore left as it is written.
//!
//! # Invariants
//! `format(format(x)) == format(x)`, and both build the same LLB as `x`.

use super::{
    ast::{Ast, Kind, Piece},
    instruction::{self, Instruction},
    lines,
};
use crate::error::{Fault, Lines};

const INDENT: &str = "    ";

/// How much of an instruction is rewritten.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RewriteMode {
    /// Blanks between words, too.
    Words,
    /// The start and end of each line.
    Indented,
    /// The keyword, empty lines and the ends of lines.
    Careful,
}

/// The usual form of a text; or all that is wrong with it.
pub fn format(text: &[u8]) -> Result<String, Fault> {
    let whole = std::str::from_utf8(text)
        .map_err(|error| Fault::new(format!("byte {} is not UTF-8", error.valid_up_to())))?;
    let ast = Ast::read(text)?;
    let formatted = rewrite(&ast);
    // The last word: whatever went wrong above, meaning is never lost.
    Ok(if same(&ast, &formatted) { formatted } else { whole.to_owned() })
}

fn same(ast: &Ast, formatted: &str) -> bool {
    let Ok(new) = Ast::read(formatted.as_bytes()) else { return false };
    let (a, b) = (&ast.document, &new.document);
    let directives = (a.escape, &a.syntax, &a.check) == (b.escape, &b.syntax, &b.check);
    let meanings = |ast: &Ast| -> Vec<Instruction> {
        let meaning = |piece: &Piece| match &piece.kind {
            Kind::Instruction { located, .. } => Some(located.instruction.clone()),
            _ => None,
        };
        ast.pieces.iter().filter_map(meaning).collect()
    };
    let comments = a.statements.iter().map(|s| &s.comments).eq(b.statements.iter().map(|s| &s.comments));
    directives && comments && meanings(ast) == meanings(&new)
}

fn rewrite(ast: &Ast) -> String {
    let mut out = String::new();
    let mut blank = false;
    for piece in &ast.pieces {
        let source = ast.source(piece);
        let text = match &piece.kind {
            Kind::Blank => {
                blank = true;
                continue;
            }
            Kind::Directive => directive(&source),
            Kind::Comment => format!("{}\n", source.trim_start_matches('\u{feff}').trim()),
            Kind::Instruction { located, head, .. } => instruction(ast, piece, &located.instruction, *head),
        };
        if std::mem::take(&mut blank) && !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&text);
    }
    out
}

/// `# key=value`.
fn directive(source: &str) -> String {
    let text = source.trim_start_matches('\u{feff}').trim().trim_start_matches('#');
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    format!("# {}={}\n", key.trim(), value.trim())
}

/// The most usual form that means the same; as it is written, if none does.
fn instruction(ast: &Ast, piece: &Piece, meaning: &Instruction, head: Lines) -> String {
    let source = ast.source(piece);
    let source = source.trim_start_matches('\u{feff}');
    let all: Vec<&str> = source.split_inclusive('\n').collect();
    let (head_lines, bodies) = all.split_at(all.len().min(head.last - head.first + 1));
    let mut bodies: String = bodies.concat();
    if !bodies.is_empty() && !bodies.ends_with('\n') {
        bodies.push('\n');
    }
    let escape = ast.document.escape;
    for form in [RewriteMode::Words, RewriteMode::Indented, RewriteMode::Careful] {
        let candidate = rewrite_head(head_lines, escape, form) + &bodies;
        if means(&candidate, escape, meaning) {
            return candidate;
        }
    }
    let mut verbatim = source.to_owned();
    if !verbatim.ends_with('\n') {
        verbatim.push('\n');
    }
    verbatim
}

fn means(text: &str, escape: char, meaning: &Instruction) -> bool {
    let Ok(statements) = lines::statements(text, escape) else { return false };
    let [statement] = statements.as_slice() else { return false };
    instruction::parse_statement(statement, escape).is_ok_and(|located| located.instruction == *meaning)
}

/// A physical line of the head.
enum Line<'a> {
    Comment(&'a str),
    /// Without its mark.
    Content(&'a str),
}

fn rewrite_head(lines: &[&str], escape: char, form: RewriteMode) -> String {
    let mut parsed = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let line = line.trim_end_matches('\n').trim_end_matches('\r');
        if number > 0 && line.trim_start().starts_with('#') {
            parsed.push(Line::Comment(line.trim()));
            continue;
        }
        let end = line.trim_end_matches([' ', '\t']);
        let body = end.strip_suffix(escape).filter(|body| !body.ends_with(escape)).unwrap_or(line);
        let empty = body.trim().is_empty();
        // A mark alone adds its blanks to the text; they can mean something to a shell.
        if !empty || (form == RewriteMode::Careful && body.len() < end.len()) {
            parsed.push(Line::Content(body));
        }
    }
    let filled = |line: &Line<'_>| matches!(line, Line::Content(body) if !body.trim().is_empty());
    let last = parsed.iter().rposition(filled).unwrap_or(0);
    let mut out = String::new();
    let mut first = true;
    for (number, line) in parsed.iter().enumerate() {
        match line {
            Line::Comment(text) => {
                let indent = if number < last { INDENT } else { "" };
                out.push_str(&format!("{indent}{text}\n"));
            }
            // Blanks at the end mean nothing.
            Line::Content(_) if number > last => {}
            Line::Content(body) => {
                let text = content(body, first, form);
                first = false;
                out.push_str(if number == last { text.trim_end() } else { &text });
                if number != last {
                    let gap = if form == RewriteMode::Careful || text.ends_with(' ') { "" } else { " " };
                    out.push_str(&format!("{gap}{escape}"));
                }
                out.push('\n');
            }
        }
    }
    out
}

fn content(body: &str, first: bool, form: RewriteMode) -> String {
    if !first {
        return match form {
            RewriteMode::Careful => body.to_owned(),
            RewriteMode::Indented => format!("{INDENT}{}", body.trim()),
            RewriteMode::Words => format!("{INDENT}{}", words(body)),
        };
    }
    let body = body.trim_start();
    let (keyword, rest) = body.split_once(char::is_whitespace).unwrap_or((body, ""));
    let keyword = keyword.to_uppercase();
    let rest = match form {
        RewriteMode::Careful => rest.trim_start().to_owned(),
        RewriteMode::Indented => rest.trim().to_owned(),
        RewriteMode::Words if keyword == "FROM" => from(rest),
        RewriteMode::Words => words(rest),
    };
    if rest.is_empty() { keyword } else { format!("{keyword} {rest}") }
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn from(rest: &str) -> String {
    let upper = |word: &str| if word.eq_ignore_ascii_case("as") { "AS".to_owned() } else { word.to_owned() };
    let words: Vec<&str> = rest.split_whitespace().collect();
    let as_is = |at: usize| at + 2 == words.len() && at > 0;
    let word = |(at, word): (usize, &&str)| if as_is(at) { upper(word) } else { (*word).to_owned() };
    words.iter().enumerate().map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
