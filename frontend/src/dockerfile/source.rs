//! Sources of a build: the Dockerfile, the ignore file and the context, wherever the client keeps them.
//!
//! Usually two local sources of the session, `dockerfile` and `context`; or a URL of a repository, an archive or a Dockerfile ([`remote`]).

use std::collections::BTreeMap;

use buildd_api::{
    error_detail::{Source, SourceText},
    llb::{OpOptions, State},
};
use buildd_oci::ErrorKind;

use super::{ignore, options::Options, stage::Base};
use crate::{
    FrontendRequest,
    bridge::{Bridge, BridgeError},
    error::{Error, Fault},
};

mod remote;

/// Bytes a Dockerfile or an ignore file may have.
const MAX_TEXT: usize = 4 << 20;
/// Bytes of an ignore file that is told to the daemon once more; in longer ones no line is named.
const MAX_DESCRIBED: usize = 64 << 10;
const DEFAULT_FILENAME: &str = "Dockerfile";

/// What a build reads.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The Dockerfile.
    pub text: Vec<u8>,
    /// Its name.
    pub filename: String,
    /// The vertex that loaded it.
    pub vertex: String,
    /// Where COPY finds its files.
    pub context: Context,
    session: String,
}

/// Where COPY finds its files.
#[derive(Clone, Debug)]
pub enum Context {
    /// With the client.
    Local {
        /// What stays there.
        ignore: Option<IgnoreFile>,
    },
    /// Already here.
    Here(State),
}

/// An ignore file.
#[derive(Clone, Debug)]
pub struct IgnoreFile {
    name: String,
    text: String,
}

impl IgnoreFile {
    fn new(name: String, text: &[u8]) -> Self {
        Self { name, text: String::from_utf8_lossy(text).into_owned() }
    }

    /// Goes with the context's vertex, so that the daemon can name the line that hides a missing file.
    fn describe(&self) -> Vec<(String, String)> {
        match self.text.len() <= MAX_DESCRIBED {
            true => vec![
                (ignore::NAME_KEY.to_owned(), self.name.clone()),
                (ignore::TEXT_KEY.to_owned(), self.text.clone()),
            ],
            false => Vec::new(),
        }
    }
}

impl Sources {
    /// Loads the Dockerfile and the ignore file.
    pub async fn load(
        request: &FrontendRequest,
        options: &Options,
        bridge: &dyn Bridge,
    ) -> Result<Self, Error> {
        let session = request.session_id.clone();
        if !options.context.is_empty() {
            return remote::load(options, session, bridge).await;
        }
        let filename = named_or_default(options);
        let ignore_name = format!("{filename}.dockerignore");
        let (files, text, vertex) = dockerfile(options, &session, &filename, bridge).await?;
        let ignore = match files.read(&ignore_name).await? {
            Some(text) => Some(IgnoreFile::new(ignore_name, &text)),
            None => ignore_file("context", &session, bridge).await?,
        };
        Ok(Self { text, filename, vertex, context: Context::Local { ignore }, session })
    }

    /// The main context, with only `paths` of it; all of it if they name the root.
    pub fn context(&self, paths: &std::collections::BTreeSet<String>) -> State {
        match &self.context {
            Context::Here(state) => state.clone(),
            Context::Local { ignore } => {
                let mut follow: Vec<String> =
                    paths.iter().map(|p| p.trim_start_matches('/').to_owned()).collect();
                if follow.iter().any(String::is_empty) {
                    follow.clear();
                }
                local("context", &self.session, "[internal] load build context", ignore.as_ref(), &follow)
            }
        }
    }

    /// The ignore file of the main context.
    pub fn ignore_text(&self) -> Option<&str> {
        match &self.context {
            Context::Local { ignore } => ignore.as_ref().map(|ignore| ignore.text.as_str()),
            Context::Here(_) => None,
        }
    }

    /// The tree of a named context that is no image.
    pub async fn named_context(
        &self,
        base: &Base,
        options: &Options,
        bridge: &dyn Bridge,
    ) -> Result<State, Error> {
        let name = match base {
            Base::Remote(url) => return remote::tree(url, options, bridge).await,
            Base::Local(name) => name,
            Base::Scratch | Base::Stage(_) | Base::Image(_) => return Ok(State::scratch()),
        };
        let ignore = ignore_file(name, &self.session, bridge).await?;
        let title = format!("[context {name}] load from client");
        Ok(local(name, &self.session, &title, ignore.as_ref(), &[]))
    }

    /// A fault of the Dockerfile as an error that clients can show with the text.
    pub fn error(&self, fault: Fault) -> Error {
        let location = Box::new(self.location(&fault.lines));
        Error::Dockerfile { fault, location }
    }

    /// The text, and places in it.
    pub fn location(&self, lines: &[crate::error::Lines]) -> Source {
        let info = SourceText {
            filename: self.filename.clone(),
            data: self.text.clone(),
            language: "Dockerfile".to_owned(),
        };
        Source { info, ranges: lines.iter().map(|lines| lines.to_range()).collect() }
    }
}

fn named_or_default(options: &Options) -> String {
    let name = if options.filename.is_empty() { DEFAULT_FILENAME } else { &options.filename };
    name.trim_start_matches("./").to_owned()
}

/// The client's Dockerfile, with the files beside it and the vertex that loaded them.
async fn dockerfile<'a>(
    options: &Options,
    session: &str,
    filename: &str,
    bridge: &'a dyn Bridge,
) -> Result<(Files<'a>, Vec<u8>, String), Error> {
    let mut paths = vec![filename.to_owned(), format!("{filename}.dockerignore")];
    if options.filename.is_empty() {
        paths.push(filename.to_lowercase());
    }
    let local = if options.dockerfile_key.is_empty() { "dockerfile" } else { &options.dockerfile_key };
    let name = format!("[internal] load build definition from {filename}");
    let mut attrs = local_attrs(session, local, &paths);
    attrs.insert("local.differ".to_owned(), "none".to_owned());
    let state = State::source(&format!("local://{local}"), attrs, named(&name, &["source.local"]));
    let files = Files::build(&state, bridge, filename).await?;
    let text = files.text(options, filename).await?;
    Ok((files, text, state.digest().unwrap_or_default().to_owned()))
}

async fn ignore_file(name: &str, session: &str, bridge: &dyn Bridge) -> Result<Option<IgnoreFile>, Error> {
    const IGNORE: &str = ".dockerignore";
    let mut attrs = local_attrs(session, &format!("{name}-{IGNORE}"), &[IGNORE.to_owned()]);
    attrs.insert("local.differ".to_owned(), "none".to_owned());
    let title = match name {
        "context" => "[internal] load .dockerignore".to_owned(),
        _ => format!("[context {name}] load .dockerignore"),
    };
    let state = State::source(&format!("local://{name}"), attrs, named(&title, &["source.local"]));
    let text = Files::build(&state, bridge, IGNORE).await?.read(IGNORE).await?;
    Ok(text.map(|text| IgnoreFile::new(IGNORE.to_owned(), &text)))
}

fn local(name: &str, session: &str, title: &str, ignore: Option<&IgnoreFile>, follow: &[String]) -> State {
    let mut attrs = local_attrs(session, name, follow);
    let mut options = named(title, &["source.local"]);
    if let Some(ignore) = ignore {
        let exclude = ignore::patterns(&ignore.text);
        if !exclude.is_empty() {
            attrs.insert("local.excludepatterns".to_owned(), json(&exclude));
            options.description = ignore.describe();
        }
    }
    State::source(&format!("local://{name}"), attrs, options)
}

fn local_attrs(session: &str, hint: &str, follow: &[String]) -> BTreeMap<String, String> {
    let mut attrs = BTreeMap::from([("local.sharedkeyhint".to_owned(), hint.to_owned())]);
    if !session.is_empty() {
        attrs.insert("local.session".to_owned(), session.to_owned());
    }
    if !follow.is_empty() {
        attrs.insert("local.followpaths".to_owned(), json(follow));
    }
    attrs
}

fn json(list: &[String]) -> String {
    serde_json::to_string(list).expect("strings have a JSON form")
}

fn named(name: &str, caps: &[&'static str]) -> OpOptions {
    OpOptions { name: name.to_owned(), caps: caps.to_vec(), ..OpOptions::default() }
}

fn missing(name: &str) -> Error {
    let cause =
        std::io::Error::new(std::io::ErrorKind::NotFound, format!("open {name}: no such file or directory"));
    let source = BridgeError { kind: ErrorKind::NotFound, cause: std::sync::Arc::new(cause) };
    Error::Read { what: name.to_owned(), source }
}

/// A built source whose files are read.
struct Files<'a> {
    bridge: &'a dyn Bridge,
    built: crate::bridge::BridgeRef,
}

impl<'a> Files<'a> {
    async fn build(state: &State, bridge: &'a dyn Bridge, what: &str) -> Result<Self, Error> {
        let definition = state.marshal(None).unwrap_or_default();
        let built =
            bridge.solve(definition).await.map_err(|source| Error::Read { what: what.to_owned(), source })?;
        Ok(Self { bridge, built })
    }

    /// The Dockerfile: under its name, or in small letters if no name was asked for.
    async fn text(&self, options: &Options, filename: &str) -> Result<Vec<u8>, Error> {
        match self.read(filename).await? {
            Some(text) => Ok(text),
            None if options.filename.is_empty() => {
                self.read(&filename.to_lowercase()).await?.ok_or_else(|| missing(filename))
            }
            None => Err(missing(filename)),
        }
    }

    /// The bytes of a file; none if it is not there.
    async fn read(&self, path: &str) -> Result<Option<Vec<u8>>, Error> {
        match self.bridge.read_file(&self.built, path, MAX_TEXT).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Read { what: path.to_owned(), source }),
        }
    }
}
