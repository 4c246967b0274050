//! Fence: the seccomp filter of steps, compiled once for a daemon and put up by each step's first process.
//!
//! libcontainer compiles the profile whenever it makes a container, which takes half of the time that a RUN of `true` takes. So it is given
//! none: it leaves the process one capability more, the process loads the compiled filter and gives that capability up, then it executes.
//!
//! # Invariants
//! No program of a step runs without it: what cannot be loaded ends the process.
//!
//! # Sources
//! spec runtime "libcontainer 0.7"; seccomp(2).

use std::{
    collections::HashSet,
    fs::{self, File},
    io::Write as _,
    path::Path,
};

use libcontainer::{
    capabilities,
    syscall::syscall::create_syscall,
    workload::{Executor, ExecutorError, ExecutorValidationError},
};
use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use oci_spec::runtime::{
    Arch, Capability, LinuxCapabilities, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg,
    LinuxSeccompOperator, Spec,
};

use super::helper::Failure;
use crate::{program::Program, spec, sys};

/// What loading a filter takes; the steps' own set does not have it.
const LOADING: Capability = Capability::SysAdmin;
/// What a process answers that could not put up its fence: the exit code of a container that was not started.
const NOT_STARTED: i32 = 125;

/// Compiles the profile of steps into a file.
pub(super) fn compile(path: &Path) -> Result<(), Failure> {
    let filter = filter(&spec::seccomp::profile()?)?;
    let part = path.with_extension("part");
    let file = File::create(&part)?;
    filter.export_bpf(&file)?;
    fs::rename(&part, path)?;
    Ok(())
}

/// The profile in libseccomp's terms; it has no more than our profiles use.
fn filter(profile: &LinuxSeccomp) -> Result<ScmpFilterContext, Failure> {
    let otherwise = action(profile.default_action(), profile.default_errno_ret())?;
    let mut filter = ScmpFilterContext::new(otherwise)?;
    for arch in profile.architectures().iter().flatten() {
        filter.add_arch(match arch {
            Arch::ScmpArchX86_64 => ScmpArch::X8664,
            Arch::ScmpArchX86 => ScmpArch::X86,
            Arch::ScmpArchAarch64 => ScmpArch::Aarch64,
            other => return Err(format!("the profile of steps names {other:?}").into()),
        })?;
    }
    for rule in profile.syscalls().iter().flatten() {
        let action = action(rule.action(), rule.errno_ret())?;
        let conditions = rule.args().iter().flatten().map(condition).collect::<Result<Vec<_>, _>>()?;
        for name in rule.names() {
            // A call that this libseccomp does not know is one that no program makes by name; unnamed it is refused.
            if let Ok(call) = ScmpSyscall::from_name(name) {
                filter.add_rule_conditional(action, call, &conditions)?;
            }
        }
    }
    Ok(filter)
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<ScmpAction, Failure> {
    match action {
        LinuxSeccompAction::ScmpActAllow => Ok(ScmpAction::Allow),
        LinuxSeccompAction::ScmpActErrno => Ok(ScmpAction::Errno(i32::try_from(errno.unwrap_or(1))?)),
        other => Err(format!("the profile of steps says {other:?}").into()),
    }
}

fn condition(arg: &LinuxSeccompArg) -> Result<ScmpArgCompare, Failure> {
    let index = u32::try_from(arg.index())?;
    match arg.op() {
        LinuxSeccompOperator::ScmpCmpEq => Ok(ScmpArgCompare::new(index, ScmpCompareOp::Equal, arg.value())),
        LinuxSeccompOperator::ScmpCmpMaskedEq => {
            let masked = ScmpCompareOp::MaskedEqual(arg.value());
            Ok(ScmpArgCompare::new(index, masked, arg.value_two().unwrap_or_default()))
        }
        other => Err(format!("the profile of steps compares by {other:?}").into()),
    }
}

/// Executes a step's program behind its fence, if it has one.
#[derive(Clone, Debug, Default)]
pub(super) struct Fenced(Option<Fence>);

#[derive(Clone, Debug)]
struct Fence {
    filter: Vec<u8>,
    capabilities: LinuxCapabilities,
}

impl Fenced {
    /// Takes the filter out of a container's configuration, to be loaded from `compiled` instead.
    pub(super) fn take(config: &mut Spec, compiled: &Path) -> Result<Self, Failure> {
        let filter = fs::read(compiled)?;
        let mut linux = config.linux().clone().ok_or("no linux in the configuration")?;
        linux.set_seccomp(None);
        config.set_linux(Some(linux));
        let mut process = config.process().clone().ok_or("no process in the configuration")?;
        let capabilities = process.capabilities().clone().ok_or("no capabilities in the configuration")?;
        let more = |set: &Option<HashSet<Capability>>| {
            let set = set.iter().flatten().copied();
            Some(set.chain([LOADING]).collect::<HashSet<_>>())
        };
        let mut meanwhile = capabilities.clone();
        meanwhile.set_bounding(more(capabilities.bounding()));
        meanwhile.set_permitted(more(capabilities.permitted()));
        meanwhile.set_effective(more(capabilities.effective()));
        process.set_capabilities(Some(meanwhile));
        config.set_process(Some(process));
        Ok(Self(Some(Fence { filter, capabilities })))
    }
}

impl Fence {
    fn put_up(&self) -> Result<(), Failure> {
        sys::load_filter(&self.filter)?;
        capabilities::drop_privileges(&self.capabilities, create_syscall().as_ref())?;
        Ok(())
    }
}

impl Executor for Fenced {
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        Program.validate(spec)
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        if let Some(Err(error)) = self.0.as_ref().map(Fence::put_up) {
            // The container has started already: its own output is the only place left to say it.
            let _ = writeln!(std::io::stderr(), "the sandbox could not be closed: {error}");
            std::process::exit(NOT_STARTED);
        }
        Program.exec(spec)
    }
}

#[cfg(test)]
mod tests;
