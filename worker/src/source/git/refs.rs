//! Refs: from a branch, a tag or nothing at all to a commit, as the remote says now.

use super::{
    command::{Git, REMOTE},
    failure::GitError,
    wanted::{GitRequest, is_hex},
};

/// What a ref meant when it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resolved {
    /// The commit.
    pub(super) commit: String,
    /// The ref's whole name; none for a commit by its id.
    pub(super) reference: Option<String>,
    /// The tag object that names the commit, if one does.
    tag: Option<String>,
}

impl Resolved {
    /// A commit by its whole id.
    pub(super) fn commit(commit: &str) -> Self {
        Self { commit: commit.to_lowercase(), reference: None, tag: None }
    }

    /// Whether the commit's id, or that of the tag that names it, begins so.
    pub(super) fn matches(&self, checksum: &str) -> bool {
        self.commit.starts_with(checksum) || self.tag.as_ref().is_some_and(|tag| tag.starts_with(checksum))
    }
}

/// Asks the remote.
pub(super) async fn ask(git: &Git, wanted: &GitRequest) -> Result<Resolved, GitError> {
    let reference = if wanted.reference.is_empty() { "HEAD" } else { &wanted.reference };
    let peeled = format!("{reference}^{{}}");
    let listed = git.run("ls-remote", None, &["ls-remote", "--quiet", REMOTE, reference, &peeled]).await?;
    find(&listed, reference)
        .ok_or_else(|| GitError::NoRef { url: git.shown().to_owned(), reference: reference.to_owned() })
}

/// The ref in a remote's list. Compat: of a branch and a tag of one name the branch counts.
fn find(listed: &str, reference: &str) -> Option<Resolved> {
    let of = |name: &str| {
        let mut lines = listed.lines().filter_map(|line| line.split_once('\t'));
        let (id, _) = lines.find(|(id, listed)| *listed == name && id.len() >= 40 && is_hex(id))?;
        Some(id.to_owned())
    };
    let spellings = ["", "refs/heads/", "refs/tags/", "refs/"].map(|prefix| format!("{prefix}{reference}"));
    spellings.into_iter().find_map(|name| {
        let id = of(&name)?;
        let whole = name.starts_with("refs/").then(|| name.clone());
        Some(match of(&format!("{name}^{{}}")) {
            Some(commit) => Resolved { commit, reference: whole, tag: Some(id) },
            None => Resolved { commit: id, reference: whole, tag: None },
        })
    })
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn names_are_found_whole() {
        let id = |digit: char| digit.to_string().repeat(40);
        let (a, b, c, d) = (id('a'), id('b'), id('c'), id('d'));
        let listed = format!(
            "{a}\tHEAD\n{a}\trefs/heads/main\n{b}\trefs/heads/x/main\n{c}\trefs/tags/v1\n{d}\trefs/tags/v1^{{}}\n\
             {b}\trefs/heads/both\n{c}\trefs/tags/both\nnonsense\n-x\trefs/heads/evil\n"
        );
        for (name, expected) in [
            ("HEAD", Some((&a, None))),
            ("main", Some((&a, Some("refs/heads/main")))),
            ("refs/heads/main", Some((&a, Some("refs/heads/main")))),
            ("heads/main", Some((&a, Some("refs/heads/main")))),
            ("v1", Some((&d, Some("refs/tags/v1")))),
            ("both", Some((&b, Some("refs/heads/both")))),
            ("refs/tags/both", Some((&c, Some("refs/tags/both")))),
            ("evil", None),
            ("mai", None),
        ] {
            let found = find(&listed, name);
            let found = found.as_ref().map(|found| (&found.commit, found.reference.as_deref()));
            assert_eq!(found, expected, "{name}");
        }
        assert!(find(&listed, "v1").expect("a tag").matches(&c[..7]), "the tag's own id counts too");
    }
}
