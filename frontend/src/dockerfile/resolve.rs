//! One platform: plan, find images, lower.
//!
//! An image's ONBUILD triggers may need more stages and images, so that planning and finding alternate until nothing new turns up. Lowering
//! runs twice: the first run tells which files of the context are used, the second has a context with only those.

use std::collections::{BTreeMap, BTreeSet};

use buildd_api::llb::State;
use buildd_oci::{config::ImageConfig, platform::Platform};
use futures::future::try_join_all;

use super::{
    Program, Solved, args,
    lower::{self, Built, Image, Inputs, Tree},
    named::Named,
    options::Options,
    source::Sources,
    source_text,
    stage::{self, Base, ImageName, Names, Planned},
};
use crate::{
    Error,
    bridge::{Bridge, ImageRequest},
    error::{Fault, Lines},
    request::EPOCH_ARGUMENT,
};

/// What was found so far.
#[derive(Default)]
struct Resolved {
    plan: BTreeMap<usize, Planned>,
    images: BTreeMap<ImageName, Image>,
    trees: BTreeMap<Base, Tree>,
}

/// Names that have to be found, with the lines that use them.
#[derive(Default)]
struct Unresolved {
    images: BTreeMap<ImageName, Lines>,
    trees: BTreeSet<Base>,
}

/// A stage after its last instruction, and all that led to it.
pub(super) struct Lowered {
    /// The stage.
    pub(super) built: Built,
    plan: BTreeMap<usize, Planned>,
    images: BTreeMap<ImageName, Image>,
}

pub(super) async fn solve_platform(
    program: &Program,
    sources: &Sources,
    options: &Options,
    platform: &Platform,
    bridge: &dyn Bridge,
) -> Result<Solved, Error> {
    let Lowered { mut built, plan, images } =
        lowered(program, program.target, sources, options, platform, bridge).await?;
    if !options.labels.is_empty() {
        let labels = built.image.config.labels.get_or_insert_default();
        labels.extend(options.labels.clone());
    }
    let epoch = args::epoch(options, built.argument(EPOCH_ARGUMENT));
    Ok(Solved {
        epoch: epoch.map_err(|fault| sources.error(fault))?,
        definition: built.state.marshal(Some(&source_text(sources))),
        config: built.image.to_bytes(),
        base_config: built.base_config,
        plan,
        images,
    })
}

/// The global arguments of a build for `platform`.
pub(super) fn globals(
    program: &Program,
    sources: &Sources,
    options: &Options,
    platform: &Platform,
    bridge: &dyn Bridge,
) -> Result<Named<String>, Error> {
    let build = bridge.build_platform();
    let globals = args::globals(&program.meta, options, &build, platform, program.document.escape);
    globals.map_err(|fault| sources.error(fault))
}

/// Lowers the stage `target` and what it needs.
pub(super) async fn lowered(
    program: &Program,
    target: usize,
    sources: &Sources,
    options: &Options,
    platform: &Platform,
    bridge: &dyn Bridge,
) -> Result<Lowered, Error> {
    let globals = globals(program, sources, options, platform, bridge)?;
    let names = || Names {
        stages: &program.stages,
        index: &program.names,
        options,
        globals: &globals,
        target: platform,
        escape: program.document.escape,
    };
    let found = find(&names(), target, sources, bridge).await?;
    let order = stage::order(&found.plan, &program.stages, target).map_err(|fault| sources.error(fault))?;
    let mut inputs = Inputs {
        names: names(),
        options,
        plan: &found.plan,
        order: &order,
        images: &found.images,
        trees: &found.trees,
        context: sources.context(&Default::default()),
        session: sources.client.session(),
        show_platform: options.multi_platform,
    };
    let (_, paths) = lower::lower(&inputs).map_err(|fault| sources.error(fault))?;
    inputs.context = sources.context(&paths);
    let (built, _) = lower::lower(&inputs).map_err(|fault| sources.error(fault))?;
    Ok(Lowered { built, plan: found.plan, images: found.images })
}

/// Plans and finds until nothing new turns up.
async fn find(
    names: &Names<'_>,
    target: usize,
    sources: &Sources,
    bridge: &dyn Bridge,
) -> Result<Resolved, Error> {
    let (mut found, options) = (Resolved::default(), names.options);
    loop {
        let wanted = plan(&mut found, names, options, target).map_err(|fault| sources.error(fault))?;
        if wanted.images.is_empty() && wanted.trees.is_empty() {
            return Ok(found);
        }
        let images =
            wanted.images.iter().map(|(name, lines)| resolve(name, *lines, sources, options, bridge));
        let images = try_join_all(images).await?;
        found.images.extend(wanted.images.into_keys().zip(images));
        for base in wanted.trees {
            let tree = sources.named_context(&base, options, bridge).await?;
            found.trees.insert(base, tree);
        }
    }
}

/// Plans all stages in reach of `target`; returns what is not found yet.
fn plan(
    found: &mut Resolved,
    names: &Names<'_>,
    options: &Options,
    target: usize,
) -> Result<Unresolved, Fault> {
    let (mut wanted, mut stack, mut seen) = (Unresolved::default(), vec![target], BTreeSet::new());
    while let Some(index) = stack.pop() {
        if !seen.insert(index) {
            continue;
        }
        let mut planned = names.plan(index)?;
        planned.uses.extend(trigger_uses(found, names, options, index, &planned)?);
        let lines = names.stages[index].lines;
        for base in planned.uses.iter().chain([&planned.base]) {
            match base {
                Base::Scratch => {}
                Base::Stage(other) => stack.push(*other),
                Base::Image(name) if found.images.contains_key(name) => {}
                Base::Image(name) => drop(wanted.images.insert(name.clone(), lines)),
                tree if found.trees.contains_key(tree) => {}
                tree => drop(wanted.trees.insert(tree.clone())),
            }
        }
        found.plan.insert(index, planned);
    }
    Ok(wanted)
}

fn trigger_uses(
    found: &Resolved,
    names: &Names<'_>,
    options: &Options,
    index: usize,
    planned: &Planned,
) -> Result<Vec<Base>, Fault> {
    let inputs = Inputs {
        names: Names { ..*names },
        options,
        plan: &found.plan,
        order: &[],
        images: &found.images,
        trees: &found.trees,
        context: State::scratch(),
        session: "",
        show_platform: false,
    };
    names.uses(&lower::triggers(&inputs, index, planned)?, index, &planned.platform)
}

pub(super) async fn resolve(
    name: &ImageName,
    lines: Lines,
    sources: &Sources,
    options: &Options,
    bridge: &dyn Bridge,
) -> Result<Image, Error> {
    let request = ImageRequest {
        reference: name.reference.clone(),
        platform: name.platform.clone(),
        resolve_mode: options.resolve_mode.clone(),
        log_name: format!("[internal] load metadata for {}", name.reference),
        layout: name.layout.clone(),
    };
    let resolved = bridge.resolve_image_config(request).await.map_err(|source| Error::ResolveImage {
        image: name.reference.clone(),
        source,
        location: Box::new(sources.location(&[lines])),
    })?;
    let config = ImageConfig::parse(&resolved.config).map_err(|error| {
        sources
            .error(Fault::new(format!("failed to parse the config of {}: {error}", name.reference)).at(lines))
    })?;
    let mut reference = resolved.reference;
    if let Some(digest) = resolved.digest.filter(|_| !reference.contains('@')) {
        reference = format!("{reference}@{digest}");
    }
    Ok(Image { reference, config, raw: resolved.config })
}
