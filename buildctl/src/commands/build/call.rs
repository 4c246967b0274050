//! Call: a question about a Dockerfile instead of its build: `--call check|outline|targets|describe|convertllb[,format=json][,ignorestatus]`.
//!
//! The daemon's frontend answers in the metadata of a solve; shown as `docker buildx build --call` shows it, with its exit codes.

use std::{collections::HashMap, process::ExitCode};

use anyhow::{Context as _, Result, anyhow, bail};
use buildd_api::error_detail::{Range, Source, SourceText};
use buildd_frontend::{REQUEST_OPTION, excerpt};
use serde_json::Value;

use crate::output as out;

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    method: &'static str,
    json: bool,
    ignore_status: bool,
}

/// What can be asked, and the frontend's name for it.
const METHODS: [(&str, &str); 7] = [
    ("check", "frontend.lint"),
    ("lint", "frontend.lint"),
    ("outline", "frontend.outline"),
    ("targets", "frontend.targets"),
    ("describe", "frontend.subrequests.describe"),
    ("subrequests.describe", "frontend.subrequests.describe"),
    ("convertllb", "frontend.convertllb"),
];
const BUILD: &str = "build";
const LINT: &str = "frontend.lint";

impl Call {
    /// Parses `--call`; None asks nothing: it builds.
    pub(crate) fn parse(text: &str) -> Result<Option<Self>> {
        let mut fields = text.split(',');
        let name = fields.next().unwrap_or_default();
        let (mut json, mut ignore_status) = (false, false);
        for field in fields {
            match field.split_once('=').unwrap_or((field, "")) {
                ("format", "json") => json = true,
                ("format", "text" | "") => json = false,
                ("ignorestatus", "" | "true" | "1") => ignore_status = true,
                ("ignorestatus", "false" | "0") => ignore_status = false,
                _ => bail!("--call {text:?}: {field:?} is none of format=json, format=text, ignorestatus"),
            }
        }
        if name.is_empty() || name == BUILD {
            return Ok(None);
        }
        let known = METHODS.iter().find(|(known, _)| *known == name);
        let (_, method) = known.with_context(|| {
            format!("--call takes build, check, outline, targets, describe or convertllb, not {name:?}")
        })?;
        Ok(Some(Self { method, json, ignore_status }))
    }

    /// `build --check`.
    pub(crate) fn check() -> Self {
        Self { method: LINT, json: false, ignore_status: false }
    }

    /// The option that asks.
    pub(super) fn option(&self) -> (String, String) {
        (REQUEST_OPTION.to_owned(), self.method.to_owned())
    }

    /// Shows the answer; the exit code to end with.
    pub(crate) fn show(&self, answer: &HashMap<String, String>) -> Result<ExitCode> {
        let text = |key: &str| answer.get(key).map_or("", String::as_str);
        let json = answer.get("result.json").context("the daemon's frontend does not answer this call")?;
        if self.json {
            out::line(json)?;
        } else if self.method == LINT {
            let report: Value = serde_json::from_str(json).context("the answer of the check is not JSON")?;
            let found = report["warnings"].as_array().map_or(0, Vec::len);
            match found {
                0 => {}
                1 => out::line("Check complete, 1 warning has been found!")?,
                _ => out::line(&format!("Check complete, {found} warnings have been found!"))?,
            }
            out::write(text("result.txt").as_bytes())?;
            if !report["buildError"].is_null() {
                return Err(build_error(&report));
            }
            if found == 0 {
                out::line("Check complete, no warnings found.")?;
            }
        } else {
            // What is for programs alone has no text.
            match text("result.txt") {
                "" => out::line(json)?,
                shown => out::write(shown.as_bytes())?,
            }
        }
        let code = text("result.statuscode").parse::<u8>().unwrap_or(0);
        Ok(ExitCode::from(if self.ignore_status { 0 } else { code }))
    }
}

/// Why the text cannot be built, with the place.
fn build_error(report: &Value) -> anyhow::Error {
    let error = &report["buildError"];
    let info: SourceText = serde_json::from_value(report["sources"][0].clone()).unwrap_or_default();
    let ranges: Vec<Range> = serde_json::from_value(error["location"]["ranges"].clone()).unwrap_or_default();
    let excerpt = excerpt::render(&Source { info, ranges });
    let message = error["message"].as_str().unwrap_or("the Dockerfile cannot be built");
    anyhow!("{message}\n{excerpt}")
}

#[cfg(test)]
mod tests;
