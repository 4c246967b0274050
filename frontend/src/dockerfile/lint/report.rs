//! Report: findings in the three forms that clients read: warnings of a build, JSON, and text.
//!
//! # Wire
//! The JSON is `{"warnings": [{ruleName, description, url, detail, location}], "sources": [{filename, language, data}], "buildError"?}`.
//!
//! # Sources
//! moby/buildkit `frontend/subrequests/lint`.

use std::fmt::Write as _;

use buildd_api::error_detail::{Range, Source};
use serde_json::{Value, json};

use super::Finding;
use crate::{bridge::Warning, error::Fault, excerpt};

/// Bytes of text that go along with all warnings of one build: each carries the whole text, and clients keep them all.
const MAX_ATTACHED: usize = 4 << 20;

/// The outcome of a check.
#[derive(Clone, Debug)]
pub struct Report {
    /// The text; its ranges mean nothing.
    pub source: Source,
    /// What could be better.
    pub findings: Vec<Finding>,
    /// Why it cannot be built at all.
    pub fault: Option<(String, Vec<Range>)>,
}

impl Report {
    /// What is to be said of a text that cannot be built.
    pub fn of_fault(source: Source, fault: &Fault) -> Self {
        let ranges = fault.lines.iter().map(|lines| lines.to_range()).collect();
        Self { source, findings: Vec::new(), fault: Some((fault.message.clone(), ranges)) }
    }

    /// Whether anything is wrong.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty() && self.fault.is_none()
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let warning = |finding: &Finding| {
            json!({
                "ruleName": finding.rule.name(),
                "description": finding.rule.description(),
                "url": finding.rule.url(),
                "detail": finding.message,
                "location": { "ranges": [finding.lines.to_range()] },
            })
        };
        let warnings: Vec<Value> = self.findings.iter().map(warning).collect();
        let mut report = json!({ "warnings": warnings, "sources": [self.source.info] });
        if let Some((message, ranges)) = &self.fault {
            report["buildError"] = json!({ "message": message, "location": { "ranges": ranges } });
        }
        report
    }

    /// For people: each finding with its excerpt.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for finding in &self.findings {
            let rule = finding.rule;
            let _ = writeln!(out, "\nWARNING: {} - {}\n{}", rule.name(), rule.url(), finding.message);
            out.push_str(&self.excerpt(&[finding.lines.to_range()]));
        }
        out
    }

    /// Why it cannot be built, with the excerpt; empty if it can.
    pub fn fault_text(&self) -> String {
        let Some((message, ranges)) = &self.fault else { return String::new() };
        format!("{message}\n{}", self.excerpt(ranges))
    }

    fn excerpt(&self, ranges: &[Range]) -> String {
        excerpt::render(&Source { info: self.source.info.clone(), ranges: ranges.to_vec() })
    }
}

/// Findings as the warnings of a build.
pub fn warnings(findings: &[Finding], source: &Source) -> Vec<Warning> {
    let room = MAX_ATTACHED / source.info.data.len().max(1);
    let warning = |(number, finding): (usize, &Finding)| Warning {
        short: finding.short(),
        detail: vec![finding.rule.description().to_owned()],
        url: finding.rule.url(),
        source: (number < room)
            .then(|| Source { info: source.info.clone(), ranges: vec![finding.lines.to_range()] }),
    };
    findings.iter().enumerate().map(warning).collect()
}
