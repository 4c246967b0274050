//! Instructions: statements with meaning, one enum variant for each keyword.
//!
//! Words are split and flags checked here; nothing is expanded yet, because that needs the environment of a stage.

mod copy;
mod flags;
mod healthcheck;
mod key_values;
mod mount;
mod run;

use crate::{
    dockerfile::lines::{Document, Heredoc, Statement},
    error::{Fault, Lines},
};

pub(crate) use buildd_fs::nearest::nearest;
pub use copy::{CopySource, Transfer};
pub use healthcheck::Healthcheck;
pub use mount::{Mount, MountKind, Sharing};
pub use run::{Run, Security};

use flags::Flags;

const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// An instruction and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// What to do.
    pub instruction: Instruction,
    /// As written, for display.
    pub original: String,
    /// Where.
    pub lines: Lines,
}

/// What one statement says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// `FROM`.
    From(From),
    /// `ARG`, one or several.
    Arg(Vec<(String, Option<String>)>),
    /// `ENV`.
    Env(Vec<(String, String)>),
    /// `LABEL`.
    Label(Vec<(String, String)>),
    /// `RUN`.
    Run(Run),
    /// `COPY`.
    Copy(Transfer),
    /// `ADD`.
    Add(Transfer),
    /// `WORKDIR`.
    Workdir(String),
    /// `USER`.
    User(String),
    /// `EXPOSE`.
    Expose(Vec<String>),
    /// `VOLUME`.
    Volume(Vec<String>),
    /// `CMD`.
    Cmd(Command),
    /// `ENTRYPOINT`.
    Entrypoint(Command),
    /// `SHELL`.
    Shell(Vec<String>),
    /// `STOPSIGNAL`.
    StopSignal(String),
    /// `HEALTHCHECK`.
    Healthcheck(Healthcheck),
    /// `ONBUILD`, the trigger as written.
    OnBuild(String),
    /// `MAINTAINER`.
    Maintainer(String),
}

/// `FROM [--platform=p] base [AS name]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct From {
    /// Image or stage, not expanded.
    pub base: String,
    /// Name of the stage, in lower case.
    pub name: Option<String>,
    /// Not expanded.
    pub platform: Option<String>,
}

/// A command line in one of its two forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// For the shell.
    Shell(String),
    /// Without one.
    Exec(Vec<String>),
}

/// All instructions of a document; or all that is wrong with them.
pub fn parse(document: &Document) -> Result<Vec<Located>, Fault> {
    let (mut instructions, mut faults) = (Vec::new(), Vec::new());
    for statement in &document.statements {
        match parse_statement(statement, document.escape) {
            Ok(located) => instructions.push(located),
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() { Ok(instructions) } else { Err(Fault::join(faults)) }
}

/// The instruction of an ONBUILD trigger.
pub fn parse_trigger(text: &str, escape: char) -> Result<Located, Fault> {
    let document = crate::dockerfile::lines::read(text.as_bytes())?;
    match document.statements.as_slice() {
        [statement] => parse_statement(statement, escape),
        _ => Err(Fault::new(format!("ONBUILD trigger {text:?} is not one instruction"))),
    }
}

/// The first word of a text, with its quotes.
pub(super) fn first_word(text: &str, escape: char) -> &str {
    &text[..flags::word_end(text, escape)]
}

/// The flags of a statement as they are written, and what follows them.
pub(super) fn flags_of(statement: &Statement, escape: char) -> (Vec<String>, String) {
    let (mut flags, mut rest) = (Vec::new(), statement.rest.as_str());
    if allowed_flags(&statement.keyword.to_ascii_uppercase()).is_empty() {
        return (flags, rest.to_owned());
    }
    while rest.starts_with("--") {
        let word = first_word(rest, escape);
        rest = rest[word.len()..].trim_start();
        flags.push(word.to_owned());
        if word == "--" {
            break;
        }
    }
    (flags, rest.to_owned())
}

/// The instruction of one statement.
pub(super) fn parse_statement(statement: &Statement, escape: char) -> Result<Located, Fault> {
    let instruction = instruction(statement, escape).map_err(|fault| fault.while_parsing(statement.lines))?;
    Ok(Located { instruction, original: statement.original.clone(), lines: statement.lines })
}

fn instruction(statement: &Statement, escape: char) -> Result<Instruction, Fault> {
    let keyword = statement.keyword.to_ascii_uppercase();
    if !KEYWORDS.contains(&keyword.as_str()) {
        let near = nearest(&keyword, &KEYWORDS).map(|k| format!(" (did you mean {k}?)")).unwrap_or_default();
        return Err(Fault::new(format!("unknown instruction: {}{near}", statement.keyword)));
    }
    let (flags, rest) = Flags::split(&statement.rest, allowed_flags(&keyword), escape)?;
    let reader = Reader { keyword: &keyword, rest, escape, heredocs: &statement.heredocs };
    match keyword.as_str() {
        "FROM" => from(&reader, &flags),
        "ARG" => Ok(Instruction::Arg(key_values::args(&reader)?)),
        "ENV" => Ok(Instruction::Env(key_values::pairs(&reader)?)),
        "LABEL" => Ok(Instruction::Label(key_values::pairs(&reader)?)),
        "RUN" => Ok(Instruction::Run(run::parse(&reader, &flags)?)),
        "COPY" => Ok(Instruction::Copy(copy::parse(&reader, &flags)?)),
        "ADD" => Ok(Instruction::Add(copy::parse(&reader, &flags)?)),
        "HEALTHCHECK" => Ok(Instruction::Healthcheck(healthcheck::parse(&reader, &flags)?)),
        _ => simple(&reader),
    }
}

fn allowed_flags(keyword: &str) -> &'static [&'static str] {
    match keyword {
        "FROM" => &["platform"],
        "RUN" => &["mount", "network", "security", "device"],
        "COPY" => &["from", "chown", "chmod", "link", "parents", "exclude"],
        "ADD" => &["chown", "chmod", "link", "checksum", "keep-git-dir", "unpack", "exclude"],
        "HEALTHCHECK" => &["interval", "timeout", "start-period", "start-interval", "retries"],
        _ => &[],
    }
}

fn simple(reader: &Reader<'_>) -> Result<Instruction, Fault> {
    Ok(match reader.keyword {
        "WORKDIR" => Instruction::Workdir(reader.single()?),
        "USER" => Instruction::User(reader.single()?),
        "STOPSIGNAL" => Instruction::StopSignal(reader.single()?),
        "MAINTAINER" => Instruction::Maintainer(reader.single()?),
        "EXPOSE" => {
            let words: Vec<String> = reader.rest.split_whitespace().map(str::to_owned).collect();
            Instruction::Expose(reader.some(words)?)
        }
        "VOLUME" => {
            let volumes = reader.some(reader.list()?)?;
            if volumes.iter().any(|volume| volume.trim().is_empty()) {
                return Err(Fault::new("VOLUME specified can not be an empty string"));
            }
            Instruction::Volume(volumes)
        }
        "CMD" => Instruction::Cmd(reader.command()?),
        "ENTRYPOINT" => Instruction::Entrypoint(reader.command()?),
        "SHELL" => match reader.json()? {
            Some(words) => Instruction::Shell(reader.some(words)?),
            None if reader.rest.is_empty() => return Err(reader.too_few("at least one argument")),
            None => return Err(Fault::new("SHELL requires the arguments to be in JSON form")),
        },
        _ => onbuild(reader)?,
    })
}

fn from(reader: &Reader<'_>, flags: &Flags) -> Result<Instruction, Fault> {
    let words: Vec<&str> = reader.rest.split_whitespace().collect();
    let (base, name) = match words.as_slice() {
        [base] => (*base, None),
        [base, keyword, name] if keyword.eq_ignore_ascii_case("as") => (*base, Some(stage_name(name)?)),
        _ => return Err(Fault::new("FROM requires either one or three arguments")),
    };
    let platform = flags.value("platform");
    Ok(Instruction::From(From { base: base.to_owned(), name, platform }))
}

fn stage_name(name: &str) -> Result<String, Fault> {
    let lower = name.to_lowercase();
    let valid = lower.starts_with(|c: char| c.is_ascii_lowercase())
        && lower
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.'));
    if valid {
        return Ok(lower);
    }
    let text =
        format!("invalid name for build stage: {name:?}, name can't start with a number or contain symbols");
    Err(Fault::new(text))
}

fn onbuild(reader: &Reader<'_>) -> Result<Instruction, Fault> {
    let trigger = reader.single()?;
    let keyword = trigger.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
    match keyword.as_str() {
        "ONBUILD" => Err(Fault::new("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")),
        "FROM" | "MAINTAINER" => Err(Fault::new(format!("{keyword} isn't allowed as an ONBUILD trigger"))),
        _ => {
            let (_, rest) = trigger.split_once(char::is_whitespace).unwrap_or((&trigger, ""));
            let statement = Statement {
                original: trigger.clone(),
                keyword,
                rest: rest.trim().to_owned(),
                heredocs: reader.heredocs.to_vec(),
                ..Statement::default()
            };
            instruction(&statement, reader.escape)?;
            // With the bodies, or a child stage could not read it.
            let mut text = trigger;
            for heredoc in reader.heredocs {
                text.push_str(&format!("\n{}{}", heredoc.content, heredoc.name));
            }
            Ok(Instruction::OnBuild(text))
        }
    }
}

/// What the parsers of single instructions share.
pub(crate) struct Reader<'a> {
    keyword: &'a str,
    rest: String,
    escape: char,
    heredocs: &'a [Heredoc],
}

impl Reader<'_> {
    fn too_few(&self, wanted: &str) -> Fault {
        Fault::new(format!("{} requires {wanted}", self.keyword))
    }

    fn single(&self) -> Result<String, Fault> {
        let wanted = if self.keyword == "ONBUILD" { "at least one argument" } else { "exactly one argument" };
        if self.rest.is_empty() { Err(self.too_few(wanted)) } else { Ok(self.rest.clone()) }
    }

    fn some(&self, words: Vec<String>) -> Result<Vec<String>, Fault> {
        if words.is_empty() { Err(self.too_few("at least one argument")) } else { Ok(words) }
    }

    /// The rest as a JSON list, if it is one.
    fn json(&self) -> Result<Option<Vec<String>>, Fault> {
        if !self.rest.starts_with('[') {
            return Ok(None);
        }
        let Ok(list) = serde_json::from_str::<Vec<serde_json::Value>>(&self.rest) else { return Ok(None) };
        list.into_iter()
            .map(|value| match value {
                serde_json::Value::String(text) => Ok(text),
                _ => {
                    Err(Fault::new("when using JSON array syntax, arrays must be comprised of strings only"))
                }
            })
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// A JSON list, or words between blanks.
    fn list(&self) -> Result<Vec<String>, Fault> {
        match self.json()? {
            Some(list) => Ok(list),
            None => Ok(self.rest.split_whitespace().map(str::to_owned).collect()),
        }
    }

    /// Words with their quotes.
    fn words(&self) -> Vec<String> {
        let (mut words, mut rest) = (Vec::new(), self.rest.trim());
        while !rest.is_empty() {
            let (word, tail) = rest.split_at(flags::word_end(rest, self.escape));
            words.push(word.to_owned());
            rest = tail.trim_start();
        }
        words
    }

    fn command(&self) -> Result<Command, Fault> {
        Ok(match self.json()? {
            Some(list) => Command::Exec(list),
            None if self.rest.is_empty() => Command::Exec(Vec::new()),
            None => Command::Shell(self.rest.clone()),
        })
    }
}

#[cfg(test)]
mod tests;
