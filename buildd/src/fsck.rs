//! Fsck: `buildd fsck`: the findings of the runtime's check, as lines or as JSON, and an exit code that scripts branch on.
//!
//! 0: nothing is damaged (leftovers, which the next start removes, are listed and do not count). 1: something is, or was until `--repair`
//! dropped it. 2: the root could not be checked, for one because a daemon has it.

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use anyhow::{Context, Result};
use buildd_store::fsck::{Class, Finding, Fsck};
use serde_json::json;

use crate::cli::{Check, Format};

const DAMAGED: u8 = 1;
const CANNOT_RUN: u8 = 2;

/// Checks a root, prints what it found.
pub(crate) fn run(flags: &Check) -> ExitCode {
    match check(flags) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(DAMAGED),
        Err(error) => {
            let _ = writeln!(io::stderr(), "buildd: {error:#}");
            let hint = error.downcast_ref::<buildd_store::Error>().and_then(buildd_store::Error::hint);
            if let Some(hint) = hint {
                let _ = writeln!(io::stderr(), "hint: {hint}");
            }
            ExitCode::from(CANNOT_RUN)
        }
    }
}

/// Whether nothing was damaged.
fn check(flags: &Check) -> Result<bool> {
    let root = flags.root()?;
    let fsck = Fsck::open(&root)?;
    let findings = if flags.repair { fsck.repair()? } else { fsck.check()? };
    let text = match flags.format {
        Format::Table => table(&root, &findings, flags.repair),
        Format::Json => as_json(&root, &findings, flags.repair),
    };
    io::stdout().write_all(text.as_bytes()).context("print the findings")?;
    Ok(count(&findings, Class::Damage) == 0)
}

fn count(findings: &[Finding], class: Class) -> usize {
    findings.iter().filter(|finding| finding.class == class).count()
}

fn table(root: &Path, findings: &[Finding], repaired: bool) -> String {
    let mut text: String = findings
        .iter()
        .map(|finding| {
            let (class, what) = (finding.class.word(), finding.what);
            // Names come from outside: a line stays a line.
            format!(
                "{class:<8}  {what} {}: {}\n",
                finding.subject.escape_debug(),
                finding.detail.escape_debug()
            )
        })
        .collect();
    let [damaged, follow, left] =
        [Class::Damage, Class::Follows, Class::Leftover].map(|class| count(findings, class));
    text += &match (findings.is_empty(), repaired) {
        (true, _) => format!("{}: clean\n", root.display()),
        (_, true) => format!("dropped: {damaged} damaged, {follow} that stood on it, {left} left over\n"),
        (_, false) if damaged > 0 => {
            format!(
                "{damaged} damaged, {follow} that stand on it, {left} left over; --repair drops all of them\n"
            )
        }
        (_, false) => format!("nothing is damaged; {left} left over, which the next start removes\n"),
    };
    text
}

fn as_json(root: &Path, findings: &[Finding], repaired: bool) -> String {
    let rows: Vec<_> = findings
        .iter()
        .map(|finding| {
            json!({
                "class": finding.class.word(),
                "what": finding.what,
                "subject": finding.subject,
                "detail": finding.detail,
            })
        })
        .collect();
    format!("{}\n", json!({ "root": root, "repaired": repaired, "findings": rows }))
}
