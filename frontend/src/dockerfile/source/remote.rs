//! Remote contexts: a tree of a repository, or what lies behind a URL: an archive, or a Dockerfile that is all there is.
//!
//! A tar on the client's standard input comes as a URL too, whose host is the session.

use std::collections::BTreeMap;

use buildd_api::{
    buildkit::pb,
    llb::{FileStep, State},
};
use buildd_oci::ErrorKind;

use super::{Client, Context, Files, Sources, dockerfile, missing, named, named_or_default};
use crate::{
    bridge::Bridge,
    dockerfile::{
        ignore,
        lower::copy_action,
        options::Options,
        remote::{GitRef, Remote, file_name, file_state, redact},
    },
    error::Error,
};

/// What the file behind a URL is called here.
const FILE: &str = "context";
/// The build argument that keeps `.git` of a context.
const KEEP_GIT_DIR: &str = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";

/// Loads a context that is not with the client.
pub(super) async fn load(options: &Options, client: Client, bridge: &dyn Bridge) -> Result<Sources, Error> {
    let refused = |reason: String| Error::Option { option: "context".to_owned(), reason };
    let remote = Remote::detect(&options.context).map_err(|fault| refused(fault.message))?;
    let tree = match remote {
        Some(Remote::Git(git)) => Tree {
            dated: repository(git.clone().with_commit_times(), options),
            state: repository(git, options),
            ignores: false,
        },
        Some(Remote::File(url)) => match file(&url, bridge).await? {
            Behind::Archive(state) => Tree { dated: state.clone(), state, ignores: true },
            Behind::Dockerfile { text, state } => {
                let filename = named_or_default(options);
                return Ok(Sources {
                    text,
                    filename,
                    vertex: state.digest().unwrap_or_default().to_owned(),
                    context: Context::Here(State::scratch()),
                    dated: Some(state),
                    inputs: BTreeMap::new(),
                    client,
                });
            }
        },
        None => {
            let shown = redact(&options.context);
            return Err(refused(format!("{shown:?} is neither a repository nor an http or https URL")));
        }
    };
    tree.sources(options, client, bridge).await
}

/// The tree of a named context at a URL.
pub(super) async fn tree(url: &str, options: &Options, bridge: &dyn Bridge) -> Result<State, Error> {
    let refused = |reason: String| Error::Option { option: "context".to_owned(), reason };
    match Remote::detect(url).map_err(|fault| refused(fault.message))? {
        Some(Remote::Git(git)) => Ok(repository(git, options)),
        _ => match file(url, bridge).await? {
            Behind::Archive(state) => Ok(state),
            Behind::Dockerfile { .. } => {
                let title = format!("[internal] load {}", redact(url));
                Ok(file_state(url, &file_name(url), None, named(&title, &[])))
            }
        },
    }
}

/// A tree that is the context.
struct Tree {
    state: State,
    /// The same with files that have times of their own.
    dated: State,
    /// Whether its own ignore file counts.
    ignores: bool,
}

impl Tree {
    async fn sources(self, options: &Options, client: Client, bridge: &dyn Bridge) -> Result<Sources, Error> {
        let mut state = self.state;
        if !options.context_subdir.is_empty() {
            let steps = vec![FileStep::Copy { from: state, copy: copy_action(&options.context_subdir, "/") }];
            let title = format!("[internal] take {} of the context", options.context_subdir);
            state = State::scratch().file(steps, named(&title, &["file.base"]));
        }
        let filename = named_or_default(options);
        let files = Files::build(&state, bridge, &filename).await?;
        let (text, vertex) = if options.dockerfile_key.is_empty() {
            (files.text(options, &filename).await?, state.digest().unwrap_or_default().to_owned())
        } else {
            let (_, text, vertex) = dockerfile(options, &client, &filename, &BTreeMap::new(), bridge).await?;
            (text, vertex)
        };
        let ignore = match self.ignores {
            false => None,
            true => match files.read(&format!("{filename}.dockerignore")).await? {
                Some(text) => Some(text),
                None => files.read(".dockerignore").await?,
            },
        };
        let context = Context::Here(ignore.map_or_else(|| state.clone(), |ignore| without(&state, &ignore)));
        let dated = Some(self.dated);
        Ok(Sources { text, filename, vertex, context, dated, inputs: BTreeMap::new(), client })
    }
}

/// The tree without what an ignore file names.
fn without(tree: &State, ignore: &[u8]) -> State {
    let exclude_patterns = ignore::patterns(&String::from_utf8_lossy(ignore));
    let copy = pb::FileActionCopy { exclude_patterns, ..copy_action("/", "/") };
    let steps = vec![FileStep::Copy { from: tree.clone(), copy }];
    State::scratch().file(steps, named("[internal] apply .dockerignore", &["file.base"]))
}

/// A repository as a context.
fn repository(mut git: GitRef, options: &Options) -> State {
    let asked = options.build_args.get(KEEP_GIT_DIR).map(|value| matches!(value.as_str(), "1" | "true"));
    git.keep_git_dir = git.keep_git_dir.or(asked);
    if options.commit_times {
        git = git.with_commit_times();
    }
    let title = format!("[internal] load git source {}", redact(&git.url));
    git.state(named(&title, &[]))
}

/// What lies behind a URL.
enum Behind {
    /// An archive, unpacked.
    Archive(State),
    /// A Dockerfile.
    Dockerfile {
        /// Its bytes.
        text: Vec<u8>,
        /// The file.
        state: State,
    },
}

/// Looks at what lies behind a URL.
async fn file(url: &str, bridge: &dyn Bridge) -> Result<Behind, Error> {
    let attrs = BTreeMap::from([("http.filename".to_owned(), FILE.to_owned())]);
    let state = State::source(url, attrs, named("[internal] load remote build context", &["source.http"]));
    let files = Files::build(&state, bridge, &redact(url)).await?;
    // Longer than any Dockerfile is an archive.
    let text = match files.read(FILE).await {
        Ok(text) => text.ok_or_else(|| missing(&redact(url)))?,
        Err(Error::Read { source, .. }) if source.kind == ErrorKind::ResourceExhausted => Vec::new(),
        Err(error) => return Err(error),
    };
    if !text.is_empty() && !is_archive(&text) {
        return Ok(Behind::Dockerfile { text, state });
    }
    let copy = pb::FileActionCopy {
        attempt_unpack_docker_compatibility: true,
        ..copy_action(&format!("/{FILE}"), "/")
    };
    let steps = vec![FileStep::Copy { from: state, copy }];
    Ok(Behind::Archive(
        State::scratch().file(steps, named("[internal] unpack build context", &["file.base"])),
    ))
}

fn is_archive(bytes: &[u8]) -> bool {
    const MAGIC: [&[u8]; 4] = [b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"];
    MAGIC.iter().any(|magic| bytes.starts_with(magic)) || bytes.get(257..262) == Some(b"ustar")
}
