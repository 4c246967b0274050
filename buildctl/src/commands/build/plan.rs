//! Plan: the flags of `build` turned into one solve request and what the session serves.
//!
//! A PATH or one of docker's flags means docker's way, `--frontend` BuildKit's; neither, with a pipe on standard input, an LLB definition.

use std::{collections::BTreeMap, io::IsTerminal as _, path::PathBuf};

use anyhow::{Context as _, Result, bail};
use buildd_api::buildkit::{moby::buildkit::v1::SolveRequest, pb::Definition};
use buildd_frontend::request::{BUILD_ARGUMENT, DOCKERFILE_FRONTEND, EPOCH_ARGUMENT};
use buildd_oci::reference::Reference;
use prost::Message as _;
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;

use super::{
    BuildArgs,
    call::Call,
    context::{self, Sources},
    output::Output,
};
use crate::{
    output::parse_size,
    session::{Agent, Secret, SessionOptions},
};

/// Largest definition on standard input: a message of the wire.
const DEFINITION_BYTES: u64 = 16 << 20;

/// All that a build needs but the connection.
#[derive(Debug)]
pub(super) struct Plan {
    /// The request, without its ids.
    pub(super) request: SolveRequest,
    /// What the session serves.
    pub(super) session: SessionOptions,
    /// Folders that live as long as the build.
    pub(super) temporary: Vec<TempDir>,
    /// Whether a failed step opens a shell.
    pub(super) shell_on_error: bool,
    /// What is asked instead of a build.
    pub(super) call: Option<Call>,
}

/// Makes the plan.
pub(super) async fn plan(args: &BuildArgs) -> Result<Plan> {
    let mut opts = BTreeMap::new();
    let (frontend, mut sources, definition) = chosen(args, &mut opts).await?;
    // As BuildKit's client does: the variable by which all tools are told.
    if let (false, Ok(epoch)) = (frontend.is_empty(), std::env::var(EPOCH_ARGUMENT)) {
        opts.entry(format!("{BUILD_ARGUMENT}{EPOCH_ARGUMENT}")).or_insert(epoch);
    }
    opts.append(&mut sources.opts);
    for opt in &args.opt {
        let (key, value) = pair("--opt", opt)?;
        opts.insert(key, value);
    }
    named_sources(args, &mut opts, &mut sources)?;
    if args.explain_cache {
        opts.insert("explain-cache".to_owned(), "true".to_owned());
    }
    let call = match &args.call {
        Some(text) => Call::parse(text)?,
        None => args.check.then(Call::check),
    };
    opts.extend(call.as_ref().map(Call::option));
    // A question makes nothing.
    let outputs = if call.is_some() { Vec::new() } else { outputs(args)? };
    let secrets = args.secret.iter().map(|text| Secret::parse(text)).collect::<Result<_>>()?;
    let mut agents = BTreeMap::new();
    for text in &args.ssh {
        let (id, agent) = Agent::open(text).await?;
        agents.insert(id, agent);
    }
    let request = SolveRequest {
        definition,
        frontend,
        frontend_attrs: opts.into_iter().collect(),
        entitlements: entitlements(args),
        exporters: outputs.iter().map(|output| output.exporter.clone()).collect(),
        ..SolveRequest::default()
    };
    let session = SessionOptions {
        shared_key: shared_key(sources.locals.get("context")),
        locals: sources.locals,
        layouts: sources.layouts,
        secrets,
        agents,
        targets: outputs.into_iter().map(|output| output.target).collect(),
        upload: sources.upload,
    };
    let shell_on_error = args.on_error == "shell";
    Ok(Plan { request, session, temporary: sources.temporary, shell_on_error, call })
}

/// What is built: by which frontend from which folders, or from which definition.
async fn chosen(
    args: &BuildArgs,
    opts: &mut BTreeMap<String, String>,
) -> Result<(String, Sources, Option<Definition>)> {
    let mut sources = Sources::default();
    let mut definition = None;
    let mut frontend = String::new();
    if let Some(name) = &args.frontend {
        frontend.clone_from(name);
        if args.path.is_some() {
            bail!("with --frontend folders are named by --local NAME=DIR, not by PATH");
        }
        dockers_flags(args, opts)?;
    } else if args.path.is_some() || docker_flag(args) {
        DOCKERFILE_FRONTEND.clone_into(&mut frontend);
        let Some(path) = &args.path else { bail!("PATH is missing: `buildctl build .` builds this folder") };
        sources = context::find(path, args.file.as_deref())?;
        dockers_flags(args, opts)?;
    } else if std::io::stdin().is_terminal() {
        bail!(
            "nothing to build: give a PATH (`buildctl build .`), or --frontend, or an LLB definition on standard input"
        );
    } else {
        definition = Some(read_definition().await?);
    }
    Ok((frontend, sources, definition))
}

/// Adds the folders, layouts and images that flags name.
fn named_sources(args: &BuildArgs, opts: &mut BTreeMap<String, String>, sources: &mut Sources) -> Result<()> {
    for local in &args.local {
        let (name, dir) = pair("--local", local)?;
        if !PathBuf::from(&dir).is_dir() {
            bail!("--local {name}: {dir} is not a folder");
        }
        sources.locals.insert(name, dir.into());
    }
    for text in &args.oci_layout {
        let (name, dir) = pair("--oci-layout", text)?;
        if !PathBuf::from(&dir).join("index.json").is_file() {
            bail!("--oci-layout {name}: {dir} is no OCI layout: it has no index.json");
        }
        sources.layouts.insert(name, dir.into());
    }
    for text in &args.build_context {
        let (name, value) = pair("--build-context", text)?;
        context::named(&name, &value, opts, sources)?;
    }
    Ok(())
}

/// Whether a flag was given that only docker's way has.
fn docker_flag(args: &BuildArgs) -> bool {
    !args.tags.is_empty()
        || args.file.is_some()
        || args.target.is_some()
        || !args.build_arg.is_empty()
        || !args.label.is_empty()
        || args.pull
        || args.push
        || args.load
        || !args.platform.is_empty()
        || !args.add_host.is_empty()
        || args.network.is_some()
        || args.call.is_some()
        || args.check
        || !args.build_context.is_empty()
}

/// Docker's flags as the Dockerfile frontend's options.
fn dockers_flags(args: &BuildArgs, opts: &mut BTreeMap<String, String>) -> Result<()> {
    let mut set = |key: &str, value: String| opts.insert(key.to_owned(), value);
    if let Some(target) = &args.target {
        set("target", target.clone());
    }
    for text in &args.build_arg {
        match text.split_once('=') {
            Some((key, value)) => drop(set(&format!("{BUILD_ARGUMENT}{key}"), value.to_owned())),
            // Without a value the environment's counts; not there either, the argument stays unset.
            None => {
                if let Ok(value) = std::env::var(text) {
                    set(&format!("{BUILD_ARGUMENT}{text}"), value);
                }
            }
        }
    }
    for text in &args.label {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        set(&format!("label:{key}"), value.to_owned());
    }
    if args.no_cache || !args.no_cache_filter.is_empty() {
        let stages = if args.no_cache { String::new() } else { args.no_cache_filter.join(",") };
        set("no-cache", stages);
    }
    if args.pull {
        set("image-resolve-mode", "pull".to_owned());
    }
    if !args.platform.is_empty() {
        set("platform", args.platform.join(","));
    }
    if !args.add_host.is_empty() {
        let hosts = args.add_host.iter().map(|text| host(text)).collect::<Result<Vec<_>>>()?;
        set("add-hosts", hosts.join(","));
    }
    if let Some(mode) = args.network.as_deref().filter(|mode| *mode != "default") {
        set("force-network-mode", mode.to_owned());
    }
    if let Some(size) = &args.shm_size {
        set("shm-size", parse_size(size).context("--shm-size")?.to_string());
    }
    if let Some(parent) = &args.cgroup_parent {
        set("cgroup-parent", parent.clone());
    }
    for (key, value) in args.limits.options()? {
        set(key, value);
    }
    if !args.ulimit.is_empty() {
        set("ulimit", args.ulimit.join(","));
    }
    Ok(())
}

/// `NAME:ADDRESS` or `NAME=ADDRESS` as the frontend reads it.
fn host(text: &str) -> Result<String> {
    let split = text.split_once('=').or_else(|| text.split_once(':'));
    match split {
        Some((name, address)) if !name.is_empty() && !address.is_empty() => {
            Ok(format!("{name}={}", address.trim_start_matches('[').trim_end_matches(']')))
        }
        _ => bail!("--add-host {text:?} is not NAME:ADDRESS"),
    }
}

fn entitlements(args: &BuildArgs) -> Vec<String> {
    let mut granted = args.allow.clone();
    let host = "network.host";
    // Asking for the host's network on the command line is granting it; the daemon's configuration still has the last word.
    if args.network.as_deref() == Some("host") && !granted.iter().any(|name| name == host) {
        granted.push(host.to_owned());
    }
    granted
}

/// The outputs, with the names of `-t` put where they belong.
fn outputs(args: &BuildArgs) -> Result<Vec<Output>> {
    let mut outputs = args.output.iter().map(|text| Output::parse(text)).collect::<Result<Vec<_>>>()?;
    if args.tags.is_empty() {
        if args.push {
            bail!("--push needs a name: -t NAME");
        }
        return Ok(outputs);
    }
    let mut names = Vec::new();
    for tag in &args.tags {
        let reference = Reference::parse(tag).with_context(|| format!("-t {tag:?}"))?.with_default_tag();
        names.push(reference.to_string());
    }
    let names = names.join(",");
    if outputs.is_empty() || args.push || args.load {
        outputs.push(Output::image(&names, args.push));
    }
    for output in &mut outputs {
        if matches!(output.exporter.r#type.as_str(), "image" | "oci" | "docker") {
            output.exporter.attrs.entry("name".to_owned()).or_insert_with(|| names.clone());
        }
    }
    Ok(outputs)
}

fn pair(flag: &str, text: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => bail!("{flag} {text:?} is not KEY=VALUE"),
    }
}

/// The same for each build of a folder, so that the daemon finds what it received before.
fn shared_key(context: Option<&PathBuf>) -> String {
    let Some(path) = context.and_then(|path| path.canonicalize().ok()) else { return String::new() };
    buildd_oci::digest::Digest::of(path.as_os_str().as_encoded_bytes()).hex()
}

async fn read_definition() -> Result<Definition> {
    let mut bytes = Vec::new();
    let mut stdin = tokio::io::stdin().take(DEFINITION_BYTES + 1);
    stdin.read_to_end(&mut bytes).await.context("read standard input")?;
    if bytes.is_empty() {
        bail!("nothing to build: give a PATH (`buildctl build .`); standard input is empty");
    }
    if bytes.len() as u64 > DEFINITION_BYTES {
        bail!("the LLB definition on standard input is larger than {DEFINITION_BYTES} bytes");
    }
    Definition::decode(bytes.as_slice()).context("standard input is no LLB definition")
}
