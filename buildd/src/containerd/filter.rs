//! Filters: containerd's little language for lists, `name==x,labels."a.b"~=^c`.
//!
//! A comma is "and", several filters are "or". `field` alone asks for presence. `~=` is a regular expression in containerd; here it is
//! refused, because no client that we know sends it.

use std::collections::BTreeMap;

use tonic::Status;

/// Filters of one request: stops a list without end.
const MAX_FILTERS: usize = 1024;

/// What a filter can ask about a thing.
pub(super) trait Fields {
    /// The value of a field; None if it has none.
    fn field(&self, name: &str) -> Option<String>;
    /// Its labels.
    fn labels(&self) -> &BTreeMap<String, String>;
}

#[derive(Debug, PartialEq, Eq)]
struct Condition {
    path: Vec<String>,
    operator: Operator,
    value: String,
}

#[derive(Debug, PartialEq, Eq)]
enum Operator {
    Present,
    Equal,
    NotEqual,
}

/// Parsed filters.
#[derive(Debug)]
pub(super) struct Filters(Vec<Vec<Condition>>);

impl Filters {
    /// Parses; no filters match everything.
    pub(super) fn parse(texts: &[String]) -> Result<Self, Status> {
        if texts.len() > MAX_FILTERS {
            return Err(Status::invalid_argument("too many filters"));
        }
        let texts = texts.iter().filter(|text| !text.is_empty());
        texts.map(|text| parse(text)).collect::<Result<_, _>>().map(Self)
    }

    /// Whether a thing matches.
    pub(super) fn matches(&self, thing: &dyn Fields) -> bool {
        self.0.is_empty() || self.0.iter().any(|all| all.iter().all(|condition| condition.matches(thing)))
    }
}

impl Condition {
    fn matches(&self, thing: &dyn Fields) -> bool {
        let found = match self.path.split_first() {
            Some((first, rest)) if first == "labels" => thing.labels().get(&rest.join(".")).cloned(),
            _ => thing.field(&self.path.join(".")),
        };
        match self.operator {
            Operator::Present => found.is_some(),
            Operator::Equal => found.is_some_and(|found| found == self.value),
            Operator::NotEqual => found.is_none_or(|found| found != self.value),
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
        let (operator, after) = match rest.get(..2) {
            Some("==") => (Operator::Equal, &rest[2..]),
            Some("!=") => (Operator::NotEqual, &rest[2..]),
            Some("~=") => return Err(refuse("regular expressions are not supported")),
            _ => (Operator::Present, rest),
        };
        rest = after;
        let value = match operator {
            Operator::Present => String::new(),
            _ => word(&mut rest, ",").unwrap_or_default(),
        };
        conditions.push(Condition { path, operator, value });
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.is_empty() => return Ok(conditions),
            None => return Err(refuse("unexpected text after a value")),
        }
    }
}

/// A quoted or a plain word; None if it is empty.
fn word(rest: &mut &str, ends: &str) -> Option<String> {
    if let Some(quoted) = rest.strip_prefix('"') {
        let end = quoted.find('"')?;
        let word = quoted[..end].to_owned();
        *rest = &quoted[end + 1..];
        return Some(word);
    }
    let end = rest.find(|c| ends.contains(c)).unwrap_or(rest.len());
    let word = rest[..end].to_owned();
    *rest = &rest[end..];
    (!word.is_empty()).then_some(word)
}

#[cfg(test)]
mod tests;
