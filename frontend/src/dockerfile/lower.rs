//! Lowering: stages to LLB, instruction by instruction.
//!
//! Stages come in the order of the plan, so that all a stage uses is there already. Nothing is asked of the daemon here.
//!
//! # Invariants
//! The same stages and options give the same bytes. Every op carries the lines of its instruction.

mod budget;
mod copy;
mod go_format;
mod meta;
mod run;
mod title;

use std::collections::{BTreeMap, BTreeSet};

use buildd_api::{
    buildkit::pb,
    llb::{OpOptions, State},
};
use buildd_oci::{config::ImageConfig, platform::Platform};

use self::budget::Budget;
use crate::{
    dockerfile::{
        expand::Lexer,
        heirs::Heirs,
        image::{self, Layer, Places},
        instruction::{self, Instruction, Located},
        named::Named,
        options::Options,
        stage::{Base, ImageName, Names, Planned, Stage},
    },
    error::{Fault, Lines},
};

pub(super) use copy::copy_action;

/// All that lowering needs; nothing in it changes.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// Finds stages, images and contexts by name.
    pub names: Names<'a>,
    /// The client's wishes.
    pub options: &'a Options,
    /// What each needed stage starts from.
    pub plan: &'a BTreeMap<usize, Planned>,
    /// In which order.
    pub order: &'a [usize],
    /// The images found.
    pub images: &'a BTreeMap<ImageName, Image>,
    /// The named contexts that are no images.
    pub trees: &'a BTreeMap<Base, Tree>,
    /// The main context.
    pub context: State,
    /// The session of the client.
    pub session: &'a str,
    /// Vertex names tell the platform.
    pub show_platform: bool,
}

impl Inputs<'_> {
    /// The config of a base that is no stage, and its bytes; none if nobody knows of one.
    fn config_of(&self, base: &Base) -> Option<(&ImageConfig, &[u8])> {
        if let Base::Image(name) = base {
            return self.images.get(name).map(|image| (&image.config, image.raw.as_slice()));
        }
        let (config, raw) = self.trees.get(base)?.image.as_ref()?;
        Some((config, raw))
    }
}

/// An image that was found.
#[derive(Clone, Debug)]
pub struct Image {
    /// With digest.
    pub reference: String,
    /// Its config.
    pub config: ImageConfig,
    /// The config's bytes.
    pub raw: Vec<u8>,
}

/// A named context that is no image of a registry.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// Its files.
    pub state: State,
    /// The config that the client knows of it, and its bytes.
    pub image: Option<(ImageConfig, Vec<u8>)>,
}

/// A stage after its last instruction.
#[derive(Clone, Debug)]
pub struct Built {
    /// Its files.
    pub state: State,
    /// Its config.
    pub image: ImageConfig,
    /// The config of the image it starts from.
    pub base_config: Option<Vec<u8>>,
    /// What `RUN` sees: ENV and ARG.
    env: Named<String>,
    /// ARGs in order.
    args: Named<Option<String>>,
    /// Where the variables of `image` stand.
    places: Places,
    platform: Platform,
}

impl Built {
    /// The value of an argument at the end of the stage; none if it was not declared or has none.
    pub fn argument(&self, name: &str) -> Option<&str> {
        self.args.get(name)?.as_deref()
    }
}

/// A stage being lowered.
pub(super) struct Lowering<'a> {
    inputs: &'a Inputs<'a>,
    done: &'a mut Done,
    built: Built,
    index: usize,
    name: String,
    step: usize,
    steps: usize,
    ignore_cache: bool,
    command_set: bool,
}

/// What the stages so far made.
struct Done {
    states: BTreeMap<usize, State>,
    heirs: Heirs<Built>,
    /// What is used of the main context.
    context_paths: BTreeSet<String>,
    budget: Budget,
}

/// Lowers the planned stages; returns the last, and the paths of the main context that they use.
pub fn lower(inputs: &Inputs<'_>) -> Result<(Built, BTreeSet<String>), Fault> {
    let mut done = Done {
        states: BTreeMap::new(),
        heirs: Heirs::of(inputs.plan),
        context_paths: BTreeSet::new(),
        budget: Budget::default(),
    };
    let (target, others) = inputs.order.split_last().expect("the target is planned");
    for &index in others {
        let built = lower_stage(inputs, &mut done, index)?;
        done.states.insert(index, built.state.clone());
        done.heirs.leave(index, built);
    }
    let built = lower_stage(inputs, &mut done, *target)?;
    Ok((built, done.context_paths))
}

fn lower_stage(inputs: &Inputs<'_>, done: &mut Done, index: usize) -> Result<Built, Fault> {
    let stage = &inputs.names.stages[index];
    let planned = &inputs.plan[&index];
    let triggers = triggers(inputs, index, planned)?;
    let name = match &stage.from.name {
        Some(name) => name.clone(),
        None if inputs.names.stages.len() > 1 => format!("stage-{index}"),
        None => String::new(),
    };
    let platform = planned.platform.clone();
    let empty = Built {
        state: State::scratch(),
        image: image::empty(&platform),
        base_config: None,
        env: Named::default(),
        args: Named::default(),
        places: Places::default(),
        platform,
    };
    let is_step = |located: &&Located| {
        use Instruction as I;
        matches!(located.instruction, I::Run(_) | I::Copy(_) | I::Add(_) | I::Workdir(_))
    };
    let own_steps = triggers.iter().chain(&stage.instructions).filter(is_step).count();
    let steps = own_steps + usize::from(matches!(planned.base, Base::Image(_)));
    let ignore_cache = inputs.options.ignores_cache(&name);
    let mut lowering = Lowering {
        inputs,
        done,
        built: empty,
        index,
        name,
        step: 0,
        steps,
        ignore_cache,
        command_set: false,
    };
    lowering.start(stage, planned).map_err(|fault| fault.at(stage.lines))?;
    for located in triggers.iter().chain(&stage.instructions) {
        let counted = lowering.done.budget.instruction().and_then(|()| lowering.instruction(located));
        counted.map_err(|fault| fault.at(located.lines))?;
    }
    Ok(lowering.built)
}

/// The ONBUILD triggers of a stage's base, an image or another stage, as instructions of the stage; those of an image stand where `FROM` does.
pub fn triggers(inputs: &Inputs<'_>, index: usize, planned: &Planned) -> Result<Vec<Located>, Fault> {
    let from = inputs.names.stages[index].lines;
    let mut texts: Vec<(&String, Lines)> = Vec::new();
    if let Base::Stage(base) = planned.base {
        texts.extend(inputs.names.stages[base].triggers.iter().map(|(text, lines)| (text, *lines)));
    }
    let list = inputs.config_of(&planned.base).and_then(|(config, _)| config.config.on_build.as_ref());
    texts.extend(list.into_iter().flatten().map(|text| (text, from)));
    let parse = |(text, lines): (&String, Lines)| {
        let located = instruction::parse_trigger(text, inputs.names.escape).map_err(|fault| Fault {
            message: format!("ONBUILD trigger {text:?}: {}", fault.message),
            lines: vec![lines],
            ..fault
        })?;
        Ok(Located { lines, ..located })
    };
    texts.into_iter().map(parse).collect()
}

impl Lowering<'_> {
    fn start(&mut self, stage: &Stage, planned: &Planned) -> Result<(), Fault> {
        match &planned.base {
            Base::Stage(other) => {
                let platform = self.built.platform.clone();
                let copied = self.done.heirs.copies(*other);
                let base = self.done.heirs.inherit(*other).expect("a base comes before its heirs");
                if copied {
                    self.done.budget.inherit(base.env.len() + base.image.history.len())?;
                }
                self.built = Built { platform, ..base };
                self.built.image.config.on_build = None;
            }
            Base::Image(name) => {
                let image = &self.inputs.images[name];
                let title = format!("{}FROM {}", self.prefix(), image.reference);
                if !image.config.rootfs.diff_ids.is_empty() {
                    self.built.state = self.image_state(name, title, &[stage.lines]);
                }
            }
            other => self.built.state = self.files_of(other, &[stage.lines])?,
        }
        if let Some((config, raw)) = self.inputs.config_of(&planned.base) {
            self.take_config(config, raw);
        }
        if !matches!(planned.base, Base::Stage(_)) {
            self.built.places = Places::of(&self.built.image);
            if !self.built.places.has("PATH") && self.built.platform.os != "windows" {
                self.built.places.set(&mut self.built.image, "PATH", image::DEFAULT_PATH);
            }
            self.built.env = image::environment(&self.built.image).into_iter().collect();
        }
        Ok(())
    }

    /// Goes on from the config of a base.
    fn take_config(&mut self, config: &ImageConfig, raw: &[u8]) {
        self.built.image = config.clone();
        self.built.image.created = None;
        self.built.image.config.on_build = None;
        self.built.base_config = Some(raw.to_vec());
    }

    fn image_state(&self, name: &ImageName, title: String, lines: &[Lines]) -> State {
        let image = &self.inputs.images[name];
        let Inputs { session, options, .. } = self.inputs;
        image_source(name, &image.reference, session, options, self.op(title, lines, &[]))
    }

    /// The files behind a name of `--from`, for a stage other than the base.
    fn files_of(&self, base: &Base, lines: &[Lines]) -> Result<State, Fault> {
        Ok(match base {
            Base::Scratch => State::scratch(),
            Base::Stage(index) => match self.done.states.get(index) {
                Some(state) => state.clone(),
                None => return Err(Fault::new("a stage cannot be used in itself")),
            },
            Base::Image(name) => {
                let image = &self.inputs.images[name];
                if image.config.rootfs.diff_ids.is_empty() {
                    State::scratch()
                } else {
                    self.image_state(name, format!("FROM {}", image.reference), lines)
                }
            }
            Base::Local(_) | Base::Remote(_) | Base::Input(_) => self.inputs.trees[base].state.clone(),
        })
    }

    /// The files behind `--from=name`; of the main context if there is no name.
    fn from(&self, name: Option<&str>, lines: Lines) -> Result<State, Fault> {
        match name {
            None => Ok(self.inputs.context.clone()),
            Some(name) => {
                let base = self.inputs.names.find(name, self.index, &self.built.platform)?;
                self.files_of(&base, &[lines])
            }
        }
    }

    fn instruction(&mut self, located: &Located) -> Result<(), Fault> {
        match &located.instruction {
            Instruction::Run(run) => self.run(run, located),
            Instruction::Copy(transfer) => self.transfer("COPY", transfer, located),
            Instruction::Add(transfer) => self.transfer("ADD", transfer, located),
            Instruction::Workdir(path) => self.workdir(path, located),
            _ => self.metadata(&located.instruction),
        }
    }

    fn op(&self, name: String, lines: &[Lines], caps: &[&'static str]) -> OpOptions {
        OpOptions {
            platform: Some(wire_platform(&self.built.platform)),
            name,
            ignore_cache: self.ignore_cache,
            caps: caps.iter().copied().chain(["constraints", "platform", "meta.description"]).collect(),
            ranges: lines.iter().map(|lines| wire_range(*lines)).collect(),
            ..OpOptions::default()
        }
    }

    fn expand(&self, text: &str) -> Result<String, Fault> {
        let lexer = Lexer::new(self.inputs.names.escape);
        let expanded = lexer.expand(text, &self.built.env);
        let failed = |fault: Fault| Fault {
            message: format!("failed to process {text:?}: {}", fault.message),
            ..fault
        };
        expanded.map(|expanded| expanded.text).map_err(failed)
    }

    fn record(&mut self, created_by: String, layer: Layer) {
        image::record(&mut self.built.image, created_by, layer);
    }

    fn workdir_path(&self) -> &str {
        match self.built.image.config.working_dir.as_str() {
            "" => "/",
            path => path,
        }
    }
}

/// `path` from `dir`, without `.`, `..` and doubled slashes; always absolute.
pub(super) fn join(dir: &str, path: &str) -> String {
    let whole = if path.starts_with('/') { path.to_owned() } else { format!("{dir}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// An image as a source, under the name with the digest that was found.
pub(super) fn image_source(
    name: &ImageName,
    reference: &str,
    session: &str,
    options: &Options,
    mut op: OpOptions,
) -> State {
    let mut attrs = BTreeMap::new();
    let mut set = |key: &str, value: &str| drop(attrs.insert(key.to_owned(), value.to_owned()));
    let (scheme, cap) = match &name.layout {
        Some(layout) => {
            if !session.is_empty() {
                set("oci.session", session);
            }
            set("oci.store", layout);
            ("oci-layout", "source.ocilayout")
        }
        None => {
            let mode = options.resolve_mode.as_str();
            if matches!(mode, "pull" | "local") {
                set("image.resolvemode", mode);
            }
            ("docker-image", "source.image")
        }
    };
    op.caps.push(cap);
    op.platform = Some(wire_platform(&name.platform));
    State::source(&format!("{scheme}://{reference}"), attrs, op)
}

fn wire_platform(platform: &Platform) -> pb::Platform {
    pb::Platform {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        variant: platform.variant.clone(),
        os_version: platform.os_version.clone(),
        os_features: platform.os_features.clone(),
    }
}

fn wire_range(lines: Lines) -> pb::Range {
    let at = |line: usize| Some(pb::Position { line: i32::try_from(line).unwrap_or(i32::MAX), character: 0 });
    pb::Range { start: at(lines.first), end: at(lines.last) }
}
