//! Metadata instructions: those that change the image config or the environment, and WORKDIR.
//!
//! All words of one instruction see the environment before it; only ARG sees its own earlier words.

use buildd_api::{buildkit::pb, llb::FileStep};
use buildd_oci::config;
use serde_json::{Map, Value};

use super::{Lowering, copy::owner, go_format, join};
use crate::{
    dockerfile::{
        expand::Lexer,
        image::Layer,
        instruction::{Command, Healthcheck, Instruction, Located},
        options::Epoch,
    },
    error::Fault,
};

/// Nanoseconds of a second, which times in LLB count.
const NANOS: i64 = 1_000_000_000;

impl Lowering<'_> {
    pub(super) fn metadata(&mut self, instruction: &Instruction) -> Result<(), Fault> {
        let created_by = match instruction {
            Instruction::Env(pairs) => self.env(pairs)?,
            Instruction::Arg(args) => self.arg(args)?,
            Instruction::Label(pairs) => self.label(pairs)?,
            Instruction::User(user) => {
                let user = self.expand(user)?;
                self.built.image.config.user.clone_from(&user);
                format!("USER {user}")
            }
            Instruction::Expose(ports) => self.expose(ports)?,
            Instruction::Volume(paths) => self.volume(paths)?,
            Instruction::Cmd(command) => {
                let args = self.command_line(command);
                self.command_set = true;
                let text = format!("CMD {args:?}").replace("\", \"", "\" \"");
                self.built.image.config.cmd = Some(args);
                text
            }
            Instruction::Entrypoint(command) => {
                let args = self.command_line(command);
                if !self.command_set {
                    self.built.image.config.cmd = None;
                }
                let text = format!("ENTRYPOINT {args:?}").replace("\", \"", "\" \"");
                self.built.image.config.entrypoint = Some(args);
                text
            }
            Instruction::Shell(shell) => {
                self.built.image.config.shell = Some(shell.clone());
                format!("SHELL [{}]", shell.join(" "))
            }
            Instruction::StopSignal(signal) => {
                let signal = self.expand(signal)?;
                check_signal(&signal)?;
                self.built.image.config.stop_signal.clone_from(&signal);
                format!("STOPSIGNAL {signal}")
            }
            Instruction::Healthcheck(check) => self.healthcheck(check),
            Instruction::OnBuild(trigger) => {
                self.built.image.config.on_build.get_or_insert_default().push(trigger.clone());
                format!("ONBUILD {trigger}")
            }
            Instruction::Maintainer(name) => {
                self.built.image.author.clone_from(name);
                format!("MAINTAINER {name}")
            }
            // FROM starts a stage; the others are steps, lowered elsewhere.
            _ => return Ok(()),
        };
        self.record(created_by, Layer::None);
        Ok(())
    }

    pub(super) fn workdir(&mut self, path: &str, located: &Located) -> Result<(), Fault> {
        let path = join(self.workdir_path(), &self.expand(path)?);
        let title = format!("{}{}", self.prefix(), self.display(located));
        self.built.image.config.working_dir.clone_from(&path);
        let mut layer = Layer::None;
        if path != "/" {
            let user = self.built.image.config.user.as_str();
            let dir = pb::FileActionMkDir {
                path: path.clone(),
                mode: 0o755,
                make_parents: true,
                owner: (!user.is_empty()).then(|| owner(user)),
                timestamp: match self.inputs.options.epoch {
                    Epoch::At(seconds) => seconds.saturating_mul(NANOS),
                    Epoch::None | Epoch::Unknown => -1,
                },
            };
            let options = self.op(title, &[located.lines], &["file.base"]);
            self.built.state = self.built.state.file(vec![FileStep::MakeDir(dir)], options);
            layer = Layer::Made;
        }
        self.record(format!("WORKDIR {path}"), layer);
        Ok(())
    }

    fn env(&mut self, pairs: &[(String, String)]) -> Result<String, Fault> {
        let expanded = self.pairs(pairs)?;
        for (name, value) in &expanded {
            self.built.env.set(name, value.clone());
            self.built.places.set(&mut self.built.image, name, value);
        }
        Ok(format!("ENV {}", join_pairs(&expanded)))
    }

    fn label(&mut self, pairs: &[(String, String)]) -> Result<String, Fault> {
        let expanded = self.pairs(pairs)?;
        let text = format!("LABEL {}", join_pairs(&expanded));
        self.built.image.config.labels.get_or_insert_default().extend(expanded);
        Ok(text)
    }

    fn pairs(&self, pairs: &[(String, String)]) -> Result<Vec<(String, String)>, Fault> {
        pairs.iter().map(|(name, value)| Ok((self.expand(name)?, self.expand(value)?))).collect()
    }

    fn arg(&mut self, args: &[(String, Option<String>)]) -> Result<String, Fault> {
        let mut texts = Vec::new();
        for (name, default) in args {
            let name = self.expand(name)?;
            let given = self.inputs.options.build_args.get(&name).cloned();
            let value = match (given, default) {
                (Some(given), _) => Some(given),
                (None, Some(default)) => Some(self.expand(default)?),
                (None, None) => self.inputs.names.globals.get(&name).cloned(),
            };
            texts.push(match &value {
                Some(value) => format!("{name}={value}"),
                None => name.clone(),
            });
            if let Some(value) = &value {
                self.built.env.set(&name, value.clone());
            }
            self.built.args.set(&name, value);
        }
        Ok(format!("ARG {}", texts.join(" ")))
    }

    fn expose(&mut self, ports: &[String]) -> Result<String, Fault> {
        let mut words = Vec::new();
        for port in ports {
            let lexer = Lexer::new(self.inputs.names.escape);
            words.extend(lexer.expand(port, &self.built.env)?.words);
        }
        let mut exposed = Vec::new();
        for word in &words {
            exposed.extend(expand_ports(word)?);
        }
        exposed.sort();
        let text = format!("EXPOSE [{}]", exposed.join(" "));
        let known = self.built.image.config.exposed_ports.get_or_insert_default();
        known.extend(exposed.into_iter().map(|port| (port, Value::Object(Map::new()))));
        Ok(text)
    }

    fn volume(&mut self, paths: &[String]) -> Result<String, Fault> {
        let paths = paths.iter().map(|path| self.expand(path)).collect::<Result<Vec<_>, _>>()?;
        if paths.iter().any(String::is_empty) {
            return Err(Fault::new("VOLUME specified can not be an empty string"));
        }
        let text = format!("VOLUME [{}]", paths.join(" "));
        let volumes = self.built.image.config.volumes.get_or_insert_default();
        volumes.extend(paths.into_iter().map(|path| (path, Value::Object(Map::new()))));
        Ok(text)
    }

    fn healthcheck(&mut self, check: &Healthcheck) -> String {
        let test = match &check.command {
            None => vec!["NONE".to_owned()],
            Some(Command::Exec(args)) => [&["CMD".to_owned()], args.as_slice()].concat(),
            Some(Command::Shell(line)) => vec!["CMD-SHELL".to_owned(), line.clone()],
        };
        let check = config::Healthcheck {
            test,
            interval: check.interval,
            timeout: check.timeout,
            start_period: check.start_period,
            start_interval: check.start_interval,
            retries: check.retries,
        };
        let text = format!("HEALTHCHECK {}", go_format::healthcheck(&check));
        self.built.image.config.healthcheck = Some(check);
        text
    }

    /// The shell form runs with the shell of the image.
    pub(super) fn command_line(&self, command: &Command) -> Vec<String> {
        match command {
            Command::Exec(args) => args.clone(),
            Command::Shell(line) => {
                let mut args = match &self.built.image.config.shell {
                    Some(shell) if !shell.is_empty() => shell.clone(),
                    _ => vec!["/bin/sh".to_owned(), "-c".to_owned()],
                };
                args.push(line.clone());
                args
            }
        }
    }
}

fn join_pairs(pairs: &[(String, String)]) -> String {
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

/// `80`, `80-82/udp`, `ip:host:container`; only the container's ports count.
fn expand_ports(word: &str) -> Result<Vec<String>, Fault> {
    let invalid = || Fault::new(format!("invalid containerPort: {word}"));
    let (ports, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
    let protocol = protocol.to_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(Fault::new(format!("invalid proto: {protocol}")));
    }
    let ports = ports.rsplit(':').next().unwrap_or(ports);
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let first: u16 = first.parse().map_err(|_| invalid())?;
    let last: u16 = last.parse().map_err(|_| invalid())?;
    if last < first {
        return Err(invalid());
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

fn check_signal(signal: &str) -> Result<(), Fault> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
        "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
        "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    let upper = signal.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let number = signal.parse::<u8>().is_ok_and(|number| (1..=64).contains(&number));
    let realtime = name.starts_with("RTMIN") || name.starts_with("RTMAX");
    if number || realtime || NAMES.contains(&name) {
        return Ok(());
    }
    Err(Fault::new(format!("invalid signal: {signal}")))
}
