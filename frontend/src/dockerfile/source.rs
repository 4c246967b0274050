//! Sources of a build: the Dockerfile, the ignore file and the context, wherever the client keeps them.
//!
//! Usually two local sources of the session, `dockerfile` and `context`; or a URL of a repository, an archive or a Dockerfile ([`remote`]).

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use buildd_api::{
    buildkit::pb,
    error_detail::{Source, SourceText},
    llb::{OpOptions, State},
};
use buildd_oci::{ErrorKind, config::ImageConfig};

use super::{ignore, lower::Tree, options::Options, stage::Base};
use crate::{
    FrontendRequest,
    bridge::{Bridge, BridgeError},
    error::{Error, Fault},
    request::IMAGE_CONFIG_KEY,
};

mod client;
mod remote;

use client::Client;

/// Bytes a Dockerfile or an ignore file may have.
const MAX_TEXT: usize = 4 << 20;
/// Bytes of an ignore file that is told to the daemon once more; in longer ones no line is named.
const MAX_DESCRIBED: usize = 64 << 10;
const DEFAULT_FILENAME: &str = "Dockerfile";
const MAIN_IGNORE: &str = "[internal] load .dockerignore";

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
    /// The main context with files that have times of their own; none of one that is with the client.
    pub dated: Option<State>,
    /// Definitions that the client sent.
    inputs: BTreeMap<String, State>,
    /// Whose files the local ones are.
    pub client: Client,
}

/// Where COPY finds its files.
#[derive(Clone, Debug)]
pub enum Context {
    /// With the client.
    Local {
        /// The client's name for it.
        name: String,
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
        let client = Client::of(request, options);
        let inputs = inputs(request)?;
        if !options.context.is_empty() {
            let sources = remote::load(options, client, bridge).await?;
            return Ok(Self { inputs, ..sources });
        }
        let filename = named_or_default(options);
        let context_name = &options.context_key;
        let (files, text, vertex) = dockerfile(options, &client, &filename, &inputs, bridge).await?;
        let context = match inputs.get(context_name.as_str()) {
            Some(context) => Context::Here(context.clone()),
            None => {
                let ignore_name = format!("{filename}.dockerignore");
                let ignore = match files.read(&ignore_name).await? {
                    Some(text) => Some(IgnoreFile::new(ignore_name, &text)),
                    None => ignore_file(context_name, MAIN_IGNORE, &client, bridge).await?,
                };
                Context::Local { name: context_name.clone(), ignore }
            }
        };
        let dated = inputs.get(context_name.as_str()).cloned();
        Ok(Self { text, filename, vertex, context, dated, inputs, client })
    }

    /// The main context, with only `paths` of it; all of it if they name the root.
    pub fn context(&self, paths: &std::collections::BTreeSet<String>) -> State {
        match &self.context {
            Context::Here(state) => state.clone(),
            Context::Local { name, ignore } => {
                let mut follow: Vec<String> =
                    paths.iter().map(|p| p.trim_start_matches('/').to_owned()).collect();
                if follow.iter().any(String::is_empty) {
                    follow.clear();
                }
                local(name, &self.client, "[internal] load build context", ignore.as_ref(), &follow)
            }
        }
    }

    /// The ignore file of the main context.
    pub fn ignore_text(&self) -> Option<&str> {
        match &self.context {
            Context::Local { ignore, .. } => ignore.as_ref().map(|ignore| ignore.text.as_str()),
            Context::Here(_) => None,
        }
    }

    /// The tree of a named context that is no image.
    pub async fn named_context(
        &self,
        base: &Base,
        options: &Options,
        bridge: &dyn Bridge,
    ) -> Result<Tree, Error> {
        let state = match base {
            Base::Remote(url) => remote::tree(url, options, bridge).await?,
            Base::Input(name) => return self.input(name, options),
            Base::Local(name) => {
                let title = format!("[context {name}] load .dockerignore");
                let ignore = ignore_file(name, &title, &self.client, bridge).await?;
                let title = format!("[context {name}] load from client");
                local(name, &self.client, &title, ignore.as_ref(), &[])
            }
            Base::Scratch | Base::Stage(_) | Base::Image(_) => State::scratch(),
        };
        Ok(Tree { state, image: None })
    }

    /// What a definition of the client makes, with the config that the client knows of it.
    fn input(&self, name: &str, options: &Options) -> Result<Tree, Error> {
        let refused = |option: String, reason: String| Error::Option { option, reason };
        let state = self.inputs.get(name).cloned().ok_or_else(|| {
            refused(format!("input:{name}"), "no definition of that name came with the request".to_owned())
        })?;
        let Some(text) = options.input_metadata.get(name) else { return Ok(Tree { state, image: None }) };
        let image = config_of(text).map_err(|reason| refused(format!("input-metadata:{name}"), reason))?;
        Ok(Tree { state, image })
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

/// The definitions of a request as states.
fn inputs(request: &FrontendRequest) -> Result<BTreeMap<String, State>, Error> {
    let state = |(name, definition): (&String, &pb::Definition)| match State::of_definition(definition) {
        Ok(state) => Ok((name.clone(), state)),
        Err(error) => Err(Error::Option { option: format!("input {name}"), reason: error.to_string() }),
    };
    request.inputs.iter().map(state).collect()
}

/// The config in the metadata of a definition, if there is one: values are base64, as Go writes bytes in JSON.
fn config_of(metadata: &str) -> Result<Option<(ImageConfig, Vec<u8>)>, String> {
    let values: BTreeMap<String, String> =
        serde_json::from_str(metadata).map_err(|error| error.to_string())?;
    let Some(text) = values.get(IMAGE_CONFIG_KEY) else { return Ok(None) };
    let raw = STANDARD.decode(text).map_err(|error| format!("{IMAGE_CONFIG_KEY}: {error}"))?;
    let config = ImageConfig::parse(&raw).map_err(|error| format!("{IMAGE_CONFIG_KEY}: {error}"))?;
    Ok(Some((config, raw)))
}

fn dockerfile_name(options: &Options) -> &str {
    if options.dockerfile_key.is_empty() { "dockerfile" } else { &options.dockerfile_key }
}

/// The client's Dockerfile, with the files beside it and the vertex that loaded them.
async fn dockerfile<'a>(
    options: &Options,
    client: &Client,
    filename: &str,
    inputs: &BTreeMap<String, State>,
    bridge: &'a dyn Bridge,
) -> Result<(Files<'a>, Vec<u8>, String), Error> {
    let mut paths = vec![filename.to_owned(), format!("{filename}.dockerignore")];
    if options.filename.is_empty() {
        paths.push(filename.to_lowercase());
    }
    let local = dockerfile_name(options);
    if let Some(state) = inputs.get(local) {
        let files = Files::build(state, bridge, filename).await?;
        let text = files.text(options, filename).await?;
        return Ok((files, text, state.digest().unwrap_or_default().to_owned()));
    }
    let name = format!("[internal] load build definition from {filename}");
    let mut attrs = client.attrs(local, "", &paths);
    attrs.insert("local.differ".to_owned(), "none".to_owned());
    let state = State::source(&format!("local://{local}"), attrs, named(&name, &["source.local"]));
    let files = Files::build(&state, bridge, filename).await?;
    let text = files.text(options, filename).await?;
    Ok((files, text, state.digest().unwrap_or_default().to_owned()))
}

async fn ignore_file(
    name: &str,
    title: &str,
    client: &Client,
    bridge: &dyn Bridge,
) -> Result<Option<IgnoreFile>, Error> {
    const IGNORE: &str = ".dockerignore";
    let mut attrs = client.attrs(name, "-.dockerignore", &[IGNORE.to_owned()]);
    attrs.insert("local.differ".to_owned(), "none".to_owned());
    let state = State::source(&format!("local://{name}"), attrs, named(title, &["source.local"]));
    let text = Files::build(&state, bridge, IGNORE).await?.read(IGNORE).await?;
    Ok(text.map(|text| IgnoreFile::new(IGNORE.to_owned(), &text)))
}

fn local(name: &str, client: &Client, title: &str, ignore: Option<&IgnoreFile>, follow: &[String]) -> State {
    let mut attrs = client.attrs(name, "", follow);
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
