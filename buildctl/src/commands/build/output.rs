//! Output: one `--output`: an exporter for the daemon, and where its bytes go on our side.

use std::{
    collections::HashMap,
    io::IsTerminal as _,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};
use buildd_api::buildkit::moby::buildkit::v1::Exporter;

use crate::session::Target;

/// A parsed `--output`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Output {
    /// What the daemon makes.
    pub(super) exporter: Exporter,
    /// Where it goes; None if it stays with the daemon.
    pub(super) target: Option<Target>,
}

impl Output {
    /// Parses `type=TYPE,KEY=VALUE,..`; a plain path is a folder, `-` a tar to standard output.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let fields = split(text)?;
        let mut attrs = HashMap::new();
        match fields.as_slice() {
            [one] if one.is_empty() => bail!("--output is empty"),
            [one] if one == "-" => {
                attrs = HashMap::from([("type".to_owned(), "tar".to_owned())]);
            }
            [one] if !one.contains('=') => {
                attrs = HashMap::from([
                    ("type".to_owned(), "local".to_owned()),
                    ("dest".to_owned(), one.clone()),
                ]);
            }
            _ => {
                for field in &fields {
                    let Some((key, value)) = field.split_once('=') else {
                        bail!("--output {text:?}: {field:?} is not key=value");
                    };
                    attrs.insert(key.trim().to_lowercase(), value.to_owned());
                }
            }
        }
        let Some(kind) = attrs.remove("type").filter(|kind| !kind.is_empty()) else {
            bail!("--output {text:?} has no type: image, oci, docker, tar or local");
        };
        // Compat: moby/buildkit cmd/buildctl/build/output.go.
        let kind = match kind.as_str() {
            "registry" => {
                attrs.insert("push".to_owned(), "true".to_owned());
                "image".to_owned()
            }
            _ => kind,
        };
        let dest = attrs.remove("dest").filter(|dest| !dest.is_empty());
        let target = target(text, &kind, dest, &attrs)?;
        Ok(Self { exporter: Exporter { r#type: kind, attrs }, target })
    }

    /// An image of this name in the daemon's store, perhaps pushed to its registry.
    pub(super) fn image(name: &str, push: bool) -> Self {
        let mut attrs = HashMap::from([("name".to_owned(), name.to_owned())]);
        if push {
            attrs.insert("push".to_owned(), "true".to_owned());
        }
        Self { exporter: Exporter { r#type: "image".to_owned(), attrs }, target: None }
    }
}

fn target(
    text: &str,
    kind: &str,
    dest: Option<String>,
    attrs: &HashMap<String, String>,
) -> Result<Option<Target>> {
    match (kind, dest) {
        ("local", Some(dest)) if dest == "-" => {
            bail!("--output {text:?}: a folder cannot go to standard output")
        }
        ("local", Some(dest)) => Ok(Some(Target::Directory(dest.into()))),
        ("local", None) => bail!("--output {text:?} has no dest=FOLDER"),
        ("tar" | "oci" | "docker", _) if attrs.get("tar").is_some_and(|value| value == "false") => {
            bail!("--output {text:?}: tar=false is not supported yet")
        }
        ("tar" | "oci" | "docker", Some(dest)) if dest != "-" => {
            if Path::new(&dest).is_dir() {
                bail!("--output {text:?}: {dest} is a folder; name a file");
            }
            Ok(Some(Target::File(PathBuf::from(dest))))
        }
        ("tar" | "oci" | "docker", _) => {
            if std::io::stdout().is_terminal() {
                bail!("--output {text:?}: an archive on a terminal helps nobody; add dest=FILE or redirect");
            }
            Ok(Some(Target::Stdout))
        }
        (_, Some(_)) => bail!("--output {text:?}: type={kind} has no dest"),
        (_, None) => Ok(None),
    }
}

/// Splits at commas as CSV does: a quoted field may contain them.
pub(super) fn split(text: &str) -> Result<Vec<String>> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let field = fields.last_mut().expect("starts with one");
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' if quoted || field.is_empty() => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            _ => field.push(c),
        }
    }
    if quoted {
        bail!("{text:?} has a quote that is not closed");
    }
    Ok(fields)
}

#[cfg(test)]
mod tests;
