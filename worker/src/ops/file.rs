//! File: COPY, ADD, WORKDIR and their like: changes to a tree without a process.
//!
//! Actions run one after another on the draft of a layer; each may begin from an input or from what an earlier one made.
//! What a copy reads enters the key by content, with the source's base name, so that equal files copied from elsewhere
//! hit.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use buildd_api::buildkit::pb;
use buildd_oci::digest::Digest;
use buildd_solver::{
    graph::Vertex,
    op::{CacheMap, InputKey, Op, OpContext, OpError, Parts, fingerprint},
    result::OpResult,
};
use buildd_store::snapshot::{Draft, SnapshotId, SnapshotPin};
use pb::file_action::Action;
use prost::Message;

use super::exec::{digest_of, prints_of};
use crate::{
    checksum::Selection,
    error::{Error, Result, op_error},
    listing::Listing,
    snapshot_ref::SnapshotRef,
    worker::Worker,
};

mod act;
mod copy;
mod mode;

pub(super) use copy::copy_tree;

/// Most actions of one op.
const MAX_ACTIONS: usize = 10_000;

/// A list of changes.
#[derive(Debug)]
pub(crate) struct FileOp {
    worker: Arc<Worker>,
    op: pb::FileOp,
    inputs: usize,
}

/// The work behind a file op.
pub(crate) fn resolve(worker: Arc<Worker>, op: &pb::FileOp, vertex: &Vertex) -> Result<Arc<dyn Op>, OpError> {
    let invalid = |reason: String| op_error(Error::Invalid { what: "file op", name: vertex.name(), reason });
    let inputs = vertex.inputs.len();
    if op.actions.is_empty() || op.actions.len() > MAX_ACTIONS {
        return Err(invalid(format!("it has {} actions", op.actions.len())));
    }
    for (number, action) in op.actions.iter().enumerate() {
        let known =
            |index: i64| index < 0 || usize::try_from(index).is_ok_and(|index| index < inputs + number);
        if !known(action.input) || !known(action.secondary_input) {
            return Err(invalid(format!("action {number} names an input that does not exist")));
        }
        if action.action.is_none() {
            return Err(invalid(format!("action {number} is of a kind that this buildd does not know")));
        }
    }
    Ok(Arc::new(FileOp { worker, op: op.clone(), inputs }))
}

impl FileOp {
    /// What the copies read of an input; None if something stands on it.
    fn selections(&self, input: usize) -> Option<Vec<Selection>> {
        let index = i64::try_from(input).ok()?;
        if self.op.actions.iter().any(|action| action.input == index) {
            return None;
        }
        let mut selections = Vec::new();
        for action in self.op.actions.iter().filter(|action| action.secondary_input == index) {
            let Some(Action::Copy(copy)) = &action.action else { return None };
            // A copy of a single name follows a link at the end as the copy itself does.
            selections.push(copy::selection(copy));
        }
        // An owner by name reads an input's passwd file: it is part of the key by definition.
        let named = |action: &pb::FileAction| act::owner_inputs(action).contains(&index);
        if self.op.actions.iter().any(named) || selections.is_empty() { None } else { Some(selections) }
    }

    fn input_key(&self, input: usize) -> InputKey {
        match self.selections(input) {
            None => InputKey::Definition,
            Some(selections) => InputKey::Content {
                selector: serde_json::to_string(&selections).expect("strings have a JSON form"),
            },
        }
    }

    /// The op with the sources of copies cut to their base names.
    fn normalised(&self) -> Vec<u8> {
        let mut op = self.op.clone();
        for action in &mut op.actions {
            let content = usize::try_from(action.secondary_input)
                .is_ok_and(|input| input < self.inputs && self.selections(input).is_some());
            if let Some(Action::Copy(copy)) = &mut action.action
                && content
            {
                copy.src = copy.src.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
            }
        }
        let mut bytes = b"file\n".to_vec();
        op.encode(&mut bytes).expect("a vector takes all bytes");
        bytes
    }
}

#[async_trait]
impl Op for FileOp {
    async fn cache_map(&self, _: &OpContext) -> Result<CacheMap, OpError> {
        Ok(CacheMap {
            digest: Digest::of(&self.normalised()),
            aliases: Vec::new(),
            inputs: (0..self.inputs).map(|input| self.input_key(input)).collect(),
        })
    }

    async fn content_digest(
        &self,
        _: &OpContext,
        input: usize,
        result: &OpResult,
    ) -> Result<Digest, OpError> {
        match self.input_key(input) {
            InputKey::Content { selector } => digest_of(&self.worker, result, selector).await,
            InputKey::Definition => Err(op_error(Error::Invalid {
                what: "input",
                name: input.to_string(),
                reason: "not by content".into(),
            })),
        }
    }

    async fn parts(&self, inputs: &[OpResult]) -> Parts {
        let keys = (0..self.inputs).map(|input| self.input_key(input)).collect();
        let mut parts = prints_of(&self.worker, keys, inputs).await;
        for action in &self.op.actions {
            parts.extend(parts_of(action));
        }
        parts
    }

    async fn exec(&self, _: &OpContext, inputs: &[OpResult]) -> Result<Vec<OpResult>, OpError> {
        let inputs: Vec<Option<SnapshotId>> = inputs
            .iter()
            .map(|input| Ok(SnapshotRef::of(input)?.id()))
            .collect::<Result<_>>()
            .map_err(op_error)?;
        let op = self.op.clone();
        let removes = op.actions.iter().any(|action| matches!(action.action, Some(Action::Rm(_))));
        let mut run = Run { worker: self.worker.clone(), inputs, removes, made: BTreeMap::new() };
        let work = move || -> Result<Vec<OpResult>> {
            let mut outputs = BTreeMap::new();
            for (number, action) in op.actions.iter().enumerate() {
                run.action(number, action)?;
                if action.output >= 0 {
                    let held = run.settle(run.inputs.len() + number)?;
                    outputs.insert(action.output, SnapshotRef::result(Some(held)));
                }
            }
            Ok(outputs.into_values().collect())
        };
        buildd_fs::blocking::run(work).await.map_err(op_error)
    }
}

/// What an action is, in the words of those who write it.
fn parts_of(action: &pb::FileAction) -> Parts {
    let Some(Action::Copy(copy)) = &action.action else {
        return Parts::from([("what it makes".to_owned(), fingerprint(&action.encode_to_vec()))]);
    };
    let name = |part: &str| format!("{part} of the copy to {}", copy.dest);
    let owner = copy.owner.as_ref().map(Message::encode_to_vec).unwrap_or_default();
    let patterns = [copy.include_patterns.join("\0"), copy.exclude_patterns.join("\0")].join("\n");
    Parts::from([
        (name("the source"), fingerprint(copy.src.as_bytes())),
        (name("the owner"), fingerprint(&owner)),
        (name("the mode"), fingerprint(format!("{} {}", copy.mode, copy.mode_str).as_bytes())),
        (name("the patterns"), fingerprint(patterns.as_bytes())),
    ])
}

/// What an action made, still open for the next one or settled.
enum ActionResult {
    Open(Box<Draft>),
    Settled(SnapshotPin),
}

/// The actions of one op at work.
struct Run {
    worker: Arc<Worker>,
    inputs: Vec<Option<SnapshotId>>,
    /// Some of the actions remove.
    removes: bool,
    made: BTreeMap<usize, ActionResult>,
}

impl Run {
    fn action(&mut self, number: usize, action: &pb::FileAction) -> Result<()> {
        let own = self.inputs.len() + number;
        let mut draft = self.open(action.input)?;
        let source = match usize::try_from(action.secondary_input) {
            Ok(index) => Some(self.source(index)?),
            Err(_) => None,
        };
        let users = |index: i64| match usize::try_from(index) {
            Ok(index) if index < self.inputs.len() => {
                Ok(Some(self.worker.store.snapshots.reading(self.inputs[index])?))
            }
            _ => Ok(None),
        };
        act::apply(action, &mut draft, source.as_ref(), &users)?;
        self.made.insert(own, ActionResult::Open(draft.into()));
        Ok(())
    }

    /// What an action begins from; what an earlier one left open is taken over.
    fn open(&mut self, index: i64) -> Result<Draft> {
        let Ok(index) = usize::try_from(index) else { return self.draft(None) };
        if index < self.inputs.len() {
            return self.draft(self.inputs[index]);
        }
        match self.made.remove(&index) {
            Some(ActionResult::Open(draft)) => Ok(*draft),
            Some(ActionResult::Settled(held)) => {
                let draft = self.draft(Some(held.id()));
                self.made.insert(index, ActionResult::Settled(held));
                draft
            }
            None => Err(Error::Invalid {
                what: "file op",
                name: format!("action {index}"),
                reason: "two actions go on from it and neither is an output".to_owned(),
            }),
        }
    }

    fn draft(&self, parent: Option<SnapshotId>) -> Result<Draft> {
        let snapshots = &self.worker.store.snapshots;
        Ok(if self.removes { snapshots.folder_draft(parent)? } else { snapshots.draft(parent)? })
    }

    /// Commits what an action made.
    fn settle(&mut self, index: usize) -> Result<SnapshotPin> {
        let held = match self.made.remove(&index) {
            Some(ActionResult::Open(draft)) => draft.commit()?,
            Some(ActionResult::Settled(held)) => held,
            None => {
                let reason = "it was gone on from".to_owned();
                return Err(Error::Invalid { what: "file op", name: format!("action {index}"), reason });
            }
        };
        self.made.insert(index, ActionResult::Settled(held.clone()));
        Ok(held)
    }

    /// What a copy reads.
    fn source(&mut self, index: usize) -> Result<Listing> {
        let id = match index < self.inputs.len() {
            true => self.inputs[index],
            false => Some(self.settle(index)?.id()),
        };
        self.worker.listing(id)
    }
}
