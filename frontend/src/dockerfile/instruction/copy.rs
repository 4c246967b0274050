//! COPY and ADD: what is transferred where, with which owner and mode.
//!
//! Paths are kept as written, without quotes' meaning for variables: the lowering expands them.

use super::{Reader, flags::Flags};
use crate::{
    dockerfile::{
        lines::{self, Heredoc},
        remote::Remote,
    },
    error::Fault,
};

/// `COPY` or `ADD`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    /// At least one.
    pub sources: Vec<CopySource>,
    /// Where to.
    pub dest: String,
    /// Stage, image or named context.
    pub from: Option<String>,
    /// `user[:group]`.
    pub chown: Option<String>,
    /// Octal or symbolic.
    pub chmod: Option<String>,
    /// Independent of the layers below.
    pub link: bool,
    /// Keeps the folders of the source.
    pub parents: bool,
    /// Patterns that stay behind.
    pub exclude: Vec<String>,
    /// Whether archives are unpacked; none if not said.
    pub unpack: Option<bool>,
    /// What a remote source must be: a digest, or a commit.
    pub checksum: Option<String>,
    /// Whether `.git` of a repository comes too; none if not said.
    pub keep_git_dir: Option<bool>,
}

/// What is transferred.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopySource {
    /// A path or pattern.
    Path(String),
    /// A text in the Dockerfile.
    Heredoc(Heredoc),
}

pub(super) fn parse(reader: &Reader<'_>, flags: &Flags) -> Result<Transfer, Fault> {
    let keyword = reader.keyword;
    let mut words = reader.list()?;
    let Some(dest) = words.pop().filter(|_| !words.is_empty()) else {
        return Err(reader.too_few("at least two arguments"));
    };
    if lines::heredoc(&dest, reader.escape).is_some() && !reader.heredocs.is_empty() {
        return Err(Fault::new(format!("{keyword} cannot accept a heredoc as a destination")));
    }
    let from = flags.value("from");
    if from.as_ref().is_some_and(|from| from.contains('$')) {
        return Err(Fault::new(
            "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround",
        ));
    }
    let mut heredocs = reader.heredocs.iter();
    let mut sources = Vec::new();
    for word in words {
        match lines::heredoc(&word, reader.escape).and_then(|_| heredocs.next()) {
            Some(heredoc) => sources.push(CopySource::Heredoc(heredoc.clone())),
            None => {
                check_source(keyword, &word)?;
                sources.push(CopySource::Path(word));
            }
        }
    }
    Ok(Transfer {
        sources,
        dest,
        from,
        chown: flags.value("chown"),
        chmod: flags.value("chmod"),
        link: flags.switch("link").unwrap_or(false),
        parents: flags.switch("parents").unwrap_or(false),
        exclude: flags.all("exclude").map(str::to_owned).collect(),
        unpack: flags.switch("unpack"),
        checksum: flags.value("checksum").filter(|text| !text.is_empty()),
        keep_git_dir: flags.switch("keep-git-dir"),
    })
}

/// COPY takes nothing from elsewhere; what ADD means by a word is known once its variables are.
fn check_source(keyword: &str, word: &str) -> Result<(), Fault> {
    match Remote::detect(word) {
        Ok(None) => Ok(()),
        _ if keyword == "ADD" => Ok(()),
        Ok(Some(Remote::File(_))) => Err(Fault::new("source can't be a URL for COPY")),
        _ => Err(Fault::new("source can't be a git ref for COPY")),
    }
}
