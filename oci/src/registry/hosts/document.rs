//! Document: a TOML file whose values know their line, read strictly.
//!
//! `settings` and `legacy` walk its tables; each refusal names the file, the line and the column, what is wrong and how to write it.
//!
//! # Invariants
//! Nothing is skipped in silence: who reads a table goes over all of its keys.

use std::{ops::Range, path::Path};

use buildd_fs::nearest::nearest;
use toml::{
    Spanned,
    de::{DeString, DeTable, DeValue},
};

use super::super::{Error, host::Origin};

/// A key of a table, and what it is set to.
pub(super) type Key<'i> = Spanned<DeString<'i>>;
/// A value and its place.
pub(super) type Value<'i> = Spanned<DeValue<'i>>;

/// One file, for telling places in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Document<'i> {
    /// Where it lies.
    pub(super) path: &'i Path,
    /// What it holds.
    pub(super) text: &'i str,
}

impl<'i> Document<'i> {
    /// Its root table.
    pub(super) fn parse(self) -> Result<DeTable<'i>, Error> {
        DeTable::parse(self.text).map(Spanned::into_inner).map_err(|error| {
            let (line, column) = error.span().map(|span| self.place(span.start)).unzip();
            let reason = error.message().replace('\n', ", ");
            Error::Settings { path: self.path.to_owned(), line, column, reason, remedy: None }
        })
    }

    /// Line and column of a byte, both from 1; columns count characters.
    fn place(self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line = before.rsplit('\n').next().unwrap_or_default();
        (before.matches('\n').count() + 1, line.chars().count() + 1)
    }

    /// A refusal of what lies at `span`.
    pub(super) fn refuse(self, span: Range<usize>, reason: impl Into<String>, remedy: Option<&str>) -> Error {
        let (line, column) = self.place(span.start);
        Error::Settings {
            path: self.path.to_owned(),
            line: Some(line),
            column: Some(column),
            reason: reason.into(),
            remedy: remedy.map(str::to_owned),
        }
    }

    /// A refusal of a word that is none of `allowed`.
    pub(super) fn unknown(self, span: Range<usize>, what: &str, word: &str, allowed: &[&str]) -> Error {
        let remedy = match nearest(word, allowed) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("one of {}", allowed.join(", ")),
        };
        self.refuse(span, format!("unknown {what} {word:?}"), Some(&remedy))
    }

    /// The place of a key, for `registry explain`.
    pub(super) fn origin(self, key: &Key<'_>) -> Origin {
        Origin::File(self.path.to_owned(), Some(self.place(key.span().start).0))
    }

    fn wrong_type(self, key: &Key<'_>, value: &Value<'_>, wanted: &str, example: &str) -> Error {
        let is = value.get_ref().type_str();
        let reason = format!("{} must be {wanted}, not {is}", key.get_ref());
        self.refuse(value.span(), reason, Some(&format!("{} = {example}", key.get_ref())))
    }

    /// A string.
    pub(super) fn string<'v>(
        self,
        key: &Key<'_>,
        value: &'v Value<'_>,
        example: &str,
    ) -> Result<&'v str, Error> {
        value.get_ref().as_str().ok_or_else(|| self.wrong_type(key, value, "a string", example))
    }

    /// A truth value.
    pub(super) fn boolean(self, key: &Key<'_>, value: &Value<'_>) -> Result<bool, Error> {
        value.get_ref().as_bool().ok_or_else(|| self.wrong_type(key, value, "true or false", "true"))
    }

    /// A table.
    pub(super) fn table<'v, 'd>(
        self,
        key: &Key<'_>,
        value: &'v Value<'d>,
        example: &str,
    ) -> Result<&'v DeTable<'d>, Error> {
        value.get_ref().as_table().ok_or_else(|| {
            let is = value.get_ref().type_str();
            let reason = format!("{} must be a table, not {is}", key.get_ref());
            self.refuse(key.span(), reason, Some(example))
        })
    }

    /// A list of strings, each with its place.
    pub(super) fn strings<'v>(
        self,
        key: &Key<'_>,
        value: &'v Value<'_>,
        example: &str,
    ) -> Result<Vec<(&'v str, Range<usize>)>, Error> {
        let wrong = |value| self.wrong_type(key, value, "a list of strings", example);
        let list = value.get_ref().as_array().ok_or_else(|| wrong(value))?;
        let text = |item: &'v Value<'_>| item.get_ref().as_str().map(|text| (text, item.span()));
        list.iter().map(|item| text(item).ok_or_else(|| wrong(item))).collect()
    }

    /// A string, or a list of them.
    pub(super) fn one_or_more<'v>(
        self,
        key: &Key<'_>,
        value: &'v Value<'_>,
        example: &str,
    ) -> Result<Vec<(&'v str, Range<usize>)>, Error> {
        match value.get_ref().as_str() {
            Some(text) => Ok(vec![(text, value.span())]),
            None => self.strings(key, value, example),
        }
    }
}

/// The keys of a table in the order of the file, whatever form they take.
pub(super) fn in_file_order<'t, 'd>(table: &'t DeTable<'d>) -> Vec<(&'t Key<'d>, &'t Value<'d>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}
