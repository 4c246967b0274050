//! Word expansion: `$name`, `${name:-word}` and quotes, as a Dockerfile has them.
//!
//! The instruction parser splits with it, the lowering expands with it. No command is ever run and no file name matched.
//!
//! # Invariants
//! Depth, work and result are bounded: `ENV a=$a$a` many times over must not fill the memory.
//!
//! # Sources
//! moby/buildkit `frontend/dockerfile/shell/lex.go`.

mod glob;

use std::{
    collections::{BTreeMap, BTreeSet},
    iter::Peekable,
    str::Chars,
};

use crate::error::Fault;

/// Nesting of `${a:-${b:-…}}`; deeper is nobody's Dockerfile and would overflow the stack.
const MAX_DEPTH: usize = 64;
/// Bytes one expanded word may have.
const MAX_WORD: usize = 1 << 20;

/// Where values come from.
pub trait Environment {
    /// The value of a variable, if it is set.
    fn value(&self, name: &str) -> Option<String>;
}

/// Nothing is set.
#[derive(Debug)]
pub struct Empty;

impl Environment for Empty {
    fn value(&self, _: &str) -> Option<String> {
        None
    }
}

impl Environment for [(String, String)] {
    fn value(&self, name: &str) -> Option<String> {
        self.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.clone())
    }
}

impl Environment for BTreeMap<String, String> {
    fn value(&self, name: &str) -> Option<String> {
        self.get(name).cloned()
    }
}

/// How text is read.
#[derive(Clone, Copy, Debug)]
pub struct Lexer {
    /// The escape character, `\` or `` ` ``.
    pub escape: char,
    /// What happens to quotes and escapes.
    pub quotes: Quotes,
    /// Unset variables stay as they are.
    pub keep_unset: bool,
}

/// What happens to quotes and escapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quotes {
    /// They group, and are taken away.
    Removed,
    /// They group, and stay.
    Kept,
    /// Quotes are text, and only a variable or an escape can be escaped: as in the body of a shell's heredoc.
    Text,
}

/// What became of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expanded {
    /// As one word.
    pub text: String,
    /// As separate words.
    pub words: Vec<String>,
    /// Variables that were not set.
    pub unset: BTreeSet<String>,
}

impl Lexer {
    /// Quotes are removed, unset variables are empty.
    pub fn new(escape: char) -> Self {
        Self { escape, quotes: Quotes::Removed, keep_unset: false }
    }

    /// Quotes and unset variables stay: for splitting and for display.
    pub fn raw(escape: char) -> Self {
        Self { escape, quotes: Quotes::Kept, keep_unset: true }
    }

    /// For the body of a heredoc.
    pub fn document(escape: char) -> Self {
        Self { escape, quotes: Quotes::Text, keep_unset: false }
    }

    /// Expands `text` with the variables of `env`.
    pub fn expand(&self, text: &str, env: &(impl Environment + ?Sized)) -> Result<Expanded, Fault> {
        let mut reader = Reader {
            lexer: *self,
            chars: text.chars().peekable(),
            lookup: &|name| env.value(name),
            words: Words::default(),
            unset: BTreeSet::new(),
            depth: 0,
        };
        let text = reader.until(None, false)?;
        Ok(Expanded { text, words: reader.words.finish(), unset: reader.unset })
    }
}

/// Words under construction; a word exists as soon as it has a character or quotes.
#[derive(Default)]
struct Words {
    done: Vec<String>,
    word: String,
    open: bool,
}

impl Words {
    fn separate(&mut self, c: char) {
        if c.is_whitespace() {
            self.end();
        } else {
            self.keep(c);
        }
    }

    fn keep(&mut self, c: char) {
        self.word.push(c);
        self.open = true;
    }

    fn quoted(&mut self, text: &str) {
        self.word.push_str(text);
        self.open = true;
    }

    fn end(&mut self) {
        if self.open {
            self.done.push(std::mem::take(&mut self.word));
            self.open = false;
        }
    }

    fn finish(mut self) -> Vec<String> {
        self.end();
        self.done
    }
}

struct Reader<'a> {
    lexer: Lexer,
    chars: Peekable<Chars<'a>>,
    lookup: &'a dyn Fn(&str) -> Option<String>,
    words: Words,
    unset: BTreeSet<String>,
    depth: usize,
}

impl Reader<'_> {
    /// Reads up to `stop`, or to the end. `keep_escapes` is for patterns, whose escapes mean something.
    fn until(&mut self, stop: Option<char>, keep_escapes: bool) -> Result<String, Fault> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Fault::new(format!("substitution is nested deeper than {MAX_DEPTH}")));
        }
        let mut out = String::new();
        while let Some(&c) = self.chars.peek() {
            if out.len() > MAX_WORD {
                return Err(Fault::new(format!("expanded word is longer than {MAX_WORD} bytes")));
            }
            match c {
                _ if Some(c) == stop => {
                    self.chars.next();
                    self.depth -= 1;
                    return Ok(out);
                }
                '\'' | '"' if self.lexer.quotes != Quotes::Text => {
                    let part = if c == '"' { self.double_quoted()? } else { self.single_quoted()? };
                    self.words_at_top(|words| words.quoted(&part));
                    out.push_str(&part);
                }
                '$' => {
                    let part = self.dollar()?;
                    self.words_at_top(|words| part.chars().for_each(|c| words.separate(c)));
                    out.push_str(&part);
                }
                _ => {
                    self.chars.next();
                    if c == self.lexer.escape {
                        if self.keeps_escape() || keep_escapes {
                            self.words_at_top(|words| words.keep(c));
                            out.push(c);
                        }
                        let Some(next) = self.chars.next() else { break };
                        self.words_at_top(|words| words.keep(next));
                        out.push(next);
                    } else {
                        self.words_at_top(|words| words.separate(c));
                        out.push(c);
                    }
                }
            }
        }
        self.depth -= 1;
        match stop {
            None => Ok(out),
            Some('}') => Err(Fault::new("syntax error: missing '}'")),
            Some(c) => Err(Fault::new(format!("unexpected end of statement while looking for matching {c}"))),
        }
    }

    /// Whether the escape that was just read is part of the text.
    fn keeps_escape(&mut self) -> bool {
        match self.lexer.quotes {
            Quotes::Removed => false,
            Quotes::Kept => true,
            Quotes::Text => !matches!(self.chars.peek(), Some(c) if *c == '$' || *c == self.lexer.escape),
        }
    }

    /// Words are split on the outermost level only.
    fn words_at_top(&mut self, add: impl FnOnce(&mut Words)) {
        if self.depth == 1 {
            add(&mut self.words);
        }
    }

    fn single_quoted(&mut self) -> Result<String, Fault> {
        self.chars.next();
        let mut out = String::new();
        if self.lexer.quotes == Quotes::Kept {
            out.push('\'');
        }
        for c in self.chars.by_ref() {
            if c == '\'' {
                if self.lexer.quotes == Quotes::Kept {
                    out.push(c);
                }
                return Ok(out);
            }
            out.push(c);
        }
        Err(Fault::new("unexpected end of statement while looking for matching single-quote"))
    }

    fn double_quoted(&mut self) -> Result<String, Fault> {
        self.chars.next();
        let mut out = String::new();
        if self.lexer.quotes == Quotes::Kept {
            out.push('"');
        }
        while let Some(&c) = self.chars.peek() {
            if c == '$' {
                out.push_str(&self.dollar()?);
                continue;
            }
            self.chars.next();
            if c == '"' {
                if self.lexer.quotes == Quotes::Kept {
                    out.push(c);
                }
                return Ok(out);
            }
            if c != self.lexer.escape {
                out.push(c);
                continue;
            }
            let escapable = |next: char| next == '"' || next == '$' || next == self.lexer.escape;
            match self.chars.peek().copied() {
                None => out.push(c),
                Some(next) => {
                    if self.lexer.quotes == Quotes::Kept || !escapable(next) {
                        out.push(c);
                    }
                    out.push(next);
                    self.chars.next();
                }
            }
        }
        Err(Fault::new("unexpected end of statement while looking for matching double-quote"))
    }

    fn dollar(&mut self) -> Result<String, Fault> {
        self.chars.next();
        if self.chars.peek() != Some(&'{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            return Ok(match self.get(&name) {
                Some(value) => value,
                None if self.lexer.keep_unset => format!("${name}"),
                None => String::new(),
            });
        }
        self.chars.next();
        match self.chars.peek() {
            None => return Err(Fault::new("syntax error: missing '}'")),
            Some('{' | '}' | ':') => return Err(Fault::new("syntax error: bad substitution")),
            Some(_) => {}
        }
        let name = self.name();
        match self.chars.next() {
            None => Err(Fault::new("syntax error: missing '}'")),
            Some('}') => Ok(match self.get(&name) {
                Some(value) => value,
                None if self.lexer.keep_unset => format!("${{{name}}}"),
                None => String::new(),
            }),
            Some('/') => self.replace(&name),
            Some(':') => match self.chars.next() {
                None => Err(Fault::new("syntax error: missing '}'")),
                Some(c @ ('-' | '+' | '?')) => self.default(&name, c, true),
                Some(c) => Err(Fault::new(format!("unsupported modifier (:{c}) in substitution"))),
            },
            Some(c @ ('-' | '+' | '?')) => self.default(&name, c, false),
            Some(c @ ('#' | '%')) => self.trim(&name, c),
            Some(c) => Err(Fault::new(format!("unsupported modifier ({c}) in substitution"))),
        }
    }

    /// `${name-word}` and its relatives; with a colon an empty value counts as unset.
    fn default(&mut self, name: &str, modifier: char, colon: bool) -> Result<String, Fault> {
        let word = self.until(Some('}'), false)?;
        let value = (self.lookup)(name);
        if value.is_none() && self.lexer.keep_unset {
            let colon = if colon { ":" } else { "" };
            return Ok(format!("${{{name}{colon}{modifier}{word}}}"));
        }
        let usable = value.clone().filter(|value| !(colon && value.is_empty()));
        match (modifier, usable) {
            ('-', usable) => Ok(usable.unwrap_or(word)),
            ('+', usable) => Ok(usable.map(|_| word).unwrap_or_default()),
            (_, Some(value)) => Ok(value),
            (_, None) if !word.is_empty() => Err(Fault::new(format!("{name}: {word}"))),
            (_, None) => {
                let what = if value.is_some() { "empty" } else { "unset" };
                Err(Fault::new(format!("{name}: is not allowed to be {what}")))
            }
        }
    }

    /// `${name#pattern}`, `##`, `%`, `%%`.
    fn trim(&mut self, name: &str, modifier: char) -> Result<String, Fault> {
        let word = self.until(Some('}'), true)?;
        let Some(value) = self.get(name) else {
            let kept = format!("${{{name}{modifier}{word}}}");
            return Ok(if self.lexer.keep_unset { kept } else { String::new() });
        };
        let (pattern, greedy) = match word.strip_prefix(modifier) {
            Some(rest) => (rest, true),
            None => (word.as_str(), false),
        };
        if modifier == '#' {
            glob::trim_prefix(&value, pattern, greedy)
        } else {
            glob::trim_suffix(&value, pattern, greedy)
        }
    }

    /// `${name/pattern/replacement}` and `//`.
    fn replace(&mut self, name: &str) -> Result<String, Fault> {
        let all = self.chars.next_if_eq(&'/').is_some();
        let pattern = self.until(Some('/'), true)?;
        let replacement = self.until(Some('}'), true)?;
        match self.get(name) {
            Some(value) => glob::replace(&value, &pattern, &replacement, all),
            None if self.lexer.keep_unset => {
                let slash = if all { "//" } else { "/" };
                Ok(format!("${{{name}{slash}{pattern}/{replacement}}}"))
            }
            None => Ok(String::new()),
        }
    }

    fn get(&mut self, name: &str) -> Option<String> {
        let value = (self.lookup)(name);
        if value.is_none() && !name.is_empty() {
            self.unset.insert(name.to_owned());
        }
        value
    }

    /// Letters, digits and `_`; or only digits; or one special character.
    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.chars.peek() {
            Some(c) if c.is_alphabetic() || *c == '_' => {
                while let Some(c) = self.chars.next_if(|c| c.is_alphanumeric() || *c == '_') {
                    name.push(c);
                }
            }
            Some(c) if c.is_ascii_digit() => {
                while let Some(c) = self.chars.next_if(char::is_ascii_digit) {
                    name.push(c);
                }
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => name.extend(self.chars.next()),
            _ => {}
        }
        name
    }
}

#[cfg(test)]
mod tests;
