//! COPY and ADD to file ops.
//!
//! All sources of one instruction are one op with chained actions, as in the reference: they succeed or fail together, in one layer.

use buildd_api::{
    buildkit::pb,
    llb::{FileStep, OpOptions, State},
};

use buildd_oci::digest::Digest;

use super::{Lowering, join};
use crate::{
    dockerfile::{
        expand::Lexer,
        image::Layer,
        instruction::{CopySource, Located, Transfer},
        lines::Heredoc,
        remote::{Remote, file_name, file_state, redact},
    },
    error::Fault,
};

/// A transfer with all variables expanded.
struct Expanded {
    dest: String,
    chown: Option<String>,
    mode: i32,
    mode_text: String,
    exclude: Vec<String>,
    checksum: Option<String>,
}

/// Which files are taken apart if they are archives.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unpack {
    /// None, whatever is asked.
    Never,
    /// All, unless `--unpack=false`.
    Archives,
    /// None, unless `--unpack`.
    IfAsked,
}

impl Lowering<'_> {
    pub(super) fn transfer(
        &mut self,
        keyword: &str,
        transfer: &Transfer,
        located: &Located,
    ) -> Result<(), Fault> {
        let expanded = self.expand_transfer(transfer)?;
        if transfer.sources.len() > 1 && !expanded.dest.ends_with('/') {
            return Err(Fault::new(format!(
                "When using {keyword} with more than one source file, the destination must be a directory and end with a /"
            )));
        }
        let title = format!("{}{}", self.prefix(), redact(&self.display(located)));
        let mut created_by = keyword.to_owned();
        for (flag, value) in [("chown", &transfer.chown), ("chmod", &transfer.chmod)] {
            if let Some(value) = value {
                created_by.push_str(&format!(" --{flag}={}", self.expand(value)?));
            }
        }
        if let Some(checksum) = &transfer.checksum {
            created_by.push_str(&format!(" --checksum={}", self.expand(checksum)?));
        }
        let mut steps = Vec::new();
        for source in &transfer.sources {
            let (step, shown) = self.one(keyword, transfer, &expanded, source, located)?;
            created_by.push_str(&format!(" {shown}"));
            steps.push(step);
        }
        created_by.push_str(&format!(" {} # buildkit", expanded.dest));
        let options = self.op(title, &[located.lines], &["file.base"]);
        let numeric =
            expanded.chown.as_deref().is_none_or(|o| o.split(':').all(|p| p.parse::<u32>().is_ok()));
        self.built.state = if transfer.link && numeric && transfer.chmod.is_none() {
            self.linked(steps, options)
        } else {
            self.built.state.file(steps, options)
        };
        self.record(created_by, Layer::Made);
        Ok(())
    }

    /// The copy of one source, and the source as the history shows it.
    fn one(
        &mut self,
        keyword: &str,
        transfer: &Transfer,
        expanded: &Expanded,
        source: &CopySource,
        located: &Located,
    ) -> Result<(FileStep, String), Fault> {
        let path = match source {
            CopySource::Heredoc(heredoc) => {
                let from = self.document(heredoc, located)?;
                let plain = Transfer { parents: false, ..transfer.clone() };
                let copy = action(&plain, expanded, &heredoc.name, Unpack::Never);
                return Ok((FileStep::Copy { from, copy }, format!("<<{}", heredoc.name)));
            }
            CopySource::Path(path) => self.expand(path)?,
        };
        let remote = if keyword == "ADD" && transfer.from.is_none() { Remote::detect(&path)? } else { None };
        if let Some(remote) = remote {
            return Ok((self.remote(transfer, expanded, remote, located)?, redact(&path)));
        }
        if expanded.checksum.is_some() {
            return Err(Fault::new("checksum requires HTTP(S) or Git sources"));
        }
        let unpack = if keyword == "ADD" { Unpack::Archives } else { Unpack::Never };
        let copy = action(transfer, expanded, &path, unpack);
        let from = self.from(transfer.from.as_deref(), located.lines)?;
        if transfer.from.is_none() {
            self.done.context_paths.insert(copy.src.clone());
        }
        Ok((FileStep::Copy { from, copy }, path))
    }

    /// The copy of a file of a server, or of a repository's tree.
    fn remote(
        &mut self,
        transfer: &Transfer,
        expanded: &Expanded,
        remote: Remote,
        located: &Located,
    ) -> Result<FileStep, Fault> {
        let titled = |url: &str| format!("{}{}", self.prefix_of_step(), redact(url));
        let (from, source) = match remote {
            Remote::File(url) => {
                let checksum = expanded.checksum.as_deref();
                if let Some(text) = checksum
                    && text.parse::<Digest>().is_err()
                {
                    return Err(Fault::new(format!("invalid checksum {text:?}"))
                        .hint("write sha256: and 64 hexadecimal digits"));
                }
                let (name, options) = (file_name(&url), self.op(titled(&url), &[located.lines], &[]));
                (file_state(&url, &name, checksum, options), name)
            }
            Remote::Git(mut git) => {
                if let Some(checksum) = &expanded.checksum {
                    if git.checksum.as_ref().is_some_and(|known| known != checksum) {
                        return Err(Fault::new("the checksum of the URL and that of --checksum differ"));
                    }
                    git.checksum = Some(checksum.clone());
                }
                git.keep_git_dir = transfer.keep_git_dir.or(git.keep_git_dir);
                if self.inputs.options.commit_times {
                    git = git.with_commit_times();
                }
                let options = self.op(titled(&git.url), &[located.lines], &[]);
                (git.state(options), String::new())
            }
        };
        let copy = pb::FileActionCopy {
            allow_wildcard: false,
            ..action(transfer, expanded, &source, Unpack::IfAsked)
        };
        Ok(FileStep::Copy { from, copy })
    }

    /// The files on their own, laid over what is there: a change below does not touch them.
    fn linked(&self, steps: Vec<FileStep>, mut options: OpOptions) -> State {
        let group = pb::ProgressGroup { id: options.name.clone(), name: options.name.clone(), weak: false };
        options.progress_group = Some(group);
        let merge = OpOptions { caps: vec!["mergeop"], ..options.clone() };
        let files = State::scratch().file(steps, options);
        State::merge(&[self.built.state.clone(), files], merge)
    }

    /// A text of the Dockerfile as a file of its own.
    fn document(&self, heredoc: &Heredoc, located: &Located) -> Result<State, Fault> {
        let mut content = heredoc.content.clone();
        if heredoc.expand {
            let lexer = Lexer::document(self.inputs.names.escape);
            content = lexer.expand(&content, &self.built.env)?.text;
        }
        let file = pb::FileActionMkFile {
            path: join("/", &heredoc.name),
            mode: 0o644,
            data: content.into_bytes(),
            owner: None,
            timestamp: -1,
        };
        let title = format!("{}preparing inline document", self.prefix_of_step());
        let options = self.op(title, &[located.lines], &["file.base"]);
        Ok(State::scratch().file(vec![FileStep::MakeFile(file)], options))
    }

    fn expand_transfer(&self, transfer: &Transfer) -> Result<Expanded, Fault> {
        let dest = self.expand(&transfer.dest)?;
        let chown = transfer.chown.as_ref().map(|o| self.expand(o)).transpose()?.filter(|o| !o.is_empty());
        let (mode, mode_text) = match &transfer.chmod {
            None => (-1, String::new()),
            Some(text) => chmod(&self.expand(text)?)?,
        };
        let checksum = transfer.checksum.as_ref().map(|text| self.expand(text)).transpose()?;
        if checksum.is_some() && transfer.sources.len() > 1 {
            return Err(Fault::new("checksum can't be specified for multiple sources"));
        }
        let exclude = transfer.exclude.iter().map(|e| self.expand(e)).collect::<Result<_, _>>()?;
        let dest = destination(self.workdir_path(), &dest);
        Ok(Expanded { dest, chown, mode, mode_text, exclude, checksum })
    }
}

/// A copy with the flags of the reference's frontend.
pub(in crate::dockerfile) fn copy_action(src: &str, dest: &str) -> pb::FileActionCopy {
    pb::FileActionCopy {
        src: src.to_owned(),
        dest: dest.to_owned(),
        mode: -1,
        follow_symlink: true,
        dir_copy_contents: true,
        create_dest_path: true,
        allow_wildcard: true,
        allow_empty_wildcard: true,
        timestamp: -1,
        ..pb::FileActionCopy::default()
    }
}

fn action(transfer: &Transfer, expanded: &Expanded, source: &str, unpack: Unpack) -> pb::FileActionCopy {
    let mut src = join("/", source);
    let (mut include_patterns, mut required_paths) = (Vec::new(), Vec::new());
    if transfer.parents {
        let (base, path) = source.split_once("/./").unwrap_or(("/", source));
        let path = join("/", path).trim_start_matches('/').to_owned();
        src = join("/", base);
        if !path.contains(['*', '?', '[']) && !path.is_empty() {
            required_paths.push(path.clone());
        }
        if !path.is_empty() {
            include_patterns.push(path);
        }
    }
    pb::FileActionCopy {
        owner: expanded.chown.as_deref().map(owner),
        mode: expanded.mode,
        mode_str: expanded.mode_text.clone(),
        include_patterns,
        exclude_patterns: expanded.exclude.clone(),
        required_paths,
        attempt_unpack_docker_compatibility: match unpack {
            Unpack::Never => false,
            Unpack::Archives => transfer.unpack.unwrap_or(true),
            Unpack::IfAsked => transfer.unpack.unwrap_or(false),
        },
        ..copy_action(&src, &expanded.dest)
    }
}

/// `user[:group]` by id or by name; names are looked up where the files go.
pub(super) fn owner(text: &str) -> pb::ChownOpt {
    let user = |text: &str| {
        let user = match text.parse::<u32>() {
            Ok(id) => pb::user_opt::User::ById(id),
            Err(_) => pb::user_opt::User::ByName(pb::NamedUserOpt { name: text.to_owned(), input: 0 }),
        };
        Some(pb::UserOpt { user: Some(user) })
    };
    match text.split_once(':') {
        Some((name, "")) => pb::ChownOpt { user: user(name), group: None },
        Some((name, group)) => pb::ChownOpt { user: user(name), group: user(group) },
        None => pb::ChownOpt { user: user(text), group: None },
    }
}

/// Absolute; a slash at the end says folder, and so does `.`.
fn destination(dir: &str, dest: &str) -> String {
    let path = join(dir, dest);
    let folder = dest.ends_with('/') || dest == "." || dest == ".." || dest.ends_with("/.");
    if folder && path != "/" { format!("{path}/") } else { path }
}

/// An octal mode; or symbolic ones, which the worker applies to each file's own.
fn chmod(text: &str) -> Result<(i32, String), Fault> {
    let octal = text.starts_with(|c: char| c.is_ascii_digit());
    if octal {
        if let Some(mode) = i32::from_str_radix(text, 8).ok().filter(|mode| (0..=0o7777).contains(mode)) {
            return Ok((mode, String::new()));
        }
    } else if !text.is_empty() && text.split(',').all(is_symbolic) {
        return Ok((-1, text.to_owned()));
    }
    Err(Fault::new(format!(
        "invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"
    )))
}

/// `[ugoa]*([-+=][rwxXst]*)+`
fn is_symbolic(clause: &str) -> bool {
    let rest = clause.trim_start_matches(['u', 'g', 'o', 'a']);
    rest.starts_with(['-', '+', '=']) && rest.chars().all(|c| "-+=rwxXstugo".contains(c))
}
