//! Variables: what is known at each point of a stage without lowering it.
//!
//! The checks and the outline follow stages with it: a stage starts with what its base left, then each instruction changes it.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    expand::{Environment as _, Lexer},
    heirs::Heirs,
    image,
    instruction::{self, Instruction},
    lower::Image,
    named::Named,
    options::Options,
    stage::{Base, ImageName, Planned},
};

/// What every stage shares.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walker<'a> {
    /// The client's wishes.
    pub(super) options: &'a Options,
    /// The global arguments.
    pub(super) globals: &'a Named<String>,
    /// The images found.
    pub(super) images: &'a BTreeMap<ImageName, Image>,
    /// The escape character.
    pub(super) escape: char,
}

/// A stage so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Scope {
    /// Whether all variables are known: those of the base image, above all.
    pub(super) known: bool,
    /// ENV and ARG; sorted, because a text may have very many.
    pub(super) env: BTreeMap<String, String>,
    /// Arguments that were declared, with a value or without.
    pub(super) declared: BTreeSet<String>,
    /// Whether SHELL was given, here or in the base.
    pub(super) own_shell: bool,
    /// Whether WORKDIR was given in this text.
    pub(super) workdir_set: bool,
    triggers: Vec<String>,
}

impl Walker<'_> {
    /// A stage after its `FROM` and the triggers of its base; `heirs` has what earlier stages ended with.
    pub(super) fn start(&self, planned: &Planned, heirs: &mut Heirs<Scope>) -> Scope {
        let mut scope = match &planned.base {
            Base::Stage(base) => heirs.inherit(*base).unwrap_or_default(),
            Base::Image(name) => match self.images.get(name) {
                None => Scope::default(),
                Some(found) => Scope {
                    known: true,
                    env: image::environment(&found.config).into_iter().collect(),
                    own_shell: found.config.config.shell.as_ref().is_some_and(|shell| !shell.is_empty()),
                    triggers: found.config.config.on_build.clone().unwrap_or_default(),
                    ..Scope::default()
                },
            },
            // It may come with the config of an image.
            Base::Input(_) => Scope::default(),
            _ => Scope { known: true, ..Scope::default() },
        };
        scope.env.entry("PATH".to_owned()).or_insert_with(|| image::DEFAULT_PATH.to_owned());
        for trigger in std::mem::take(&mut scope.triggers) {
            if let Ok(located) = instruction::parse_trigger(&trigger, self.escape) {
                self.follow(&mut scope, &located.instruction);
            }
        }
        scope
    }

    /// What an instruction changes.
    pub(super) fn follow(&self, scope: &mut Scope, instruction: &Instruction) {
        match instruction {
            Instruction::Env(pairs) => {
                let text = |word| self.text(scope, word);
                let expanded: Vec<_> = pairs.iter().map(|(name, value)| (text(name), text(value))).collect();
                scope.env.extend(expanded);
            }
            Instruction::Arg(args) => {
                for (name, default) in args {
                    let value = self.argument(scope, name, default.as_deref());
                    scope.env.extend(value.map(|value| (name.clone(), value)));
                    scope.declared.insert(name.clone());
                }
            }
            Instruction::Workdir(_) => scope.workdir_set = true,
            Instruction::Shell(shell) => scope.own_shell = !shell.is_empty(),
            Instruction::OnBuild(trigger) => scope.triggers.push(trigger.clone()),
            _ => {}
        }
    }

    /// The value that `ARG name[=default]` gets.
    pub(super) fn argument(&self, scope: &Scope, name: &str, default: Option<&str>) -> Option<String> {
        match (self.options.build_args.get(name), default) {
            (Some(given), _) => Some(given.clone()),
            (None, Some(default)) => Some(self.text(scope, default)),
            (None, None) => self.globals.value(name),
        }
    }

    fn text(&self, scope: &Scope, word: &str) -> String {
        let lexer = Lexer::new(self.escape);
        lexer.expand(word, &scope.env).map_or_else(|_| word.to_owned(), |expanded| expanded.text)
    }
}
