//! Stages: what can only be said by following the environment, shell and working folder of each planned stage.
//!
//! Triggers of a base change the environment but are not themselves checked.

use std::collections::BTreeMap;

use buildd_fs::pattern::Patterns;
use buildd_oci::platform::Platform;

use super::{Findings, MAX_COMPARED, Pair, Rule, Subject, by_stage};
use crate::{
    dockerfile::{
        expand::Lexer,
        heirs::Heirs,
        instruction::{self, Command, CopySource, Instruction, Located, Mount, Transfer, nearest},
        lines::Statement,
        lower::{Image, join},
        stage::{Base, Planned},
        variables::{Scope, Walker},
    },
    error::Lines,
};

/// Parts of a variable's name that say it is a secret.
const SECRET: [&str; 10] =
    ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];
/// Parts that say it is not one after all.
const HARMLESS: [&str; 3] = ["public", "file", "version"];

/// Where the last CMD, ENTRYPOINT and HEALTHCHECK of a stage stand.
#[derive(Default)]
struct Once<'a> {
    seen: BTreeMap<&'static str, Pair<'a>>,
}

struct Walk<'a, 'b> {
    subject: &'b Subject<'a>,
    ignore: Option<Patterns>,
    findings: &'b mut Findings,
    walker: Walker<'b>,
    scope: Scope,
}

/// Checks the planned stages.
pub(super) fn check(pairs: &[Pair<'_>], subject: &Subject<'_>, findings: &mut Findings) {
    let rules = subject.ignore.and_then(|text| Patterns::parse(text).ok());
    // A pattern that takes back may bring back anything: nothing certain can be said.
    let ignore = rules.filter(|rules| !rules.has_exclusions());
    let walker = Walker {
        options: subject.options,
        globals: subject.globals,
        images: subject.images,
        escape: subject.document.escape,
    };
    let mut walk = Walk { subject, ignore, findings, walker, scope: Scope::default() };
    let mut heirs = Heirs::of(subject.plan);
    for (index, stage) in by_stage(pairs).into_iter().enumerate() {
        let (Some(planned), Some((from, body))) = (subject.plan.get(&index), stage.split_first()) else {
            continue;
        };
        walk.base_platform(from, planned);
        walk.scope = walker.start(planned, &mut heirs);
        let mut once = Once::default();
        for pair in body {
            walk.statement(pair, &mut once);
        }
        heirs.leave(index, std::mem::take(&mut walk.scope));
    }
}

impl<'a> Walk<'a, '_> {
    fn base_platform(&mut self, (statement, located): &Pair<'_>, planned: &Planned) {
        let (Instruction::From(from), Base::Image(name)) = (&located.instruction, &planned.base) else {
            return;
        };
        let Some(Image { config, .. }) = self.subject.images.get(name) else { return };
        let wanted = &planned.platform;
        if wanted.os == config.os && wanted.architecture == config.architecture {
            return;
        }
        let actual = Platform::new(&config.os, &config.architecture, &config.variant);
        let lexer = Lexer::new(self.subject.document.escape);
        let name = lexer.expand(&from.base, self.subject.globals).map_or(from.base.clone(), |e| e.text);
        let (actual, wanted) = (actual.normalized().to_string(), wanted.normalized().to_string());
        let message = format!(
            "Base image {name} was pulled with platform {actual:?}, expected {wanted:?} for current build"
        );
        self.findings.add(statement, Rule::InvalidBaseImagePlatform, message);
    }

    fn statement(&mut self, pair: &Pair<'a>, once: &mut Once<'a>) {
        let (statement, located) = *pair;
        match &located.instruction {
            Instruction::Env(pairs) | Instruction::Label(pairs) => self.pairs(statement, located, pairs),
            Instruction::Arg(args) => return self.args(statement, args),
            Instruction::Copy(transfer) => self.transfer(statement, "Copy", transfer),
            Instruction::Add(transfer) => self.transfer(statement, "Add", transfer),
            Instruction::Run(run) => run.mounts.iter().for_each(|mount| self.mount(statement, mount)),
            Instruction::Volume(paths) => paths.iter().for_each(|path| drop(self.expand(statement, path))),
            Instruction::User(word) | Instruction::StopSignal(word) => drop(self.expand(statement, word)),
            Instruction::Workdir(path) => {
                let path = self.expand(statement, path);
                if !self.scope.workdir_set && !path.starts_with('/') {
                    let message = format!(
                        "Relative workdir {path:?} can have unexpected results if the base image changes"
                    );
                    self.findings.add(statement, Rule::WorkdirRelativePath, message);
                }
            }
            Instruction::Expose(ports) => self.expose(statement, ports),
            Instruction::Cmd(command) => {
                self.once(pair, "CMD", once);
                self.json_recommended(statement, command);
            }
            Instruction::Entrypoint(command) => {
                self.once(pair, "ENTRYPOINT", once);
                self.json_recommended(statement, command);
            }
            Instruction::Healthcheck(_) => self.once(pair, "HEALTHCHECK", once),
            _ => {}
        }
        self.walker.follow(&mut self.scope, &located.instruction);
    }

    /// The word expanded; variables that nothing sets are told.
    fn expand(&mut self, statement: &Statement, word: &str) -> String {
        self.expand_with(statement, word, Lexer::new(self.subject.document.escape))
    }

    fn expand_with(&mut self, statement: &Statement, word: &str, lexer: Lexer) -> String {
        let Ok(expanded) = lexer.expand(word, &self.scope.env) else { return word.to_owned() };
        if self.scope.known && self.findings.has_room() {
            let names: Vec<&str> = self.scope.env.keys().take(MAX_COMPARED).map(String::as_str).collect();
            for name in expanded.unset.iter().filter(|name| !self.scope.declared.contains(*name)) {
                let near = nearest(name, &names).map(|near| format!(" (did you mean ${near}?)"));
                let near = near.unwrap_or_default();
                let message = format!("Usage of undefined variable '${name}'{near}");
                self.findings.add(statement, Rule::UndefinedVar, message);
            }
        }
        expanded.text
    }

    fn pairs(&mut self, statement: &Statement, located: &Located, pairs: &[(String, String)]) {
        let env = matches!(located.instruction, Instruction::Env(_));
        if !instruction::first_word(&statement.rest, self.subject.document.escape).contains('=') {
            let keyword = &statement.keyword;
            let message = format!(
                "\"{keyword} key=value\" should be used instead of legacy \"{keyword} key value\" format"
            );
            self.findings.add(statement, Rule::LegacyKeyValueFormat, message);
        }
        for (name, value) in pairs {
            let name = self.expand(statement, name);
            self.expand(statement, value);
            if env {
                self.secret(statement, "ENV", &name);
            }
        }
    }

    fn args(&mut self, statement: &Statement, args: &[(String, Option<String>)]) {
        for (name, default) in args {
            self.secret(statement, "ARG", name);
            if let (Some(default), None) = (default, self.subject.options.build_args.get(name)) {
                self.expand(statement, default);
            }
            // The next default sees this one.
            let one = Instruction::Arg(vec![(name.clone(), default.clone())]);
            self.walker.follow(&mut self.scope, &one);
        }
    }

    fn secret(&mut self, statement: &Statement, keyword: &str, name: &str) {
        let lower = name.to_lowercase();
        let has = |words: &[&str]| lower.split('_').any(|part| words.contains(&part));
        if has(&SECRET) && !has(&HARMLESS) {
            let message =
                format!("Do not use ARG or ENV instructions for sensitive data ({keyword} {name:?})");
            self.findings.add(statement, Rule::SecretsUsedInArgOrEnv, message);
        }
    }

    fn transfer(&mut self, statement: &Statement, verb: &str, transfer: &Transfer) {
        for word in transfer.chown.iter().chain(&transfer.chmod).chain(&transfer.exclude) {
            self.expand(statement, word);
        }
        for source in &transfer.sources {
            match source {
                CopySource::Path(path) => {
                    let path = self.expand(statement, path);
                    if transfer.from.is_none() && !path.contains("://") {
                        self.ignored(statement, verb, &path);
                    }
                }
                CopySource::Heredoc(heredoc) if heredoc.expand => {
                    let lexer = Lexer::document(self.subject.document.escape);
                    self.expand_with(statement, &heredoc.content, lexer);
                }
                _ => {}
            }
        }
        self.expand(statement, &transfer.dest);
    }

    fn ignored(&mut self, statement: &Statement, verb: &str, path: &str) {
        let joined = join("/", path);
        let clean = joined.trim_start_matches('/');
        if !clean.is_empty() && self.ignore.as_ref().is_some_and(|rules| rules.matches(clean)) {
            let message = format!("Attempting to {verb} file {clean:?} that is excluded by .dockerignore");
            self.findings.add(statement, Rule::CopyIgnoredFile, message);
        }
    }

    fn mount(&mut self, statement: &Statement, mount: &Mount) {
        for word in [&mount.target, &mount.source, &mount.id].into_iter().chain(&mount.env) {
            self.expand(statement, word);
        }
    }

    fn expose(&mut self, statement: &Statement, ports: &[String]) {
        let lexer = Lexer::new(self.subject.document.escape);
        for port in ports {
            let words = lexer.expand(port, &self.scope.env).map(|e| e.words).unwrap_or_default();
            for word in words {
                let (ports, protocol) = word.split_once('/').unwrap_or((&word, ""));
                if protocol != protocol.to_lowercase() {
                    let message =
                        format!("Defined protocol '{word}' in EXPOSE instruction should be lowercase");
                    self.findings.add(statement, Rule::ExposeProtoCasing, message);
                }
                if ports.rsplit_once(':').is_some_and(|(host, _)| !host.is_empty()) {
                    let message = format!(
                        "EXPOSE instruction should not define an IP address or host-port mapping, found '{word}'"
                    );
                    self.findings.add(statement, Rule::ExposeInvalidFormat, message);
                }
            }
        }
    }

    /// The place told is that of the earlier one: it is the one without effect.
    fn once(&mut self, pair: &Pair<'a>, kind: &'static str, once: &mut Once<'a>) {
        if let Some((earlier, _)) = once.seen.insert(kind, *pair) {
            let keyword = &pair.0.keyword;
            let message = format!(
                "Multiple {keyword} instructions should not be used in the same stage because only the last one will be used"
            );
            let lines: Lines = earlier.lines;
            self.findings.add_at(pair.0, lines, Rule::MultipleInstructionsDisallowed, message);
        }
    }

    fn json_recommended(&mut self, statement: &Statement, command: &Command) {
        if matches!(command, Command::Shell(_)) && !self.scope.own_shell {
            let keyword = &statement.keyword;
            let message = format!(
                "JSON arguments recommended for {keyword} to prevent unintended behavior related to OS signals"
            );
            self.findings.add(statement, Rule::JsonArgsRecommended, message);
        }
    }
}
