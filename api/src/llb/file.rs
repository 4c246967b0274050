//! File ops: copy, make and remove files without a process.
//!
//! Actions of one op are chained: each works on the result of the one before, the last one's is the op's output.
//!
//! # Wire
//! An index below the number of inputs names an input, one above names an earlier action (index - inputs); -1 is scratch.

use super::{Inputs, OpOptions, State};
use crate::buildkit::pb::{self, file_action::Action};

/// One action of a file op.
#[derive(Clone, Debug)]
pub enum FileStep {
    /// Copies out of another file system.
    Copy {
        /// Where the files lie.
        from: State,
        /// What is copied where, and how.
        copy: pb::FileActionCopy,
    },
    /// Writes a file.
    MakeFile(pb::FileActionMkFile),
    /// Makes a folder.
    MakeDir(pb::FileActionMkDir),
    /// Removes a path.
    Remove(pb::FileActionRm),
}

impl State {
    /// This file system after `steps`.
    pub fn file(&self, steps: Vec<FileStep>, options: OpOptions) -> Self {
        if steps.is_empty() {
            return self.clone();
        }
        let mut inputs = Inputs::default();
        let base = inputs.add(self);
        let secondary: Vec<i64> = steps
            .iter()
            .map(|step| match step {
                FileStep::Copy { from, .. } => inputs.add(from),
                _ => -1,
            })
            .collect();
        let (count, last) = (inputs.0.len() as i64, steps.len() - 1);
        let actions = steps
            .into_iter()
            .enumerate()
            .map(|(i, step)| {
                let input = if i == 0 { base } else { count + i as i64 - 1 };
                pb::FileAction {
                    input,
                    secondary_input: secondary[i],
                    output: if i == last { 0 } else { -1 },
                    action: Some(action(step, input)),
                }
            })
            .collect();
        let op = pb::op::Op::File(pb::FileOp { actions });
        Self::output(&Self::of(inputs, op, options), 0)
    }
}

/// Names of users are looked up in the file system that the action works on.
fn action(step: FileStep, input: i64) -> Action {
    match step {
        FileStep::Copy { mut copy, .. } => {
            bind_owner(copy.owner.as_mut(), input);
            Action::Copy(copy)
        }
        FileStep::MakeFile(mut file) => {
            bind_owner(file.owner.as_mut(), input);
            Action::Mkfile(file)
        }
        FileStep::MakeDir(mut dir) => {
            bind_owner(dir.owner.as_mut(), input);
            Action::Mkdir(dir)
        }
        FileStep::Remove(remove) => Action::Rm(remove),
    }
}

fn bind_owner(owner: Option<&mut pb::ChownOpt>, base: i64) {
    let Some(owner) = owner else { return };
    for user in [owner.user.as_mut(), owner.group.as_mut()].into_iter().flatten() {
        if let Some(pb::user_opt::User::ByName(named)) = &mut user.user {
            named.input = base;
        }
    }
}
