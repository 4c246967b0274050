//! Name and value pairs of ENV, LABEL and ARG.
//!
//! Values keep their quotes; the lowering expands and unquotes them.

use super::Reader;
use crate::error::Fault;

/// `ENV a=1 b=2`, or the old `ENV a the rest`.
pub(super) fn pairs(reader: &Reader<'_>) -> Result<Vec<(String, String)>, Fault> {
    if reader.rest.is_empty() {
        return Err(reader.too_few("at least one argument"));
    }
    let words = reader.words();
    let first = words.first().map_or("", String::as_str);
    if !first.contains('=') {
        let Some((name, value)) = reader.rest.split_once(char::is_whitespace) else {
            return Err(Fault::new(format!("{} must have two arguments", reader.keyword)));
        };
        return Ok(vec![(name.to_owned(), value.trim().to_owned())]);
    }
    words
        .into_iter()
        .map(|word| match word.split_once('=') {
            Some(("", _)) => Err(Fault::new(format!("{} names can not be blank", reader.keyword))),
            Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
            None => Err(Fault::new(format!(
                "Syntax error - can't find = in {word:?}. Must be of the form: name=value"
            ))),
        })
        .collect()
}

/// `ARG a b=1`.
pub(super) fn args(reader: &Reader<'_>) -> Result<Vec<(String, Option<String>)>, Fault> {
    reader
        .some(reader.words())?
        .into_iter()
        .map(|word| match word.split_once('=') {
            Some(("", _)) => Err(Fault::new("ARG names can not be blank")),
            Some((name, value)) => Ok((name.to_owned(), Some(value.to_owned()))),
            None => Ok((word, None)),
        })
        .collect()
}
