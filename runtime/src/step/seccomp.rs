//! Fence: the seccomp filter of steps, compiled once for a daemon: to compile it takes longer than all else that a RUN of `true` takes.
//!
//! The first process of each step loads it as it is, the last thing before it executes (`container::privileges`).
//!
//! # Sources
//! spec runtime "libcontainer 0.7"; seccomp(2).

use std::{
    fs::{self, File},
    path::Path,
};

use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator};

use super::helper::Failure;
use crate::profile::seccomp;

/// Compiles the profile of steps into a file.
pub(super) fn compile(path: &Path) -> Result<(), Failure> {
    let filter = filter(&seccomp::profile()?)?;
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

#[cfg(test)]
mod tests;
