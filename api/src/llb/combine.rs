//! Merge and diff ops: file systems laid over each other, or taken apart.
//!
//! Scratch is the neutral element, so that a merge of one real state is that state.

use super::{Inputs, OpOptions, State};
use crate::buildkit::pb;

impl State {
    /// All `states` over each other, the last on top.
    pub fn merge(states: &[Self], options: OpOptions) -> Self {
        let real: Vec<&Self> = states.iter().filter(|state| !state.is_scratch()).collect();
        match real.as_slice() {
            [] => return Self::scratch(),
            [one] => return (*one).clone(),
            _ => {}
        }
        let mut inputs = Inputs::default();
        let list = real.iter().map(|state| pb::MergeInput { input: inputs.add(state) }).collect();
        let vertex = Self::of(inputs, pb::op::Op::Merge(pb::MergeOp { inputs: list }), options);
        Self::output(&vertex, 0)
    }

    /// What `upper` changes of `lower`.
    pub fn diff(lower: &Self, upper: &Self, options: OpOptions) -> Self {
        if upper.is_scratch() {
            return Self::scratch();
        }
        let mut inputs = Inputs::default();
        let lower = pb::LowerDiffInput { input: inputs.add(lower) };
        let upper = pb::UpperDiffInput { input: inputs.add(upper) };
        let op = pb::DiffOp { lower: Some(lower), upper: Some(upper) };
        Self::output(&Self::of(inputs, pb::op::Op::Diff(op), options), 0)
    }
}
