//! Syntax: which frontend a text asks for, before anything else is read of it: it need not be a Dockerfile at all.
//!
//! `docker/dockerfile` and `docker/dockerfile-upstream`, whatever their tag and registry, are what this frontend speaks. A text that names
//! another image is that image's to read: a build runs it, and where nothing can be run the text is refused by name rather than taken for a
//! Dockerfile.
//!
//! # Sources
//! spec dockerfile 1.1; moby/buildkit `frontend/dockerfile/parser/directives.go`, `DetectSyntax`.

use buildd_oci::reference::Reference;
use serde_json::Value;

use super::{lines, options::Options};
use crate::{
    error::{Fault, Lines},
    request::DOCKERFILE_FRONTEND,
};

/// The build argument that stands in for the directive.
const ARGUMENT: &str = "BUILDKIT_SYNTAX";
/// Repositories whose language is ours.
const OURS: [&str; 2] = ["docker/dockerfile", "docker/dockerfile-upstream"];

/// A frontend that is not ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Foreign {
    /// Its image.
    pub(super) image: String,
    /// All that the text says to it.
    pub(super) cmdline: String,
    lines: Vec<Lines>,
}

/// The frontend that a text asks for, if it is not ours; none for a text that was handed to us by one.
pub(super) fn foreign(text: &[u8], options: &Options) -> Option<Foreign> {
    if options.forwarded {
        return None;
    }
    let asked = match options.build_args.get(ARGUMENT) {
        Some(name) => Some((name.clone(), Vec::new())),
        None => detect(&String::from_utf8_lossy(text)),
    };
    let (cmdline, lines) = asked?;
    let image = cmdline.split_whitespace().next().unwrap_or_default().to_owned();
    let built_in =
        is_ours(&image) || (image == DOCKERFILE_FRONTEND && !options.contexts.contains_key(&image));
    (!built_in).then_some(Foreign { image, cmdline, lines })
}

/// Refuses a text that asks for a frontend that is not ours: where none can be run.
pub(super) fn check(text: &[u8], options: &Options) -> Result<(), Fault> {
    let Some(Foreign { image, lines, .. }) = foreign(text, options) else { return Ok(()) };
    let fault = Fault::new(format!("only the frontend image {image} knows what this text says"));
    let fault = fault.hint("build it, or leave the syntax line out if the text is a Dockerfile");
    Err(Fault { lines, ..fault })
}

/// Whether an image is a frontend of the language that is built in.
pub fn is_ours(image: &str) -> bool {
    let name = Reference::parse(image).map(|reference| reference.name()).unwrap_or_default();
    OURS.iter().any(|ours| name.strip_suffix(ours).is_some_and(|registry| registry.ends_with('/')))
}

/// What the text asks for, and where: `# syntax=` among the directives, `// syntax=` as well, after a `#!` line if there is one; or the key of
/// a text that is JSON.
fn detect(text: &str) -> Option<(String, Vec<Lines>)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let skipped = usize::from(text.starts_with("#!"));
    for (number, line) in text.lines().enumerate().skip(skipped) {
        let line = line.trim();
        let directive = line.strip_prefix("//").map_or_else(|| line.to_owned(), |rest| format!("#{rest}"));
        match lines::directive(&directive) {
            Some((key, value)) if key == "syntax" => {
                return Some((value, vec![Lines { first: number + 1, last: number + 1 }]));
            }
            Some(_) => {}
            None => break,
        }
    }
    let json: Value = serde_json::from_str(text).ok()?;
    Some((json.get("syntax")?.as_str()?.to_owned(), Vec::new()))
}

#[cfg(test)]
mod tests;
