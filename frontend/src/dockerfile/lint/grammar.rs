//! Grammar: what can be said of a text without knowing what its variables and images are.
//!
//! Casing, names of stages, comments that describe, deprecated forms; and the arguments of `FROM`, which only the global ones can be.

use std::{cell::RefCell, collections::BTreeSet};

use buildd_oci::{platform::Platform, reference::Reference};

use super::{Findings, MAX_COMPARED, Pair, Rule, Subject, by_stage};
use crate::{
    dockerfile::{
        expand::{Environment, Lexer},
        instruction::{From, Instruction, nearest},
        named::Named,
    },
    error::Lines,
};

const RESERVED: [&str; 2] = ["context", "scratch"];
const TARGET_PLATFORM: &str = "TARGETPLATFORM";

/// Checks every statement.
pub(super) fn check(pairs: &[Pair<'_>], findings: &mut Findings) {
    for pair @ (statement, located) in pairs {
        if statement.empty_continuation {
            let lines = Lines { first: statement.head, last: statement.head };
            let message = "Empty continuation line".to_owned();
            findings.add_at(statement, lines, Rule::NoEmptyContinuation, message);
        }
        match &located.instruction {
            Instruction::From(from) => stage_line(pair, from, findings),
            Instruction::Maintainer(_) => {
                let message = "Maintainer instruction is deprecated in favor of using label".to_owned();
                findings.add(statement, Rule::MaintainerDeprecated, message);
            }
            Instruction::Arg(args) => {
                let names: Vec<&str> = args.iter().map(|(name, _)| name.as_str()).collect();
                description(pair, "ARG", &names, findings);
            }
            _ => {}
        }
    }
    stage_names(pairs, findings);
    casing(pairs, findings);
}

fn stage_line(pair: &Pair<'_>, from: &From, findings: &mut Findings) {
    let (statement, _) = pair;
    let words = statement.rest.split_whitespace().filter(|word| !word.starts_with("--"));
    let words: Vec<&str> = words.collect();
    if let [_, keyword, name] = words.as_slice() {
        if name.to_lowercase() != *name {
            let message = format!("Stage name '{name}' should be lowercase");
            findings.add(statement, Rule::StageNameCasing, message);
        }
        let from = statement.keyword.as_str();
        let wanted = match Case::of(from) {
            Some(Case::Lower) => keyword.to_lowercase(),
            Some(Case::Upper) => keyword.to_uppercase(),
            None => (*keyword).to_owned(),
        };
        if wanted != **keyword {
            let message = format!("'{keyword}' and '{from}' keywords' casing do not match");
            findings.add(statement, Rule::FromAsCasing, message);
        }
    }
    if let Some(name) = &from.name {
        description(pair, "FROM", &[name], findings);
    }
}

/// The comment above an ARG or a named stage describes it: `# name what it is`.
fn description((statement, _): &Pair<'_>, keyword: &str, names: &[&str], findings: &mut Findings) {
    let described = statement.comments.last().and_then(|comment| comment.split(' ').next());
    let Some(described) = described.filter(|word| !word.starts_with("check=")) else { return };
    if names.is_empty() || names.contains(&described) {
        return;
    }
    let example = if let [name] = names { name } else { "<arg_key>" };
    let message = format!("Comment for {keyword} should follow the format: `# {example} <description>`");
    findings.add(statement, Rule::InvalidDefinitionDescription, message);
}

fn stage_names(pairs: &[Pair<'_>], findings: &mut Findings) {
    let mut seen = BTreeSet::new();
    for (statement, located) in pairs {
        let Instruction::From(From { name: Some(name), .. }) = &located.instruction else { continue };
        if RESERVED.contains(&name.as_str()) {
            let message = format!("Stage name should not use the same name as reserved stage {name:?}");
            findings.add(statement, Rule::ReservedStageName, message);
        }
        if !seen.insert(name) {
            let message = format!("Duplicate stage name {name:?}, stage names should be unique");
            findings.add(statement, Rule::DuplicateStageName, message);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    Lower,
    Upper,
}

impl Case {
    /// None of a mixture.
    fn of(word: &str) -> Option<Self> {
        if word == word.to_lowercase() {
            Some(Self::Lower)
        } else {
            (word == word.to_uppercase()).then_some(Self::Upper)
        }
    }
}

/// All keywords from the first FROM on are written as most are.
fn casing(pairs: &[Pair<'_>], findings: &mut Findings) {
    let statements = || by_stage(pairs).into_iter().flatten().map(|(statement, _)| *statement);
    let count = |case| statements().filter(|s| Case::of(&s.keyword) == Some(case)).count();
    let lower = count(Case::Lower) > count(Case::Upper);
    for statement in statements() {
        let keyword = &statement.keyword;
        let (wanted, name) = match lower {
            true => (keyword.to_lowercase(), "lowercase"),
            false => (keyword.to_uppercase(), "uppercase"),
        };
        if *keyword != wanted {
            let message =
                format!("Command '{keyword}' should match the case of the command majority ({name})");
            findings.add(statement, Rule::ConsistentInstructionCasing, message);
        }
    }
}

/// Global arguments that remember who was asked for.
struct UsedGlobals<'a> {
    globals: &'a Named<String>,
    found: RefCell<BTreeSet<String>>,
}

impl Environment for UsedGlobals<'_> {
    fn value(&self, name: &str) -> Option<String> {
        let value = self.globals.value(name)?;
        self.found.borrow_mut().insert(name.to_owned());
        Some(value)
    }
}

/// Checks the arguments in `FROM` lines, of all stages.
pub(super) fn from_arguments(pairs: &[Pair<'_>], subject: &Subject<'_>, findings: &mut Findings) {
    let mut declared: BTreeSet<&str> = subject.globals.iter().map(|(name, _)| name).collect();
    for (_, located) in pairs.iter().take_while(|pair| !matches!(pair.1.instruction, Instruction::From(_))) {
        if let Instruction::Arg(args) = &located.instruction {
            declared.extend(args.iter().map(|(name, _)| name.as_str()));
        }
    }
    let comparable: Vec<&str> = declared.iter().copied().take(MAX_COMPARED).collect();
    let lexer = Lexer::new(subject.document.escape);
    for pair @ (statement, located) in pairs {
        let Instruction::From(from) = &located.instruction else { continue };
        for word in from.platform.iter().chain([&from.base]) {
            let Ok(expanded) = lexer.expand(word, subject.globals) else { continue };
            for name in expanded.unset.iter().filter(|name| !declared.contains(name.as_str())) {
                let near = nearest(name, &comparable).map(|near| format!(" (did you mean {near}?)"));
                let near = near.unwrap_or_default();
                let message = format!("FROM argument '{name}' is not declared{near}");
                findings.add(statement, Rule::UndefinedArgInFrom, message);
            }
        }
        let default = lexer.expand(&from.base, subject.defaults);
        if default.is_ok_and(|expanded| Reference::parse(&expanded.text).is_err()) {
            let base = &from.base;
            let message = format!("Default value for ARG {base} results in empty or invalid base image name");
            findings.add(statement, Rule::InvalidDefaultArgInFrom, message);
        }
        platform_flag(pair, from, subject, findings);
    }
}

fn platform_flag((statement, _): &Pair<'_>, from: &From, subject: &Subject<'_>, findings: &mut Findings) {
    let Some(written) = &from.platform else { return };
    let asked = UsedGlobals { globals: subject.globals, found: RefCell::default() };
    let Ok(expanded) = Lexer::new(subject.document.escape).expand(written, &asked) else { return };
    let found = asked.found.into_inner();
    if !expanded.unset.is_empty() {
        return;
    }
    let only_target = found.len() == 1 && found.contains(TARGET_PLATFORM);
    if only_target && subject.globals.value(TARGET_PLATFORM) == Some(expanded.text.clone()) {
        let message = format!(
            "Setting platform to predefined {written} in FROM is redundant as this is the default behavior"
        );
        findings.add(statement, Rule::RedundantTargetPlatform, message);
    }
    let Ok(platform) = expanded.text.parse::<Platform>() else { return };
    let name = from.name.as_deref().unwrap_or_default();
    if found.is_empty() && !name.contains(&platform.os) && !name.contains(&platform.architecture) {
        let message = format!("FROM --platform flag should not use constant value {:?}", expanded.text);
        findings.add(statement, Rule::FromPlatformFlagConstDisallowed, message);
    }
}
