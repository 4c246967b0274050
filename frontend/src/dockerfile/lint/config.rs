//! Config: which rules run, and whether what they find fails the build.
//!
//! Three places say it in one grammar, `skip=Rule,…|all;error=true;experimental=Rule,…|all`: the `# check=` directive, the build argument that
//! stands in for it, and a `# check=` comment directly above one instruction.

use std::collections::BTreeSet;

use super::rules::Rule;

/// Which rules run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    skip: Names,
    experimental: Names,
    /// What is found fails the build.
    pub error: bool,
}

/// Some rules, or all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Names {
    all: bool,
    names: BTreeSet<String>,
}

impl Config {
    /// Reads the grammar above; the message of the error tells which part is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut config = Self::default();
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let (key, value) =
                part.split_once('=').ok_or_else(|| format!("invalid check option {part:?}"))?;
            let value = value.trim();
            match key.trim() {
                "skip" => config.skip.read(value),
                "experimental" => config.experimental.read(value),
                "error" => {
                    config.error = match value {
                        "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
                        "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
                        _ => return Err(format!("failed to parse check option {part:?}: not true or false")),
                    };
                }
                other => return Err(format!("invalid check option {other:?}")),
            }
        }
        Ok(config)
    }

    /// With what the comments above an instruction add; a comment that is no such option is only a comment.
    pub(super) fn with_comments(&self, comments: &[String]) -> Self {
        let mut config = self.clone();
        for text in comments.iter().filter_map(|comment| comment.strip_prefix("check=")) {
            if let Ok(more) = Self::parse(text) {
                config.skip.add(more.skip);
                config.experimental.add(more.experimental);
                config.error |= more.error;
            }
        }
        config
    }

    /// Whether a rule runs.
    pub fn runs(&self, rule: Rule) -> bool {
        !self.skip.has(rule) && (!rule.experimental() || self.experimental.has(rule))
    }
}

impl Names {
    fn read(&mut self, text: &str) {
        for name in text.split(',').map(str::trim) {
            if name == "all" {
                self.all = true;
            } else {
                self.names.insert(name.to_owned());
            }
        }
    }

    fn add(&mut self, other: Self) {
        self.all |= other.all;
        self.names.extend(other.names);
    }

    fn has(&self, rule: Rule) -> bool {
        self.all || self.names.contains(rule.name())
    }
}
