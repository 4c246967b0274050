//! Limits: how much of the machine a step may take: what its definition asks for, within what the daemon allows.
//!
//! LLB has no field for it; it comes as description, and is no part of the step's key: the same step with less memory makes the same.

use std::collections::BTreeMap;

use buildd_api::llb::STEP_LIMIT;
use buildd_runtime::step::StepLimits;

use crate::error::{Error, Result};

/// The limits of a step with this description, on a worker whose own are `most`.
pub(super) fn of(description: &BTreeMap<String, String>, most: &StepLimits) -> Result<StepLimits> {
    let mut limits = most.clone();
    let named = description.iter().filter_map(|(key, value)| Some((key.strip_prefix(STEP_LIMIT)?, value)));
    for (name, value) in named {
        set(&mut limits, name, value).ok_or_else(|| Error::Invalid {
            what: "limit of a step",
            name: format!("{name}={value}"),
            reason: "it is unknown, or no such number or list".to_owned(),
        })?;
    }
    limits.memory = limits.memory.min(most.memory);
    // Memory alone cannot be more than memory and swap together.
    limits.swap = limits.swap.map(|swap| if swap < 0 { swap } else { swap.max(limits.memory) });
    Ok(limits)
}

fn set(limits: &mut StepLimits, name: &str, value: &str) -> Option<()> {
    let list = || value.bytes().all(|byte| byte.is_ascii_digit() || b",-".contains(&byte));
    match name {
        "memory" => limits.memory = value.parse().ok().filter(|bytes| *bytes > 0)?,
        "memswap" => limits.swap = Some(value.parse().ok().filter(|bytes| *bytes >= -1)?),
        "cpushares" => limits.cpu.shares = Some(value.parse().ok()?),
        "cpuperiod" => limits.cpu.period = Some(value.parse().ok()?),
        "cpuquota" => limits.cpu.quota = Some(value.parse().ok().filter(|quota| *quota >= -1)?),
        "cpusetcpus" if list() => limits.cpu.cpus = value.to_owned(),
        "cpusetmems" if list() => limits.cpu.mems = value.to_owned(),
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests;
