//! Exec ops: a process in a root file system, with mounts.
//!
//! The first mount is the root; every writable bind mount may have an output, the root always has output 0.

use super::{Inputs, OpOptions, State};
use crate::buildkit::pb;

/// One mount of an exec op, with the file system behind it.
#[derive(Clone, Debug)]
pub struct ExecMount {
    /// What is mounted; scratch for an empty one.
    pub from: State,
    /// Everything else; `input` is filled in when the op is made.
    pub mount: pb::Mount,
}

/// A process to run.
#[derive(Clone, Debug, Default)]
pub struct ExecSpec {
    /// Arguments, environment, user and so on.
    pub meta: pb::Meta,
    /// Mounts beside the root, in order.
    pub mounts: Vec<ExecMount>,
    /// Which network it sees.
    pub network: pb::NetMode,
    /// Whether it is sandboxed.
    pub security: pb::SecurityMode,
    /// Secrets in its environment.
    pub secret_env: Vec<pb::SecretEnv>,
    /// Devices that it sees.
    pub devices: Vec<pb::CdiDevice>,
}

impl State {
    /// The root file system after the process ended well.
    pub fn exec(&self, spec: ExecSpec, options: OpOptions) -> Self {
        let mut inputs = Inputs::default();
        let root = pb::Mount { input: inputs.add(self), dest: "/".to_owned(), ..Default::default() };
        let mut mounts = vec![root];
        for ExecMount { from, mount } in spec.mounts {
            mounts.push(pb::Mount { input: inputs.add(&from), output: -1, ..mount });
        }
        let op = pb::ExecOp {
            meta: Some(spec.meta),
            mounts,
            network: spec.network as i32,
            security: spec.security as i32,
            secretenv: spec.secret_env,
            cdi_devices: spec.devices,
        };
        Self::output(&Self::of(inputs, pb::op::Op::Exec(op), options), 0)
    }
}
