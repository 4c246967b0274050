//! Budget: how much one text may make, whatever its stages and triggers do to each other.
//!
//! Lowering takes from it. A step carries the whole environment before it, and a stage starts with all that its base has: a text of four
//! megabytes can ask for terabytes of either.

use crate::error::Fault;

/// Bytes of arguments and environments of all steps: stops very many steps with a very large environment. Larger definitions than a hundredth
/// of it are not seen.
const MAX_STEP_BYTES: usize = 256 << 20;
/// Instructions that are lowered, those of triggers counted for every stage that they run in: stops triggers from multiplying.
const MAX_INSTRUCTIONS: usize = 1 << 20;
/// Variables and lines of history that are copied from a stage to one based on it: stops stages from multiplying them.
const MAX_INHERITED: usize = 16 << 20;

/// What is left.
#[derive(Debug)]
pub(super) struct Budget {
    step_bytes: usize,
    instructions: usize,
    inherited: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { step_bytes: MAX_STEP_BYTES, instructions: MAX_INSTRUCTIONS, inherited: MAX_INHERITED }
    }
}

impl Budget {
    /// A step with so many bytes of arguments and environment.
    pub(super) fn step(&mut self, bytes: usize) -> Result<(), Fault> {
        take(&mut self.step_bytes, bytes, || {
            format!("the steps have more than {MAX_STEP_BYTES} bytes of arguments and environment in all")
        })
    }

    /// One more instruction.
    pub(super) fn instruction(&mut self) -> Result<(), Fault> {
        take(&mut self.instructions, 1, || {
            format!("more than {MAX_INSTRUCTIONS} instructions, those of triggers counted in every stage")
        })
    }

    /// A stage that starts with a copy of so many entries of its base.
    pub(super) fn inherit(&mut self, entries: usize) -> Result<(), Fault> {
        take(&mut self.inherited, entries, || {
            format!("the stages inherit more than {MAX_INHERITED} variables and lines of history in all")
        })
    }
}

fn take(left: &mut usize, amount: usize, message: impl FnOnce() -> String) -> Result<(), Fault> {
    *left = left.checked_sub(amount).ok_or_else(|| Fault::new(message()).hint("split the text up"))?;
    Ok(())
}
