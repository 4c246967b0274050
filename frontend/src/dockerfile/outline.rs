//! Outline: what a build can be told, and which targets a text has: arguments, secrets, agents, stages, with the comments that describe them.
//!
//! Answers the requests `frontend.outline` and `frontend.targets`; both as JSON and as text.
//!
//! # Sources
//! moby/buildkit `frontend/subrequests/outline` and `targets`.

use std::collections::{BTreeMap, BTreeSet};

use buildd_api::error_detail::Range;
use serde::Serialize;

use super::{
    expand::{Environment as _, Lexer},
    heirs::Heirs,
    instruction::{self, Instruction, Located, Mount, MountKind},
    lines::{Document, Statement},
    stage::{Base, Planned},
    variables::{Scope, Walker},
};
use crate::error::{Fault, Lines};

/// Where something stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Location {
    ranges: Vec<Range>,
}

/// A named thing and its description.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Arg {
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    value: String,
    location: Location,
}

/// A secret or an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OutlineMount {
    name: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    required: bool,
    location: Location,
}

/// What the build of one target can be told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outline {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    args: Vec<Arg>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    secrets: Vec<OutlineMount>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ssh: Vec<OutlineMount>,
}

/// A stage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Target {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    default: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    base: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    platform: String,
    location: Option<Location>,
}

fn at(lines: Lines) -> Location {
    Location { ranges: vec![lines.to_range()] }
}

/// What the comments above a statement say of `name`.
fn description(statement: &Statement, name: &str) -> String {
    let describes = |comment: &String| comment.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned);
    let found = statement.comments.iter().find_map(describes);
    found.filter(|_| !name.is_empty()).unwrap_or_default()
}

/// All stages of a text.
pub fn targets(document: &Document) -> Result<Vec<Target>, Fault> {
    let instructions = instruction::parse(document)?;
    let mut targets: Vec<Target> = Vec::new();
    for (statement, located) in document.statements.iter().zip(&instructions) {
        let Instruction::From(from) = &located.instruction else { continue };
        let name = from.name.clone().unwrap_or_default();
        targets.push(Target {
            description: description(statement, &name),
            name,
            default: false,
            base: from.base.clone(),
            platform: from.platform.clone().unwrap_or_default(),
            location: Some(at(located.lines)),
        });
    }
    match targets.last_mut() {
        Some(last) => last.default = true,
        None => return Err(Fault::new("dockerfile contains no stages to build")),
    }
    Ok(targets)
}

impl Target {
    /// The columns of a table for people.
    pub fn row(&self) -> Vec<String> {
        let name = match (self.default, self.name.as_str()) {
            (true, "") => "(default)".to_owned(),
            (true, name) => format!("{name} (default)"),
            (false, name) => name.to_owned(),
        };
        vec![name, self.description.clone()]
    }
}

/// A global argument.
struct Global {
    arg: Arg,
    /// Arguments in its default.
    uses: BTreeSet<String>,
}

/// Collects over the stages that a target reaches.
struct Collector<'a> {
    walker: Walker<'a>,
    globals: BTreeMap<String, Global>,
    reach: BTreeSet<usize>,
    outline: Outline,
    seen: BTreeSet<String>,
}

/// The outline of stage `target`.
pub(super) fn outline(
    document: &Document,
    walker: Walker<'_>,
    plan: &BTreeMap<usize, Planned>,
    target: usize,
) -> Result<Outline, Fault> {
    let instructions = instruction::parse(document)?;
    let pairs: Vec<_> = document.statements.iter().zip(&instructions).collect();
    let mut reach = BTreeSet::new();
    reachable(plan, target, &mut reach);
    let mut collector = Collector {
        walker,
        globals: BTreeMap::new(),
        reach,
        outline: Outline::default(),
        seen: BTreeSet::new(),
    };
    let (mut heirs, mut scope, mut stage) = (Heirs::of(plan), Scope::default(), None);
    for (statement, located) in pairs {
        if let Instruction::From(from) = &located.instruction {
            if let Some(index) = stage {
                heirs.leave(index, std::mem::take(&mut scope));
            }
            let index = stage.map_or(0, |index| index + 1);
            stage = Some(index);
            let Some(planned) = plan.get(&index) else { continue };
            scope = walker.start(planned, &mut heirs);
            if collector.reach.contains(&index) {
                for word in from.platform.iter().chain([&from.base]) {
                    collector.used(word);
                }
            }
            if index == target {
                collector.outline.name = from.name.clone().unwrap_or_default();
                collector.outline.description = description(statement, &collector.outline.name);
            }
            continue;
        }
        match stage {
            None => collector.global(statement, located),
            Some(index) if collector.reach.contains(&index) => {
                collector.instruction(statement, located, &scope)
            }
            Some(_) => {}
        }
        walker.follow(&mut scope, &located.instruction);
    }
    collector.outline.args.sort_by_key(|arg| arg.location.ranges[0].start.line);
    Ok(collector.outline)
}

fn reachable(plan: &BTreeMap<usize, Planned>, target: usize, reach: &mut BTreeSet<usize>) {
    let mut stack = vec![target];
    while let Some(index) = stack.pop() {
        let Some(planned) = plan.get(&index).filter(|_| reach.insert(index)) else { continue };
        let used = planned.uses.iter().chain([&planned.base]);
        stack.extend(used.filter_map(|base| if let Base::Stage(other) = base { Some(*other) } else { None }));
    }
}

impl Collector<'_> {
    fn global(&mut self, statement: &Statement, located: &Located) {
        let Instruction::Arg(args) = &located.instruction else { return };
        for (name, default) in args {
            let value = self.walker.globals.value(name).unwrap_or_default();
            let given = self.walker.options.build_args.contains_key(name);
            let uses = default.as_deref().filter(|_| !given).map(|text| self.names(text)).unwrap_or_default();
            let arg = Arg {
                name: name.clone(),
                description: description(statement, name),
                value,
                location: at(located.lines),
            };
            self.globals.insert(name.clone(), Global { arg, uses });
        }
    }

    /// The variables in a text.
    fn names(&self, text: &str) -> BTreeSet<String> {
        let lexer = Lexer::new(self.walker.escape);
        lexer.expand(text, &super::expand::Empty).map(|expanded| expanded.unset).unwrap_or_default()
    }

    /// The global arguments in a word of `FROM`, and those in their defaults.
    fn used(&mut self, word: &str) {
        let mut names: Vec<String> = self.names(word).into_iter().collect();
        while let Some(name) = names.pop() {
            let Some(global) = self.globals.get(&name) else { continue };
            if self.seen.insert(name) {
                names.extend(global.uses.iter().cloned());
                self.outline.args.push(global.arg.clone());
            }
        }
    }

    fn instruction(&mut self, statement: &Statement, located: &Located, scope: &Scope) {
        match &located.instruction {
            Instruction::Arg(args) => {
                for (name, default) in args {
                    self.argument(statement, located, scope, name, default.as_deref());
                }
            }
            Instruction::Run(run) => {
                for mount in &run.mounts {
                    self.mount(mount, located.lines);
                }
            }
            _ => {}
        }
    }

    fn argument(
        &mut self,
        statement: &Statement,
        located: &Located,
        scope: &Scope,
        name: &str,
        default: Option<&str>,
    ) {
        let given = self.walker.options.build_args.contains_key(name);
        if default.is_none() && !given && self.walker.globals.value(name).is_some() {
            self.used(&format!("${{{name}}}"));
        } else if self.seen.insert(name.to_owned()) {
            self.outline.args.push(Arg {
                name: name.to_owned(),
                description: description(statement, name),
                value: self.walker.argument(scope, name, default).unwrap_or_default(),
                location: at(located.lines),
            });
        }
    }

    fn mount(&mut self, mount: &Mount, lines: Lines) {
        let (list, name) = match mount.kind {
            MountKind::Secret => {
                let given = if mount.id.is_empty() { &mount.source } else { &mount.id };
                let name = if given.is_empty() { mount.target.rsplit('/').next() } else { None };
                (&mut self.outline.secrets, name.unwrap_or(given).to_owned())
            }
            MountKind::Ssh => {
                let name = if mount.id.is_empty() { "default" } else { &mount.id };
                (&mut self.outline.ssh, name.to_owned())
            }
            _ => return,
        };
        match list.iter_mut().find(|known| known.name == name) {
            Some(known) => known.required |= mount.required,
            None => list.push(OutlineMount { name, required: mount.required, location: at(lines) }),
        }
    }
}

impl Outline {
    /// Tables for people: heads, and rows below them; a table without rows is left out.
    pub fn tables(&self) -> Vec<Vec<Vec<String>>> {
        let row = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
        let mut tables = Vec::new();
        if !self.name.is_empty() || !self.description.is_empty() {
            let name = if self.name.is_empty() { "(default)" } else { &self.name };
            let mut table = vec![row(&["TARGET:", name])];
            if !self.description.is_empty() {
                table.push(row(&["DESCRIPTION:", &self.description]));
            }
            tables.push(table);
        }
        if !self.args.is_empty() {
            let rows = self.args.iter().map(|arg| row(&[&arg.name, &arg.value, &arg.description]));
            tables.push([row(&["BUILD ARG", "VALUE", "DESCRIPTION"])].into_iter().chain(rows).collect());
        }
        for (head, list) in [("SECRET", &self.secrets), ("SSH", &self.ssh)] {
            if !list.is_empty() {
                let rows = list.iter().map(|w| row(&[&w.name, if w.required { "true" } else { "" }]));
                tables.push([row(&[head, "REQUIRED"])].into_iter().chain(rows).collect());
            }
        }
        tables
    }
}
