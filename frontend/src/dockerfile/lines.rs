//! Lines to statements: parser directives, comments, continuations, heredoc bodies.
//!
//! What comes out has no physical lines any more; each statement remembers which ones it came from.
//!
//! # Sources
//! moby/buildkit `frontend/dockerfile/parser`.

use crate::{
    dockerfile::expand::{Empty, Lexer},
    error::{Fault, Lines},
};

/// Bytes one physical line may have.
const MAX_LINE: usize = 65535;

/// A text taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    /// The escape character.
    pub escape: char,
    /// `# syntax=`, if there is one.
    pub syntax: Option<String>,
    /// `# check=`, if there is one.
    pub check: Option<String>,
    /// Lines at the top that are directives.
    pub directives: usize,
    /// In the order of the text.
    pub statements: Vec<Statement>,
}

/// One instruction, not yet looked into.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statement {
    /// The whole of it, continuations joined.
    pub original: String,
    /// Its first word, as written.
    pub keyword: String,
    /// What follows.
    pub rest: String,
    /// The bodies that follow its line.
    pub heredocs: Vec<Heredoc>,
    /// Where it stands, heredoc bodies included.
    pub lines: Lines,
    /// The comments directly above it, without their `#`; an empty comment or line parts those above from it.
    pub comments: Vec<String>,
    /// The last line before heredoc bodies.
    pub head: usize,
    /// Whether there is an empty line among its continuations.
    pub empty_continuation: bool,
}

/// `<<EOF` and the lines up to `EOF`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    /// The delimiter, without quotes.
    pub name: String,
    /// Whether variables in the body are expanded.
    pub expand: bool,
    /// Whether leading tabs are dropped.
    pub chomp: bool,
    /// The lines, newlines included.
    pub content: String,
}

/// Takes a Dockerfile apart.
pub fn read(bytes: &[u8]) -> Result<Document, Fault> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    if text.trim().is_empty() {
        return Err(Fault::new("the Dockerfile cannot be empty"));
    }
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    if let Some(long) = lines.iter().position(|line| line.len() > MAX_LINE + 2) {
        let fault = format!("dockerfile line greater than max allowed size of {MAX_LINE}");
        return Err(Fault::new(fault).while_parsing(Lines { first: long + 1, last: long + 1 }));
    }
    let mut document = Document { escape: '\\', ..Document::default() };
    document.directives = directives(&lines, &mut document)?;
    let mut reader = Reader { lines: &lines, next: document.directives, escape: document.escape };
    while let Some(statement) = reader.statement()? {
        document.statements.push(statement);
    }
    if document.statements.is_empty() {
        return Err(Fault::new("file with no instructions"));
    }
    Ok(document)
}

/// The statements of a text that has no directives.
pub(super) fn statements(text: &str, escape: char) -> Result<Vec<Statement>, Fault> {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let mut reader = Reader { lines: &lines, next: 0, escape };
    std::iter::from_fn(|| reader.statement().transpose()).collect()
}

/// Directives end at the first line that is none; how many there are.
fn directives(lines: &[&str], document: &mut Document) -> Result<usize, Fault> {
    let mut seen: Vec<String> = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let Some((key, value)) = directive(line) else { break };
        let at = Lines { first: number + 1, last: number + 1 };
        if !matches!(key.as_str(), "syntax" | "escape" | "check") {
            break;
        }
        if seen.contains(&key) {
            return Err(Fault::new(format!("only one {key} parser directive can be used")).while_parsing(at));
        }
        match key.as_str() {
            "syntax" => document.syntax = Some(value),
            "check" => document.check = Some(value),
            _ => {
                document.escape = match value.as_str() {
                    "\\" => '\\',
                    "`" => '`',
                    _ => {
                        let text = format!("invalid escape token '{value}' does not match ` or \\");
                        return Err(Fault::new(text).while_parsing(at));
                    }
                }
            }
        }
        seen.push(key);
    }
    Ok(seen.len())
}

/// `# key=value`, the key in lower case.
pub(super) fn directive(line: &str) -> Option<(String, String)> {
    let (key, value) = line.trim().strip_prefix('#')?.split_once('=')?;
    let (key, value) = (key.trim(), value.trim());
    let word =
        key.starts_with(|c: char| c.is_ascii_alphabetic()) && key.bytes().all(|b| b.is_ascii_alphanumeric());
    (word && !value.is_empty()).then(|| (key.to_ascii_lowercase(), value.to_owned()))
}

struct Reader<'a> {
    lines: &'a [&'a str],
    next: usize,
    escape: char,
}

impl<'a> Reader<'a> {
    fn statement(&mut self) -> Result<Option<Statement>, Fault> {
        let (mut text, mut complete) = (String::new(), true);
        let mut comments = Vec::new();
        while complete && text.is_empty() {
            let Some(line) = self.line() else { return Ok(None) };
            match line.trim().strip_prefix('#').map(str::trim) {
                Some("") => comments.clear(),
                Some(comment) => comments.push(comment.to_owned()),
                None => {
                    (text, complete) = self.continued(line.trim_start());
                    if text.is_empty() {
                        comments.clear();
                    }
                }
            }
        }
        let (first, mut empty_continuation) = (self.next, false);
        while !complete {
            let Some(line) = self.line() else { break };
            if is_comment(line) {
                continue;
            }
            if line.trim().is_empty() {
                empty_continuation = true;
                continue;
            }
            let (more, ends) = self.continued(line);
            text.push_str(&more);
            complete = ends;
        }
        let head = self.next;
        let original = text.trim().to_owned();
        if original.is_empty() {
            return self.statement();
        }
        let (keyword, rest) = original.split_once(char::is_whitespace).unwrap_or((&original, ""));
        let (keyword, rest) = (keyword.to_owned(), rest.trim().to_owned());
        let mut heredocs = Vec::new();
        if takes_heredocs(&keyword, &rest) {
            heredocs = heredocs_of(&rest, self.escape);
            for heredoc in &mut heredocs {
                self.body(heredoc, first)?;
            }
        }
        let lines = Lines { first, last: self.next };
        Ok(Some(Statement { original, keyword, rest, heredocs, lines, comments, head, empty_continuation }))
    }

    fn line(&mut self) -> Option<&'a str> {
        let line = self.lines.get(self.next)?;
        self.next += 1;
        Some(line.trim_end_matches('\n').trim_end_matches('\r'))
    }

    /// The line without its continuation mark, and whether it is the last one. A doubled escape is no mark.
    fn continued(&self, line: &str) -> (String, bool) {
        let Some(body) = line.trim_end_matches([' ', '\t']).strip_suffix(self.escape) else {
            return (line.to_owned(), true);
        };
        if body.ends_with(self.escape) { (line.to_owned(), true) } else { (body.to_owned(), false) }
    }

    fn body(&mut self, heredoc: &mut Heredoc, first: usize) -> Result<(), Fault> {
        while let Some(line) = self.lines.get(self.next) {
            self.next += 1;
            let line = if heredoc.chomp { line.trim_start_matches('\t') } else { line };
            if line.trim_end_matches(['\r', '\n']) == heredoc.name {
                return Ok(());
            }
            heredoc.content.push_str(line);
        }
        Err(Fault::new("unterminated heredoc").while_parsing(Lines { first, last: self.next }))
    }
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

fn takes_heredocs(keyword: &str, rest: &str) -> bool {
    if !rest.contains("<<") {
        return false;
    }
    match keyword.to_ascii_uppercase().as_str() {
        "ADD" | "COPY" | "RUN" => !rest.starts_with('['),
        "ONBUILD" => {
            let (keyword, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            !keyword.eq_ignore_ascii_case("onbuild") && takes_heredocs(keyword, rest.trim())
        }
        _ => false,
    }
}

/// The heredocs that the words of a line open; a line that is no list of words opens none.
fn heredocs_of(line: &str, escape: char) -> Vec<Heredoc> {
    let words = Lexer::raw(escape).expand(line, &Empty).map(|e| e.words).unwrap_or_default();
    words.iter().filter_map(|word| heredoc(word, escape)).collect()
}

/// `<<EOF`, `<<-EOF`, `3<<"EOF"` as a heredoc without its body.
pub fn heredoc(word: &str, escape: char) -> Option<Heredoc> {
    let (descriptor, rest) = word.split_once("<<")?;
    if !descriptor.bytes().all(|b| b.is_ascii_digit()) || rest.contains('<') {
        return None;
    }
    let (chomp, raw) = match rest.strip_prefix('-') {
        Some(raw) => (true, raw),
        None => (false, rest),
    };
    let lexer = Lexer { keep_unset: true, ..Lexer::new(escape) };
    let words = lexer.expand(raw, &Empty).ok()?.words;
    let [name] = words.as_slice() else { return None };
    (!name.is_empty()).then(|| Heredoc {
        name: name.clone(),
        expand: name == raw,
        chomp,
        content: String::new(),
    })
}

#[cfg(test)]
mod tests;
