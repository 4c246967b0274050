//! Patterns: ignore and include lists as docker reads them.
//!
//! A pattern matches a whole path or one of its parents; `!` takes back; the last pattern that matches decides. Matching
//! simulates all alternatives at once, so no pattern can make it slower than its length times the path's.
//!
//! # Sources
//! moby `patternmatcher` and `ignorefile`; Go `filepath.Match` for `*`, `?`, classes and escapes.

use std::path::Path;

use crate::path::clean;

/// Longest pattern: more is an attack on time.
const MAX_PATTERN: usize = 4096;
/// Most patterns of one list.
const MAX_PATTERNS: usize = 100_000;

/// A pattern that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid pattern {pattern:?}: {reason}")]
pub struct PatternError {
    /// The pattern.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// A list of patterns.
#[derive(Clone, Debug, Default)]
pub struct Patterns {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    text: String,
    /// Number of its line, from 1; or its place in the list.
    line: usize,
    exclusion: bool,
    tokens: Vec<Token>,
    /// Its text, if it means itself: most do, and text is compared faster.
    literal: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// `**` at the end: everything.
    Rest,
    /// `**` before more: nothing, or folders with their slash.
    Folders,
    /// `*`: anything but a slash.
    Star,
    /// `?`: one character but a slash.
    One,
    Literal(char),
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

/// The lines of an ignore file that are patterns, in its normal form, with their line numbers.
pub fn ignore_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        if line.starts_with('#') {
            continue;
        }
        let (sign, pattern) = match line.trim().strip_prefix('!') {
            Some(rest) => ("!", rest.trim()),
            None => ("", line.trim()),
        };
        if pattern.is_empty() {
            continue;
        }
        let cleaned = clean_pattern(pattern);
        let cleaned = if cleaned.len() > 1 { cleaned.trim_start_matches('/') } else { &cleaned };
        lines.push((number + 1, format!("{sign}{cleaned}")));
    }
    lines
}

/// Go's `filepath.Clean`, as text.
fn clean_pattern(pattern: &str) -> String {
    let cleaned = clean(Path::new(pattern)).to_string_lossy().into_owned();
    match (pattern.starts_with('/'), cleaned.is_empty()) {
        (true, _) => format!("/{cleaned}"),
        (false, true) => ".".to_owned(),
        (false, false) => cleaned,
    }
}

impl Patterns {
    /// Reads an ignore file.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        Self::from_rules(ignore_lines(text))
    }

    /// Reads a list of patterns.
    pub fn from_list<S: AsRef<str>>(patterns: &[S]) -> Result<Self, PatternError> {
        Self::from_rules(patterns.iter().enumerate().map(|(n, p)| (n + 1, p.as_ref().to_owned())).collect())
    }

    fn from_rules(lines: Vec<(usize, String)>) -> Result<Self, PatternError> {
        let fail =
            |pattern: &str, reason| PatternError { pattern: pattern.chars().take(200).collect(), reason };
        if lines.len() > MAX_PATTERNS {
            return Err(fail("", "more than 100000 patterns"));
        }
        let mut rules = Vec::new();
        for (line, text) in lines {
            let trimmed = text.trim();
            if trimmed.is_empty() {
                continue;
            }
            if trimmed.len() > MAX_PATTERN {
                return Err(fail(trimmed, "longer than 4096 characters"));
            }
            let (exclusion, pattern) = match trimmed.strip_prefix('!') {
                Some("") => return Err(fail(trimmed, "nothing after '!'")),
                Some(rest) => (true, rest),
                None => (false, trimmed),
            };
            let cleaned = clean_pattern(pattern);
            let tokens = tokens(cleaned.trim_start_matches('/')).map_err(|reason| fail(trimmed, reason))?;
            let literal =
                tokens.iter().map(|token| if let Token::Literal(c) = token { Some(*c) } else { None });
            let literal = literal.collect();
            rules.push(Rule { text: trimmed.to_owned(), line, exclusion, tokens, literal });
        }
        Ok(Self { rules })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether any pattern takes back: then a matching folder may hold paths that do not match.
    pub fn has_exclusions(&self) -> bool {
        self.rules.iter().any(|rule| rule.exclusion)
    }

    /// Whether `path` (relative, with slashes) or one of its parents matches.
    pub fn matches(&self, path: &str) -> bool {
        self.deciding(path).is_some_and(|rule| !rule.exclusion)
    }

    /// The line and text of the pattern that excludes `path`, if it is excluded.
    pub fn explain(&self, path: &str) -> Option<(usize, &str)> {
        self.deciding(path).filter(|rule| !rule.exclusion).map(|rule| (rule.line, rule.text.as_str()))
    }

    /// The last rule that matches.
    fn deciding(&self, path: &str) -> Option<&Rule> {
        let path = path.trim_matches('/');
        let mut chars = None;
        self.rules.iter().rev().find(|rule| match &rule.literal {
            Some(literal) => is_or_holds(literal, path),
            None => matches(&rule.tokens, chars.get_or_insert_with(|| path.chars().collect::<Vec<_>>())),
        })
    }

    /// Whether something below the folder `path` may match without exclusions being considered.
    pub fn may_match_below(&self, path: &str) -> bool {
        let mut chars: Vec<char> = path.trim_matches('/').chars().collect();
        chars.push('/');
        self.rules.iter().filter(|rule| !rule.exclusion).any(|rule| reaches(&rule.tokens, &chars))
    }
}

/// Whether `path` is `folder` or lies below it.
fn is_or_holds(folder: &str, path: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn tokens(pattern: &str) -> Result<Vec<Token>, &'static str> {
    let mut tokens = Vec::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '*' if chars.peek() == Some(&'*') => {
                chars.next();
                if chars.peek() == Some(&'/') {
                    chars.next();
                }
                tokens.push(if chars.peek().is_none() { Token::Rest } else { Token::Folders });
            }
            '*' => tokens.push(Token::Star),
            '?' => tokens.push(Token::One),
            '\\' => tokens.push(Token::Literal(chars.next().ok_or("nothing after '\\'")?)),
            '[' => tokens.push(class(&mut chars)?),
            c => tokens.push(Token::Literal(c)),
        }
    }
    Ok(tokens)
}

fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Token, &'static str> {
    const OPEN: &str = "'[' without ']'";
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        let low = match chars.next().ok_or(OPEN)? {
            ']' if !ranges.is_empty() => return Ok(Token::Class { negated, ranges }),
            ']' => return Err("'[]' is empty"),
            '\\' => chars.next().ok_or(OPEN)?,
            c => c,
        };
        let high = match chars.next_if_eq(&'-') {
            None => low,
            Some(_) => match chars.next().ok_or(OPEN)? {
                '\\' => chars.next().ok_or(OPEN)?,
                c => c,
            },
        };
        ranges.push((low, high));
    }
}

/// The states reachable without taking a character: a token that may be empty is passed.
fn close(tokens: &[Token], states: &mut [bool]) {
    for i in 0..tokens.len() {
        if states[i] && matches!(tokens[i], Token::Rest | Token::Folders | Token::Star) {
            states[i + 1] = true;
        }
    }
}

/// One character's step. A state `i` stands before token `i`. `inside[i]` says that token `i`, a `Folders`, has begun a
/// folder's name and must end it with a slash.
fn advance(tokens: &[Token], states: &[bool], inside: &mut [bool], c: char) -> Vec<bool> {
    let mut next = vec![false; states.len()];
    for (i, token) in tokens.iter().enumerate() {
        let here = states[i];
        match token {
            Token::Rest => next[i] |= here,
            Token::Folders => {
                let open = here || inside[i];
                inside[i] = open && c != '/';
                if open && c == '/' {
                    next[i] = true;
                }
            }
            Token::Star => next[i] |= here && c != '/',
            Token::One => next[i + 1] |= here && c != '/',
            Token::Literal(literal) => next[i + 1] |= here && c == *literal,
            Token::Class { negated, ranges } => {
                let found = ranges.iter().any(|(low, high)| (*low..=*high).contains(&c));
                next[i + 1] |= here && found != *negated && c != '/';
            }
        }
    }
    close(tokens, &mut next);
    next
}

fn start(tokens: &[Token]) -> Vec<bool> {
    let mut states = vec![false; tokens.len() + 1];
    states[0] = true;
    close(tokens, &mut states);
    states
}

/// Whether the tokens match the path or a parent of it.
fn matches(tokens: &[Token], path: &[char]) -> bool {
    let (mut states, mut inside) = (start(tokens), vec![false; tokens.len()]);
    for c in path {
        if *c == '/' && states[tokens.len()] {
            return true;
        }
        states = advance(tokens, &states, &mut inside, *c);
    }
    states[tokens.len()]
}

/// Whether the tokens are still alive after `prefix`, so that a longer path may match.
fn reaches(tokens: &[Token], prefix: &[char]) -> bool {
    let (mut states, mut inside) = (start(tokens), vec![false; tokens.len()]);
    for c in prefix {
        if *c == '/' && states[tokens.len()] {
            return true;
        }
        states = advance(tokens, &states, &mut inside, *c);
    }
    states.iter().chain(&inside).any(|alive| *alive)
}

#[cfg(test)]
mod tests;
