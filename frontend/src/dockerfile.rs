//! The Dockerfile frontend: text, lines, instructions, stages, LLB.
//!
//! [`solve`] is the road from a client's options to the definitions that the daemon executes. Stations: [`options`], [`source`] (asks the
//! daemon for the text), [`lines`], [`instruction`], [`stage`] (what is needed, in which order), images' configs, [`lower`]. Beside the road
//! stand the checks of [`lint`], and [`outline`], which tells what a build can be told.
//!
//! # Sources
//! moby/buildkit `frontend/dockerfile`: what a text means, what clients are shown.

pub mod args;
pub mod ast;
mod epoch;
pub mod expand;
pub mod fmt;
mod heirs;
pub mod ignore;
pub mod image;
pub mod instruction;
pub mod lines;
pub mod lint;
pub mod lower;
pub mod named;
pub mod options;
pub mod outline;
pub mod remote;
mod resolve;
pub mod source;
pub mod stage;
mod subrequest;
pub mod syntax;
mod variables;

use std::collections::BTreeMap;

use buildd_api::{buildkit::pb, llb};
use buildd_oci::platform::Platform;

use self::{
    instruction::Located,
    lines::Document,
    lower::Image,
    options::Options,
    source::Sources,
    stage::{ImageName, Planned, Stage, StageNames},
    syntax::Foreign,
};
use crate::{
    Bridge, Error, FrontendRequest, FrontendResult,
    bridge::Warning,
    request::{
        BASE_CONFIG_KEY, CMDLINE_OPTION, EPOCH_KEY, IMAGE_CONFIG_KEY, PLATFORMS_KEY, REQUEST_OPTION,
        SOURCE_OPTION,
    },
};

/// The build argument that asks for a cache in the image.
const INLINE_CACHE: &str = "BUILDKIT_INLINE_CACHE";

/// A text taken apart.
struct Program {
    document: Document,
    meta: Vec<Located>,
    stages: Vec<Stage>,
    names: StageNames,
    target: usize,
}

pub use subrequest::check_text;

/// One platform's result.
struct Solved {
    definition: Option<pb::Definition>,
    config: Vec<u8>,
    base_config: Option<Vec<u8>>,
    epoch: Option<i64>,
    plan: BTreeMap<usize, Planned>,
    images: BTreeMap<ImageName, Image>,
}

/// Builds what `request` asks for.
pub async fn solve(request: &FrontendRequest, bridge: &dyn Bridge) -> Result<FrontendResult, Error> {
    let options = Options::parse(&request.opts)?;
    let asked = request.opts.get(REQUEST_OPTION);
    if asked.is_some_and(|name| name == subrequest::DESCRIBE) {
        return Ok(subrequest::describe());
    }
    let sources = Sources::load(request, &options, bridge).await?;
    if let Some(Foreign { image, cmdline, .. }) = syntax::foreign(&sources.text, &options) {
        let mut request = request.clone();
        request.opts.insert(SOURCE_OPTION.to_owned(), image.clone());
        request.opts.insert(CMDLINE_OPTION.to_owned(), cmdline);
        let result = bridge.frontend_image(request).await;
        return result.map_err(|source| Error::Frontend { image, source });
    }
    if let Some(name) = asked {
        return subrequest::answer(name, &sources, &options, bridge).await;
    }
    if options.build_args.get(INLINE_CACHE).is_some_and(|value| matches!(value.as_str(), "1" | "true")) {
        let short = format!("{INLINE_CACHE} has no effect: no cache is exported");
        bridge.warn(&sources.vertex, Warning { short, ..Warning::default() }).await;
    }
    build(&sources, &options, bridge).await
}

/// What the text builds, for each platform.
async fn build(sources: &Sources, options: &Options, bridge: &dyn Bridge) -> Result<FrontendResult, Error> {
    let program = program(sources, options).map_err(|fault| sources.error(fault))?;
    let platforms = subrequest::platforms(options, bridge);
    let mut result = FrontendResult::default();
    for (number, platform) in platforms.iter().enumerate() {
        let settled = epoch::settle(&program, sources, options, platform, bridge).await?;
        let solved = resolve::solve_platform(&program, sources, &settled, platform, bridge).await?;
        if number == 0 {
            warn(&program, &solved, sources, options, bridge).await?;
        }
        let suffix = if options.multi_platform { format!("/{platform}") } else { String::new() };
        result.metadata.insert(format!("{IMAGE_CONFIG_KEY}{suffix}"), solved.config);
        if let Some(base) = solved.base_config {
            result.metadata.insert(format!("{BASE_CONFIG_KEY}{suffix}"), base);
        }
        if let Some(epoch) = solved.epoch {
            result.metadata.insert(EPOCH_KEY.to_owned(), epoch.to_string().into_bytes());
        }
        result.refs.push((platform.to_string(), solved.definition));
    }
    if options.multi_platform {
        result.metadata.insert(PLATFORMS_KEY.to_owned(), platform_list(&platforms));
    }
    Ok(result)
}

/// Shows what the checks find; an error if they are to fail the build.
async fn warn(
    program: &Program,
    solved: &Solved,
    sources: &Sources,
    options: &Options,
    bridge: &dyn Bridge,
) -> Result<(), Error> {
    let found = subrequest::check(program, &solved.plan, &solved.images, sources, options, bridge);
    let findings = found.map_err(|fault| sources.error(fault))?;
    for warning in lint::warnings(&findings, &sources.location(&[])) {
        bridge.warn(&sources.vertex, warning).await;
    }
    lint::violation(&findings).map_or(Ok(()), |fault| Err(sources.error(fault)))
}

fn program(sources: &Sources, options: &Options) -> Result<Program, crate::error::Fault> {
    parse(&sources.text, options)
}

fn parse(text: &[u8], options: &Options) -> Result<Program, crate::error::Fault> {
    let document = lines::read(text)?;
    let (meta, stages) = stage::split(instruction::parse(&document)?)?;
    let target = stage::target(&stages, &options.target)?;
    let names = StageNames::of(&stages);
    Ok(Program { document, meta, stages, names, target })
}

fn platform_list(platforms: &[Platform]) -> Vec<u8> {
    let list: Vec<_> = platforms
        .iter()
        .map(|platform| serde_json::json!({ "ID": platform.to_string(), "Platform": platform }))
        .collect();
    serde_json::to_vec(&BTreeMap::from([("Platforms", list)])).expect("strings have a JSON form")
}

fn source_text(sources: &Sources) -> llb::SourceText {
    llb::SourceText {
        filename: sources.filename.clone(),
        language: "Dockerfile".to_owned(),
        data: sources.text.clone(),
    }
}

#[cfg(test)]
mod tests;
