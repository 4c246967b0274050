//! Lint: the build checks, a pure pass over a text that parses.
//!
//! A build runs it after its images are found and shows the findings as warnings; the `frontend.lint` request and `buildctl dockerfile lint` show them
//! alone. [`grammar`] looks at every statement as it is written; [`stages`] follows the environment of each planned stage.
//!
//! # Invariants
//! Asks nobody anything, changes nothing. A stage whose base image was not found has unknown variables: nothing is said about variables there.

mod config;
mod grammar;
mod report;
mod rules;
mod stages;

use std::collections::BTreeMap;

use super::{
    args,
    instruction::{self, Instruction, Located},
    lines::{Document, Statement},
    lower::Image,
    named::Named,
    options::Options,
    stage::{ImageName, Planned},
};
use crate::error::{Fault, Lines};

pub use config::Config;
pub use report::{Report, warnings};
pub use rules::Rule;

/// Findings of one text: stops a text that earns one for every few bytes.
const MAX_FINDINGS: usize = 200;
/// Names that a misspelt one is compared with: stops a text that sets very many.
const MAX_COMPARED: usize = 1000;
/// The build argument that stands in for the `# check=` directive.
const CHECK: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// One thing that could be better.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The check.
    pub rule: Rule,
    /// What it found.
    pub message: String,
    /// Where.
    pub lines: Lines,
    /// Whether it fails the build.
    pub error: bool,
}

/// What is checked.
#[derive(Debug)]
pub struct Subject<'a> {
    /// The text.
    pub document: &'a Document,
    /// The client's wishes.
    pub options: &'a Options,
    /// The global arguments.
    pub globals: &'a Named<String>,
    /// The stages that are built.
    pub plan: &'a BTreeMap<usize, Planned>,
    /// The images found.
    pub images: &'a BTreeMap<ImageName, Image>,
    /// The ignore file of the main context.
    pub ignore: Option<&'a str>,
    /// What the global arguments are without the client's.
    pub defaults: &'a Named<String>,
}

/// A statement and its meaning.
pub(super) type Pair<'a> = (&'a Statement, &'a Located);

/// Collects what is found.
pub(super) struct Findings {
    config: Config,
    list: Vec<Finding>,
}

impl Finding {
    /// One line, as it is shown at the end of a build.
    pub fn short(&self) -> String {
        format!("{}: {} (line {})", self.rule.name(), self.message, self.lines.first)
    }
}

/// Checks; findings in the order of the text.
pub fn check(subject: &Subject<'_>) -> Result<Vec<Finding>, Fault> {
    let given = subject.options.build_args.get(CHECK).or(subject.document.check.as_ref());
    let config = Config::parse(given.map_or("", String::as_str));
    let config = config.map_err(|reason| Fault::new(format!("failed to parse check options: {reason}")))?;
    let instructions = instruction::parse(subject.document)?;
    let pairs: Vec<Pair<'_>> = subject.document.statements.iter().zip(&instructions).collect();
    let mut findings = Findings { config, list: Vec::new() };
    grammar::check(&pairs, &mut findings);
    grammar::from_arguments(&pairs, subject, &mut findings);
    stages::check(&pairs, subject, &mut findings);
    findings.list.sort_by_key(|finding| finding.lines.first);
    Ok(findings.list)
}

/// The fault of a build whose findings are errors; none if they are not.
pub fn violation(findings: &[Finding]) -> Option<Fault> {
    let fatal = || findings.iter().filter(|finding| finding.error);
    let mut rules: Vec<&str> = fatal().map(|finding| finding.rule.name()).collect();
    rules.sort_unstable();
    rules.dedup();
    if rules.is_empty() {
        return None;
    }
    let mut fault = Fault::new(format!("lint violation found for rules: {}", rules.join(", ")));
    fault.lines = fatal().map(|finding| finding.lines).collect();
    Some(fault)
}

/// The global arguments as they would be if the client had given none.
pub(super) fn defaults(
    meta: &[Located],
    options: &Options,
    build: &buildd_oci::platform::Platform,
    target: &buildd_oci::platform::Platform,
    escape: char,
) -> Named<String> {
    let options =
        Options { build_args: BTreeMap::new(), target: options.target.clone(), ..Options::default() };
    args::globals(meta, &options, build, target, escape).unwrap_or_default()
}

impl Findings {
    /// Adds a finding about `statement`, unless its comments or the text say otherwise.
    fn add(&mut self, statement: &Statement, rule: Rule, message: String) {
        self.add_at(statement, statement.lines, rule, message);
    }

    fn has_room(&self) -> bool {
        self.list.len() < MAX_FINDINGS
    }

    fn add_at(&mut self, statement: &Statement, lines: Lines, rule: Rule, message: String) {
        let config = self.config.with_comments(&statement.comments);
        if config.runs(rule) && self.has_room() {
            self.list.push(Finding { rule, message, lines, error: config.error });
        }
    }
}

/// The statements of each stage, its `FROM` first.
fn by_stage<'a, 'b>(pairs: &'b [Pair<'a>]) -> Vec<&'b [Pair<'a>]> {
    let is_from = |pair: &Pair<'_>| matches!(pair.1.instruction, Instruction::From(_));
    let starts: Vec<usize> = (0..pairs.len()).filter(|at| is_from(&pairs[*at])).collect();
    let ends = starts.iter().skip(1).copied().chain([pairs.len()]);
    starts.iter().zip(ends).map(|(start, end)| &pairs[*start..end]).collect()
}

#[cfg(test)]
mod tests;
