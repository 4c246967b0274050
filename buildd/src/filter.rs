//! Filters: containerd's little language for lists, `name==x,labels."a.b"~=^c`.
//!
//! A comma is "and", several filters are "or". `field` alone asks for presence, `~=` for a match of a regular expression. Blanks between
//! the words mean nothing.
//!
//! # Sources
//! containerd `pkg/filters`.

use std::collections::BTreeMap;

use regex::{Regex, RegexBuilder};
use tonic::Status;

/// Filters of one request: stops a list without end.
const MAX_FILTERS: usize = 1024;
/// Bytes of a compiled regular expression: stops one that counts to millions.
const MAX_REGEX: usize = 1 << 20;

/// What a filter can ask about a thing.
pub(crate) trait Fields {
    /// The value of a field; None if it has none.
    fn field(&self, name: &str) -> Option<String>;
    /// Its labels.
    fn labels(&self) -> &BTreeMap<String, String>;
}

#[derive(Debug)]
struct Condition {
    path: Vec<String>,
    test: Test,
}

#[derive(Debug)]
enum Test {
    Present,
    Equal(String),
    NotEqual(String),
    Matches(Regex),
}

/// Parsed filters.
#[derive(Debug)]
pub(crate) struct Filters(Vec<Vec<Condition>>);

impl Filters {
    /// Parses; no filters match everything.
    pub(crate) fn parse(texts: &[String]) -> Result<Self, Status> {
        if texts.len() > MAX_FILTERS {
            return Err(Status::invalid_argument("too many filters"));
        }
        let texts = texts.iter().filter(|text| !text.is_empty());
        texts.map(|text| parse(text)).collect::<Result<_, _>>().map(Self)
    }

    /// Whether a thing matches.
    pub(crate) fn matches(&self, thing: &dyn Fields) -> bool {
        self.0.is_empty() || self.0.iter().any(|all| all.iter().all(|condition| condition.matches(thing)))
    }
}

impl Condition {
    fn matches(&self, thing: &dyn Fields) -> bool {
        let found = match self.path.split_first() {
            Some((first, rest)) if first == "labels" => thing.labels().get(&rest.join(".")).cloned(),
            _ => thing.field(&self.path.join(".")),
        };
        match &self.test {
            Test::Present => found.is_some(),
            Test::Equal(value) => found.is_some_and(|found| found == *value),
            Test::NotEqual(value) => found.is_none_or(|found| found != *value),
            Test::Matches(regex) => found.is_some_and(|found| regex.is_match(&found)),
        }
    }
}

fn parse(text: &str) -> Result<Vec<Condition>, Status> {
    let refuse = |why: &str| Status::invalid_argument(format!("filter {text:?}: {why}"));
    let mut rest = text;
    let mut conditions = Vec::new();
    loop {
        let mut path = Vec::new();
        loop {
            path.push(word(&mut rest, ".=!~,").ok_or_else(|| refuse("a field is missing"))?);
            match rest.strip_prefix('.') {
                Some(after) => rest = after,
                None => break,
            }
        }
        let operator = rest.get(..2).filter(|two| ["==", "!=", "~="].contains(two)).unwrap_or_default();
        rest = &rest[operator.len()..];
        let value = match operator {
            "" => String::new(),
            _ => word(&mut rest, ",").unwrap_or_default(),
        };
        let test = match operator {
            "" => Test::Present,
            "==" => Test::Equal(value),
            "!=" => Test::NotEqual(value),
            _ => {
                let regex = RegexBuilder::new(&value).size_limit(MAX_REGEX).build();
                Test::Matches(regex.map_err(|error| refuse(&error.to_string()))?)
            }
        };
        conditions.push(Condition { path, test });
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.is_empty() => return Ok(conditions),
            None => return Err(refuse("unexpected text after a value")),
        }
    }
}

/// A quoted or a plain word; None if it is empty.
fn word(rest: &mut &str, ends: &str) -> Option<String> {
    *rest = rest.trim_start();
    if let Some(quoted) = rest.strip_prefix('"') {
        let end = quoted.find('"')?;
        let word = quoted[..end].to_owned();
        *rest = quoted[end + 1..].trim_start();
        return Some(word);
    }
    let end = rest.find(|c| ends.contains(c)).unwrap_or(rest.len());
    let word = rest[..end].trim_end().to_owned();
    *rest = &rest[end..];
    (!word.is_empty()).then_some(word)
}

#[cfg(test)]
mod tests;
