//! Syntax: which frontend a text asks for, before anything else is read of it: it need not be a Dockerfile at all.
//!
//! `docker/dockerfile` and `docker/dockerfile-upstream`, whatever their tag and registry, are what this frontend speaks. Another image cannot
//! run here, and is refused by name rather than taken for a Dockerfile.
//!
//! # Sources
//! spec dockerfile 1.1; moby/buildkit `frontend/dockerfile/parser/directives.go`, `DetectSyntax`.

use buildd_oci::reference::Reference;
use serde_json::Value;

use super::{lines, options::Options};
use crate::error::{Fault, Lines};

/// The build argument that stands in for the directive.
const ARGUMENT: &str = "BUILDKIT_SYNTAX";
/// Repositories whose language is ours.
const OURS: [&str; 2] = ["docker/dockerfile", "docker/dockerfile-upstream"];

/// Refuses a text that asks for a frontend that is not ours.
pub(super) fn check(text: &[u8], options: &Options) -> Result<(), Fault> {
    let asked = match options.build_args.get(ARGUMENT) {
        Some(name) => Some((name.clone(), Vec::new())),
        None => detect(&String::from_utf8_lossy(text)),
    };
    let Some((asked, lines)) = asked else { return Ok(()) };
    let image = asked.split_whitespace().next().unwrap_or_default();
    if is_ours(image) {
        return Ok(());
    }
    let fault =
        Fault::new(format!("frontend image {image} cannot run here: only docker/dockerfile is built in"));
    let fault =
        fault.hint("name docker/dockerfile, or leave the syntax line out if the text is a Dockerfile");
    Err(Fault { lines, ..fault })
}

fn is_ours(image: &str) -> bool {
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
