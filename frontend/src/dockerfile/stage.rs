//! Stages: instructions grouped by `FROM`, and the plan of what a build needs of them.
//!
//! Only what the target reaches is planned: bases, `COPY --from`, `RUN --mount from`. An image's ONBUILD triggers can reach further, so that
//! planning goes on after images are resolved.
//!
//! # Invariants
//! [`Plan::order`] lists a stage after all it needs; there are no cycles in it.

use std::collections::{BTreeMap, BTreeSet};

use buildd_oci::{digest::Digest, platform::Platform, reference::Reference};

use crate::{
    dockerfile::{
        expand::Lexer,
        instruction::{From, Instruction, Located, nearest},
        named::Named,
        options::Options,
        remote::{Remote, redact},
    },
    error::{Fault, Lines},
};

/// What an image of a layout is called whose context has no name that an image may have.
const UNNAMED: &str = "context";

/// One `FROM` and what follows.
#[derive(Clone, Debug)]
pub struct Stage {
    /// The `FROM`.
    pub from: From,
    /// Where it stands.
    pub lines: Lines,
    /// The `FROM` as written.
    pub original: String,
    /// The rest.
    pub instructions: Vec<Located>,
    /// What its ONBUILDs say, for the stages based on it.
    pub triggers: Vec<(String, Lines)>,
}

/// Stages by name; a name may be given more than once.
#[derive(Clone, Debug, Default)]
pub struct StageNames(BTreeMap<String, Vec<usize>>);

impl StageNames {
    /// Those of a text.
    pub fn of(stages: &[Stage]) -> Self {
        let mut names: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (index, stage) in stages.iter().enumerate() {
            if let Some(name) = &stage.from.name {
                names.entry(name.clone()).or_default().push(index);
            }
        }
        Self(names)
    }

    /// The last stage of this name before stage `before`.
    fn before(&self, name: &str, before: usize) -> Option<usize> {
        let indexes = self.0.get(&name.to_lowercase())?;
        let earlier = indexes.partition_point(|index| *index < before);
        indexes[..earlier].last().copied()
    }
}

/// What a name after `FROM`, `--from=` or `from=` means.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Base {
    /// The empty file system.
    Scratch,
    /// Another stage.
    Stage(usize),
    /// An image.
    Image(ImageName),
    /// Files of the client, by the name it gave them.
    Local(String),
    /// A tree of a repository, or what lies behind a URL.
    Remote(String),
    /// What another definition makes, by the name that the client gave it.
    Input(String),
}

/// An image for a platform.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImageName {
    /// Canonical.
    pub reference: String,
    /// For which platform.
    pub platform: Platform,
    /// The client's name for the OCI layout that has it; none for one of a registry or of the daemon.
    pub layout: Option<String>,
}

/// What a stage starts from.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Its base.
    pub base: Base,
    /// Its platform.
    pub platform: Platform,
    /// All other names it uses: stages, images, local contexts.
    pub uses: Vec<Base>,
}

/// Looks names up.
#[derive(Debug)]
pub struct Names<'a> {
    /// All stages.
    pub stages: &'a [Stage],
    /// Which of them has a name.
    pub index: &'a StageNames,
    /// For named contexts.
    pub options: &'a Options,
    /// For `FROM` lines.
    pub globals: &'a Named<String>,
    /// Of the build.
    pub target: &'a Platform,
    /// The escape character.
    pub escape: char,
}

/// Groups instructions; what stands before the first `FROM` comes first.
pub fn split(instructions: Vec<Located>) -> Result<(Vec<Located>, Vec<Stage>), Fault> {
    let (mut meta, mut stages) = (Vec::new(), Vec::<Stage>::new());
    for located in instructions {
        match (&located.instruction, stages.last_mut()) {
            (Instruction::From(from), _) => stages.push(Stage {
                from: from.clone(),
                lines: located.lines,
                original: located.original,
                instructions: Vec::new(),
                triggers: Vec::new(),
            }),
            (instruction, Some(stage)) => {
                if let Instruction::OnBuild(text) = instruction {
                    stage.triggers.push((text.clone(), located.lines));
                }
                stage.instructions.push(located);
            }
            (Instruction::Arg(_), None) => meta.push(located),
            (_, None) => return Err(Fault::new("no build stage in current context").at(located.lines)),
        }
    }
    if stages.is_empty() {
        return Err(Fault::new("dockerfile contains no stages to build"));
    }
    Ok((meta, stages))
}

/// The stage that `target` names; the last one if it is empty.
pub fn target(stages: &[Stage], target: &str) -> Result<usize, Fault> {
    if target.is_empty() {
        return Ok(stages.len() - 1);
    }
    let named = |name: &str| stages.iter().rposition(|s| s.from.name.as_deref() == Some(name));
    let found = named(&target.to_lowercase())
        .or_else(|| target.parse().ok().filter(|index: &usize| *index < stages.len()));
    found.ok_or_else(|| {
        let names: Vec<&str> = stages.iter().filter_map(|s| s.from.name.as_deref()).collect();
        let near = nearest(target, &names).map(|n| format!(" (did you mean {n}?)")).unwrap_or_default();
        let fault = Fault::new(format!("target stage {target:?} could not be found{near}"));
        if names.is_empty() { fault } else { fault.hint(format!("the stages are: {}", names.join(", "))) }
    })
}

impl Names<'_> {
    /// The base and the uses of stage `index`.
    pub fn plan(&self, index: usize) -> Result<Planned, Fault> {
        let stage = &self.stages[index];
        self.plan_stage(index, stage).map_err(|fault| fault.at(stage.lines))
    }

    fn plan_stage(&self, index: usize, stage: &Stage) -> Result<Planned, Fault> {
        let expand = |text: &str| Lexer::new(self.escape).expand(text, self.globals);
        let base = expand(&stage.from.base)?.text;
        if base.is_empty() {
            return Err(Fault::new(format!("base name ({}) should not be blank", stage.from.base)));
        }
        let platform = match &stage.from.platform {
            None => self.target.clone(),
            Some(text) => {
                let text = expand(text)?.text;
                text.parse().map_err(|e| Fault::new(format!("failed to parse platform {text:?}: {e}")))?
            }
        };
        let base = match self.context(&base, &platform)? {
            Some(base) => base,
            None => match self.index.before(&base, index) {
                Some(stage) => Base::Stage(stage),
                None => image(&base, &platform)?,
            },
        };
        let uses = self.uses(&stage.instructions, index, &platform)?;
        Ok(Planned { base, platform, uses })
    }

    /// What the `--from`s of some instructions name.
    pub fn uses(
        &self,
        instructions: &[Located],
        index: usize,
        platform: &Platform,
    ) -> Result<Vec<Base>, Fault> {
        let mut uses = Vec::new();
        for located in instructions {
            for name in from_names(&located.instruction) {
                uses.push(self.find(name, index, platform).map_err(|fault| fault.at(located.lines))?);
            }
        }
        Ok(uses)
    }

    /// What `--from=name` means in stage `index`.
    pub fn find(&self, name: &str, index: usize, platform: &Platform) -> Result<Base, Fault> {
        if let Some(base) = self.context(name, platform)? {
            return Ok(base);
        }
        if let Ok(number) = name.parse::<usize>() {
            if number >= self.stages.len() {
                return Err(Fault::new(format!("invalid stage index {number}")));
            }
            return Ok(Base::Stage(number));
        }
        let stage = self.index.before(name, index).or_else(|| self.index.before(name, self.stages.len()));
        stage.map_or_else(|| image(name, platform), |stage| Ok(Base::Stage(stage)))
    }

    /// The last stage of a name.
    pub(super) fn stage(&self, name: &str) -> Option<usize> {
        self.index.before(name, self.stages.len())
    }

    /// A named context of the client beats everything; it may be given for one platform, and by any spelling of an image name.
    pub(super) fn context(&self, name: &str, platform: &Platform) -> Result<Option<Base>, Fault> {
        let mut spellings = vec![name.to_lowercase(), name.to_owned()];
        if let Ok(reference) = Reference::parse(name) {
            let reference = reference.with_default_tag();
            spellings.extend([reference.familiar(), reference.to_string()]);
        }
        let contexts = &self.options.contexts;
        let value = spellings
            .iter()
            .find_map(|name| contexts.get(&format!("{name}::{platform}")).or_else(|| contexts.get(name)));
        let Some(value) = value else { return Ok(None) };
        if value == "scratch" || value == "docker-image://scratch" {
            return Ok(Some(Base::Scratch));
        }
        if let Some(reference) = value.strip_prefix("docker-image://") {
            return image(reference, platform).map(Some);
        }
        if let Some(stored) = value.strip_prefix("oci-layout://") {
            return layout(name, stored, platform).map(Some);
        }
        if let Some(local) = value.strip_prefix("local:") {
            return Ok(Some(Base::Local(local.to_owned())));
        }
        if let Some(input) = value.strip_prefix("input:") {
            return Ok(Some(Base::Input(input.to_owned())));
        }
        match Remote::detect(value)? {
            Some(_) => Ok(Some(Base::Remote(value.clone()))),
            None => Err(Fault::new(format!("named context {name}: {:?} is not supported", redact(value)))
                .hint("use a folder, a URL, a repository, docker-image://<name>, oci-layout://<folder> or scratch")),
        }
    }
}

fn image(name: &str, platform: &Platform) -> Result<Base, Fault> {
    if name == "scratch" {
        return Ok(Base::Scratch);
    }
    let reference = Reference::parse(name)
        .map_err(|error| Fault::new(format!("failed to parse stage name {name:?}: {error}")))?;
    let reference = reference.with_default_tag().to_string();
    Ok(Base::Image(ImageName { reference, platform: platform.clone(), layout: None }))
}

/// An image in a layout of the client, as `<the client's name for the layout>[:tag]@<digest>`; it is shown under the name of the context.
fn layout(context: &str, stored: &str, platform: &Platform) -> Result<Base, Fault> {
    let fault = || {
        Fault::new(format!(
            "named context {context}: oci-layout://{stored} does not say which image of a layout"
        ))
        .hint("a client sends oci-layout://<layout>@<digest>")
    };
    let (store, digest) = stored.rsplit_once('@').ok_or_else(fault)?;
    let digest: Digest = digest.parse().map_err(|_| fault())?;
    // A tag says nothing beside a digest.
    let store = store.rsplit_once(':').map_or(store, |(store, _)| store);
    let shown = Reference::parse(&context.to_lowercase()).or_else(|_| Reference::parse(UNNAMED));
    let reference = shown.map_err(|_| fault())?.with_digest(digest).to_string();
    Ok(Base::Image(ImageName { reference, platform: platform.clone(), layout: Some(store.to_owned()) }))
}

fn from_names(instruction: &Instruction) -> Vec<&str> {
    match instruction {
        Instruction::Copy(copy) | Instruction::Add(copy) => copy.from.as_deref().into_iter().collect(),
        Instruction::Run(run) => run.mounts.iter().filter_map(|m| m.from.as_deref()).collect(),
        _ => Vec::new(),
    }
}

/// The stages of `plan` that `target` needs, each after what it needs.
pub fn order(plan: &BTreeMap<usize, Planned>, stages: &[Stage], target: usize) -> Result<Vec<usize>, Fault> {
    let (mut order, mut stack) = (Vec::new(), vec![(target, false)]);
    let (mut done, mut open) = (BTreeSet::new(), BTreeSet::new());
    while let Some((index, leaving)) = stack.pop() {
        if leaving {
            done.insert(index);
            order.push(index);
            continue;
        }
        if done.contains(&index) {
            continue;
        }
        if !open.insert(index) {
            let name = stages[index].from.name.clone().unwrap_or_else(|| index.to_string());
            return Err(
                Fault::new(format!("circular dependency detected on stage: {name}")).at(stages[index].lines)
            );
        }
        stack.push((index, true));
        let planned = &plan[&index];
        for base in planned.uses.iter().chain([&planned.base]) {
            if let Base::Stage(other) = base {
                stack.push((*other, false));
            }
        }
    }
    Ok(order)
}
