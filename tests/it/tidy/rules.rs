//! Rules: what one file, or one line of a manifest, may be; each rule returns the faults that it finds.

use super::reading::{Named, Reading};

/// Longest file, in lines; tests are free.
const FILE_LINES: usize = 500;
/// Longest median of a file's length, in lines, tests aside.
const MEDIAN_LINES: usize = 150;
/// Longest function, in lines; one that is a flat `match` may exceed it.
pub(super) const FUNCTION_LINES: usize = 60;

/// Crates that a library does not name.
const SERVING: &[&str] = &["tonic", "clap", "anyhow"];
/// Macros that a library does not call.
const PRINTING: &[&str] = &["println", "eprintln", "print", "eprint", "dbg"];
/// Macros that nothing calls.
const UNDONE: &[&str] = &["todo", "unimplemented"];

/// Crates that `package` uses and may not.
pub(super) fn edges(drawn: &[(&str, &[&str])], package: &str, used: &[&str]) -> Vec<String> {
    let allowed = drawn.iter().find(|(name, _)| *name == package).map_or(&[][..], |(_, allowed)| allowed);
    used.iter()
        .filter(|name| !allowed.contains(name))
        .map(|name| format!("{package} must not use {name}"))
        .collect()
}

/// Whether a file names the package, in code that is compiled for more than tests or, if `tests`, anywhere.
pub(super) fn uses<'a>(package: &str, tests: bool, files: impl Iterator<Item = &'a Reading>) -> bool {
    let name = package.replace('-', "_");
    let named = |named: &&Named| named.path[0] == name && (tests || !named.test);
    files.flat_map(|read| &read.named).any(|n| named(&n))
}

/// What a library has no business with: serving, flags, the environment, printing.
pub(super) fn belongs_in_a_binary(read: &Reading) -> Vec<String> {
    let environment = |path: &[String]| {
        let mut words = path.iter().map(String::as_str).skip_while(|word| *word == "std");
        words.next() == Some("env")
            && words
                .next()
                .is_some_and(|word| word.starts_with("var") || word.ends_with("_var") || word == "*")
    };
    let paths = read
        .named
        .iter()
        .filter(|named| !named.test)
        .filter(|named| SERVING.contains(&named.path[0].as_str()) || environment(&named.path))
        .map(|named| format!("{}: {}", named.line, named.path.join("::")));
    let macros = read
        .macros
        .iter()
        .filter(|word| !word.test && PRINTING.contains(&word.text.as_str()))
        .map(|word| format!("{}: {}!", word.line, word.text));
    paths.chain(macros).collect()
}

/// A file that is too long, has no module doc or is named after nothing.
pub(super) fn file(name: &str, text: &str, test: bool) -> Vec<String> {
    let mut found = Vec::new();
    let lines = text.lines().count();
    if lines > FILE_LINES && !test {
        found.push(format!("{name}: {lines} lines, {FILE_LINES} allowed: split it"));
    }
    if !text.starts_with("//!") {
        found.push(format!("{name}: no module doc on the first line"));
    }
    let stem = name.rsplit('/').next().and_then(|file| file.strip_suffix(".rs")).unwrap_or(name);
    if ["mod", "util", "utils", "common", "helpers", "misc", "types"].contains(&stem) {
        found.push(format!("{name}: name the thing, not the drawer"));
    }
    found
}

/// A median that says that files grow.
pub(super) fn median(mut lengths: Vec<usize>) -> Option<String> {
    lengths.sort_unstable();
    let median = *lengths.get(lengths.len() / 2)?;
    (median > MEDIAN_LINES).then(|| format!("the median file has {median} lines, {MEDIAN_LINES} are allowed"))
}

/// Functions that are too long.
pub(super) fn long_functions(read: &Reading) -> Vec<String> {
    read.functions
        .iter()
        .filter(|function| function.lines > FUNCTION_LINES && !function.flat && !function.test)
        .map(|function| format!("{}: {}: {} lines", function.line, function.name, function.lines))
        .collect()
}

/// What is unsafe outside tests.
pub(super) fn unsafes(read: &Reading) -> Vec<String> {
    let found = read.unsafes.iter().filter(|word| !word.test);
    found.map(|word| format!("{}: {} outside sys/", word.line, word.text)).collect()
}

/// What says that something is left to do, in code and comments of tests, too.
pub(super) fn undone(text: &str, read: &Reading) -> Vec<String> {
    let words = [concat!("TO", "DO"), concat!("FIX", "ME")];
    let comments = text.lines().enumerate().filter_map(|(at, line)| {
        words.iter().find(|word| line.contains(*word)).map(|word| format!("{}: {word}", at + 1))
    });
    let macros = read.macros.iter().filter(|word| UNDONE.contains(&word.text.as_str()));
    let macros = macros.map(|word| format!("{}: {}!", word.line, word.text));
    let ignored = read.ignored.iter().map(|word| format!("{}: {}", word.line, word.text));
    comments.chain(macros).chain(ignored).collect()
}
