//! Ignore rules: which files of the context stay with the client, and why a missing one is missing.
//!
//! `<Dockerfile>.dockerignore` beside the Dockerfile is used instead of `.dockerignore`; see `source`.

use buildd_fs::pattern::{self, Patterns};

/// Describes a context's vertex: the name of its ignore file.
pub const NAME_KEY: &str = "buildd.ignorefile";
/// Describes a context's vertex: the text of its ignore file.
pub const TEXT_KEY: &str = "buildd.ignorefile.text";

/// The patterns of an ignore file, as they go into a local source.
pub fn patterns(text: &str) -> Vec<String> {
    pattern::ignore_lines(text).into_iter().map(|(_, pattern)| pattern).collect()
}

/// The line of `ignore_text` that keeps `path` out of the context, and the rule on it; none if no rule does.
pub fn explain_missing(path: &str, ignore_text: &str) -> Option<(usize, String)> {
    let rules = Patterns::parse(ignore_text).ok()?;
    let path = path.trim_start_matches('/');
    if !rules.matches(path) {
        return None;
    }
    rules.explain(path).map(|(line, rule)| (line, rule.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_that_hides_a_file_is_named() {
        let text = "# c\nb\n*.log\n!keep.log\n";
        assert_eq!(explain_missing("/a.log", text), Some((3, "*.log".to_owned())));
        assert_eq!(explain_missing("b/x", text), Some((2, "b".to_owned())));
        assert_eq!(explain_missing("keep.log", text), None);
        assert_eq!(explain_missing("a", text), None);
        assert_eq!(patterns(text), ["b", "*.log", "!keep.log"]);
    }
}
