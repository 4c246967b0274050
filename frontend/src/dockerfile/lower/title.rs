//! Titles: how steps are named to the people who watch a build.

use buildd_oci::platform::Platform;

use super::Lowering;
use crate::dockerfile::{expand::Lexer, instruction::Located};

impl Lowering<'_> {
    /// `[linux/amd64 stage 2/5] `; counts the step.
    pub(super) fn prefix(&mut self) -> String {
        self.step += 1;
        self.prefix_of_step()
    }

    /// The prefix of the step that is counted already.
    pub(super) fn prefix_of_step(&self) -> String {
        let mut words = Vec::new();
        if self.inputs.show_platform {
            words.push(format!("{}{}", self.built.platform, self.crossing()));
        }
        if !self.name.is_empty() {
            words.push(self.name.clone());
        }
        let width = self.steps.to_string().len();
        words.push(format!("{:>width$}/{}", self.step, self.steps));
        format!("[{}] ", words.join(" "))
    }

    /// The instruction as written, with the variables that are set.
    pub(super) fn display(&self, located: &Located) -> String {
        let text = Lexer::raw(self.inputs.names.escape)
            .expand(&located.original, &self.built.env)
            .map_or_else(|_| located.original.clone(), |expanded| expanded.text);
        match text.split_once(char::is_whitespace) {
            Some((keyword, rest)) => format!("{} {rest}", keyword.to_uppercase()),
            None => text,
        }
    }

    /// `->arm64` in a stage that works for another platform than it runs on, and has said so by declaring its arguments.
    fn crossing(&self) -> String {
        let base = self.built.platform.normalized();
        let env = |name: &str| self.built.env.get(name).filter(|value| !value.is_empty());
        let whole = env("TARGETPLATFORM").and_then(|text| text.parse::<Platform>().ok());
        let parts = || {
            let (os, architecture) = (env("TARGETOS"), env("TARGETARCH"));
            os.or(architecture)?;
            let os = os.unwrap_or(&base.os);
            let architecture = architecture.unwrap_or(&base.architecture);
            Some(Platform::new(os, architecture, env("TARGETVARIANT").map_or("", String::as_str)))
        };
        let Some(target) = whole.or_else(parts).map(|target| target.normalized()) else {
            return String::new();
        };
        if target == base {
            return String::new();
        }
        let text = target.to_string();
        let same_os = format!("{}/", base.os);
        format!("->{}", text.strip_prefix(&same_os).unwrap_or(&text))
    }
}
