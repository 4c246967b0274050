//! RUN: a command line or a script, its mounts, network and security.
//!
//! A single heredoc is the script; with a `#!` line it is a file of its own. Other heredocs go to the shell as they are written.

use super::{Command, Mount, Reader, flags::Flags, mount};
use crate::{
    dockerfile::lines::{self, Heredoc},
    error::Fault,
};

/// `RUN`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// What runs.
    pub command: Command,
    /// A script with a `#!` line, to be mounted as a file named as the heredoc.
    pub script: Option<Heredoc>,
    /// As in `--mount`.
    pub mounts: Vec<Mount>,
    /// `default`, `none` or `host`.
    pub network: String,
    /// As in `--security`.
    pub security: Security,
    /// As in `--device`.
    pub devices: Vec<Device>,
}

/// A device that a step asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// `vendor/class=name` and the like.
    pub name: String,
    /// Whether the step cannot do without.
    pub required: bool,
}

/// Whether a step is sandboxed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Security {
    /// As usual.
    #[default]
    Sandbox,
    /// With all privileges.
    Insecure,
}

pub(super) fn parse(reader: &Reader<'_>, flags: &Flags) -> Result<Run, Fault> {
    let devices = flags.all("device").map(device).collect::<Result<_, _>>()?;
    let network = flags.value("network").unwrap_or_else(|| "default".to_owned());
    if !matches!(network.as_str(), "default" | "none" | "host") {
        return Err(Fault::new(format!("unsupported network mode {network:?}")));
    }
    let security = match flags.value("security").as_deref() {
        None | Some("sandbox") => Security::Sandbox,
        Some("insecure") => Security::Insecure,
        Some(other) => return Err(Fault::new(format!("security {other:?} is not valid"))),
    };
    let mounts = flags.all("mount").map(mount::parse).collect::<Result<_, _>>()?;
    let (mut command, mut script) = (reader.command()?, None);
    if reader.rest.is_empty() {
        command = Command::Shell(String::new());
    }
    if let (Command::Shell(line), false) = (&command, reader.heredocs.is_empty()) {
        let only = lines::heredoc(line.trim(), reader.escape).and(reader.heredocs.first());
        match only.filter(|_| reader.heredocs.len() == 1) {
            Some(heredoc) if heredoc.content.starts_with("#!") => script = Some(heredoc.clone()),
            Some(heredoc) => command = Command::Shell(heredoc.content.clone()),
            None => command = Command::Shell(with_bodies(line, reader.heredocs)),
        }
    }
    Ok(Run { command, script, mounts, network, security, devices })
}

/// `name[,required]`; a name has an equals sign of its own.
fn device(text: &str) -> Result<Device, Fault> {
    let mut device = Device { name: String::new(), required: false };
    for field in mount::csv(text)? {
        let name = match field.split_once('=') {
            Some(("name", name)) => name,
            Some(("required", value)) => {
                device.required = mount::boolean("required", value)?;
                continue;
            }
            None if field == "required" => {
                device.required = true;
                continue;
            }
            _ => field.as_str(),
        };
        if !device.name.is_empty() {
            return Err(Fault::new(format!("device {text:?} has two names, {:?} and {name:?}", device.name)));
        }
        name.clone_into(&mut device.name);
    }
    match device.name.is_empty() {
        true => Err(Fault::new(format!("device {text:?} has no name"))),
        false => Ok(device),
    }
}

/// The line and its heredocs, as a shell reads them.
fn with_bodies(line: &str, heredocs: &[Heredoc]) -> String {
    let mut text = line.to_owned();
    for heredoc in heredocs {
        text.push('\n');
        text.push_str(&heredoc.content);
        text.push_str(&heredoc.name);
    }
    text
}
