//! Epoch: the time that bounds those of a result, `SOURCE_DATE_EPOCH`, where it is no number but names what has a time.
//!
//! `context` is the main context, any other word a named context or a stage. The time of a tree is that of its newest file: of a repository the
//! commit's, of a file of a server its `Last-Modified`, of an archive its newest entry's. Files of the client have none: they are as old as
//! their copy.
//!
//! # Invariants
//! Asked once for each platform and before anything is lowered, so that the steps see the number.
//!
//! # Sources
//! spec dockerfile 1.4; moby/buildkit pull request 6602, what is said there of the values.

use buildd_api::llb::State;
use buildd_oci::platform::Platform;

use super::{
    Program,
    instruction::nearest,
    lower,
    options::{Epoch, Options},
    resolve,
    source::Sources,
    stage::{Base, Names},
};
use crate::{
    Bridge, Error,
    request::{BUILD_ARGUMENT, EPOCH_ARGUMENT},
};

/// The main context, as a value.
const CONTEXT: &str = "context";

/// The options of a build for `platform`, in which the time is known.
pub(super) async fn settle(
    program: &Program,
    sources: &Sources,
    options: &Options,
    platform: &Platform,
    bridge: &dyn Bridge,
) -> Result<Options, Error> {
    let mut settled = options.clone();
    let globals = resolve::globals(program, sources, options, platform, bridge)?;
    let given = options.build_args.get(EPOCH_ARGUMENT).or_else(|| globals.get(EPOCH_ARGUMENT));
    let Some(text) = given.filter(|text| !text.is_empty()) else {
        settled.epoch = Epoch::None;
        return Ok(settled);
    };
    settled.commit_times = true;
    let time = match text.parse() {
        Ok(seconds) => Some(seconds),
        Err(_) => time_of(text, program, sources, &settled, platform, bridge).await?,
    };
    settled.epoch = time.map_or(Epoch::None, Epoch::At);
    if let (Some(_), Some(seconds)) = (settled.build_args.remove(EPOCH_ARGUMENT), time) {
        settled.build_args.insert(EPOCH_ARGUMENT.to_owned(), seconds.to_string());
    }
    Ok(settled)
}

/// The time of what a word names; none if it has none.
async fn time_of(
    word: &str,
    program: &Program,
    sources: &Sources,
    options: &Options,
    platform: &Platform,
    bridge: &dyn Bridge,
) -> Result<Option<i64>, Error> {
    if word == CONTEXT {
        return newest(sources.dated.as_ref(), word, bridge).await;
    }
    // A stage cannot ask for the time of itself.
    let mut without = options.clone();
    (without.epoch, _) = (Epoch::None, without.build_args.remove(EPOCH_ARGUMENT));
    let globals = resolve::globals(program, sources, &without, platform, bridge)?;
    let names = Names {
        stages: &program.stages,
        index: &program.names,
        options: &without,
        globals: &globals,
        target: platform,
        escape: program.document.escape,
    };
    let named = names.context(word, platform).map_err(|fault| sources.error(fault))?;
    let base = match named.or_else(|| names.stage(word).map(Base::Stage)) {
        Some(base) => base,
        None => return Err(unknown(word, &names)),
    };
    let state = match &base {
        Base::Scratch | Base::Local(_) => return Ok(None),
        Base::Image(name) => {
            let image = resolve::resolve(name, Default::default(), sources, &without, bridge).await?;
            lower::image_source(
                name,
                &image.reference,
                sources.client.session(),
                &without,
                Default::default(),
            )
        }
        Base::Stage(stage) => {
            resolve::lowered(program, *stage, sources, &without, platform, bridge).await?.built.state
        }
        Base::Remote(_) | Base::Input(_) => sources.named_context(&base, &without, bridge).await?.state,
    };
    newest(Some(&state), word, bridge).await
}

/// The time of the newest file; none where all there is has no time of its own.
async fn newest(state: Option<&State>, word: &str, bridge: &dyn Bridge) -> Result<Option<i64>, Error> {
    let Some(definition) = state.and_then(|state| state.marshal(None)) else { return Ok(None) };
    let failed = |source| Error::Read { what: format!("the times of {word:?}"), source };
    let built = bridge.solve(definition).await.map_err(failed)?;
    let newest = bridge.newest(&built).await.map_err(failed)?;
    Ok(newest.filter(|seconds| *seconds > 0))
}

fn unknown(word: &str, names: &Names<'_>) -> Error {
    let stages = names.stages.iter().filter_map(|stage| stage.from.name.as_deref());
    let contexts = names.options.contexts.keys().map(String::as_str);
    let known: Vec<&str> = stages.chain(contexts).chain([CONTEXT]).collect();
    let near = nearest(word, &known).map(|near| format!(" (did you mean {near}?)")).unwrap_or_default();
    let reason = format!(
        "{word:?} is neither a number of seconds since 1970 nor context, a named context or a stage{near}"
    );
    Error::Option { option: format!("{BUILD_ARGUMENT}{EPOCH_ARGUMENT}"), reason }
}
