//! Flags: the `--name=value` words between a keyword and its arguments.
//!
//! `--` ends them. Values keep quotes out and variables in: expansion is the lowering's work.

use super::nearest;
use crate::{
    dockerfile::expand::{Empty, Lexer},
    error::Fault,
};

/// Flags that may be given more than once.
const REPEATABLE: [&str; 4] = ["mount", "exclude", "device", "cache"];
/// Flags that need no value.
const SWITCHES: [&str; 4] = ["link", "parents", "keep-git-dir", "unpack"];

/// The flags of one instruction.
#[derive(Debug, Default)]
pub(super) struct Flags(Vec<(String, String)>);

impl Flags {
    /// The flags at the start of `rest`, and what follows them.
    pub(super) fn split(rest: &str, allowed: &[&str], escape: char) -> Result<(Self, String), Fault> {
        let (mut flags, mut rest) = (Self::default(), rest.trim());
        if allowed.is_empty() {
            return Ok((flags, rest.to_owned()));
        }
        while rest.starts_with("--") {
            let (word, tail) = rest.split_at(word_end(rest, escape));
            rest = tail.trim_start();
            if word == "--" {
                break;
            }
            flags.add(word, allowed, escape)?;
        }
        Ok((flags, rest.to_owned()))
    }

    fn add(&mut self, word: &str, allowed: &[&str], escape: char) -> Result<(), Fault> {
        let lexer = Lexer { keep_unset: true, ..Lexer::new(escape) };
        // Quotes and escapes inside of a value go; a value that is no well-formed word stays as it is.
        let (name, value) = match word[2..].split_once('=') {
            Some((name, value)) => {
                let plain = !value.contains('$');
                let text = if plain { lexer.expand(value, &Empty).map(|e| e.text).ok() } else { None };
                (name, Some(text.unwrap_or_else(|| value.to_owned())))
            }
            None => (&word[2..], None),
        };
        if !allowed.contains(&name) {
            let near = nearest(name, allowed).map(|n| format!(" (did you mean {n}?)")).unwrap_or_default();
            return Err(Fault::new(format!("unknown flag: --{name}{near}")));
        }
        if !REPEATABLE.contains(&name) && self.value(name).is_some() {
            return Err(Fault::new(format!("duplicate flag specified: {name}")));
        }
        let value = match (value, SWITCHES.contains(&name)) {
            (None, true) => "true".to_owned(),
            (None, false) => return Err(Fault::new(format!("missing a value on flag: {name}"))),
            (Some(value), true) if value != "true" && value != "false" => {
                return Err(Fault::new(format!("expecting boolean value for flag {name}, not: {value}")));
            }
            (Some(value), _) => value,
        };
        self.0.push((name.to_owned(), value));
        Ok(())
    }

    /// The value of a flag.
    pub(super) fn value(&self, name: &str) -> Option<String> {
        self.all(name).next().map(str::to_owned)
    }

    /// All values of a flag.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Whether a switch is on; none if it was not given.
    pub(super) fn switch(&self, name: &str) -> Option<bool> {
        self.value(name).map(|value| value == "true")
    }
}

/// Where the first word ends: at a blank outside of quotes and not escaped.
pub(super) fn word_end(text: &str, escape: char) -> usize {
    let (mut quote, mut escaped) = (None, false);
    for (at, c) in text.char_indices() {
        match quote {
            _ if escaped => escaped = false,
            _ if c == escape => escaped = true,
            Some(q) if c == q => quote = None,
            Some(_) => {}
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c.is_whitespace() => return at,
            None => {}
        }
    }
    text.len()
}
