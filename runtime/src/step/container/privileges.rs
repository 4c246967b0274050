//! Privileges: what a step's first process gives up before it executes its program: limits, user, capabilities, system calls.
//!
//! # Invariants
//! No program of a sandboxed step runs with more than the profile leaves; what cannot be given up ends the process.
//!
//! # Sources
//! capabilities(7), "Effect of user ID changes on capabilities"; seccomp(2); runc `libcontainer/init_linux.go`, for the order.

use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use rustix::{
    fs::FileType,
    io::Errno,
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::{
        CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
        configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
        set_keep_capabilities,
    },
};

use crate::{
    passwd::StepUser,
    profile,
    step::{Security, StepSpec, container::Refusal},
    sys,
};

/// Files a process may have open: the soft limit stays low for programs that loop over all of them.
const OPEN_FILES: (u64, u64) = (1024, 1_048_576);
/// What it takes to give up the rest: to drop from the bounding set, and to load a filter.
const GIVING_UP: CapabilitySet = CapabilitySet::SETPCAP.union(CapabilitySet::SYS_ADMIN);

/// Sets the limits of the process: the usual ones, and those that the step asks for.
pub(super) fn limit(step: &StepSpec) -> Result<(), Refusal> {
    let most = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let hard = OPEN_FILES.1.min(most);
    let usual = [("nofile", OPEN_FILES.0.min(hard), hard), ("core", 0, 0)];
    let asked = step.ulimits.iter().map(|limit| (limit.name.as_str(), limit.soft, limit.hard));
    for (name, soft, hard) in usual.into_iter().chain(asked) {
        // Of a definition that nobody checked; the frontend refuses it by name.
        let Some(resource) = resource(name) else { continue };
        let limit = |value| (value != u64::MAX).then_some(value);
        setrlimit(resource, Rlimit { current: limit(soft), maximum: limit(hard) })
            .map_err(|error| Refusal::failed(format!("set the limit {name} to {soft}:{hard}"), error))?;
    }
    Ok(())
}

fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "nofile" => Resource::Nofile,
        "nproc" => Resource::Nproc,
        "core" => Resource::Core,
        "memlock" => Resource::Memlock,
        "stack" => Resource::Stack,
        "fsize" => Resource::Fsize,
        "cpu" => Resource::Cpu,
        "data" => Resource::Data,
        "locks" => Resource::Locks,
        "msgqueue" => Resource::Msgqueue,
        "nice" => Resource::Nice,
        "rss" => Resource::Rss,
        "rtprio" => Resource::Rtprio,
        "rttime" => Resource::Rttime,
        "sigpending" => Resource::Sigpending,
        _ => return None,
    })
}

/// Becomes the step's user, with its capabilities and behind the filter, if there is one.
pub(super) fn drop_privileges(step: &StepSpec, filter: Option<&[u8]>) -> Result<(), Refusal> {
    let held = capabilities(None)?.permitted;
    let kept = match step.security {
        Security::Sandbox => profile::CAPABILITIES & held,
        Security::Insecure => held,
    };
    own_streams(&step.user)?;
    set_keep_capabilities(true)?;
    switch(&step.user).map_err(|error| Refusal::failed("become the step's user", error))?;
    let during = (kept | GIVING_UP) & held;
    set(during, CapabilitySet::empty())?;
    bound(kept)?;
    if let Some(filter) = filter {
        sys::load_filter(filter).map_err(|error| Refusal::failed("close the sandbox", error))?;
    }
    let inherited = if step.security == Security::Insecure { kept } else { CapabilitySet::empty() };
    set(kept, inherited)?;
    clear_ambient_capability_set()?;
    for one in inherited.iter() {
        configure_capability_in_ambient_set(one, true)?;
    }
    Ok(())
}

fn set(permitted: CapabilitySet, inheritable: CapabilitySet) -> Result<(), Refusal> {
    set_capabilities(None, CapabilitySets { effective: permitted, permitted, inheritable })
        .map_err(|error| Refusal::failed("set the capabilities", error))
}

/// Drops all others from the bounding set, also those that are newer than this program.
fn bound(kept: CapabilitySet) -> Result<(), Refusal> {
    for number in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << number);
        if kept.contains(one) {
            continue;
        }
        match remove_capability_from_bounding_set(one) {
            Ok(()) => {}
            // The kernel knows no more.
            Err(Errno::INVAL) => break,
            Err(error) => return Err(Refusal::failed("drop a capability", error)),
        }
    }
    Ok(())
}

fn switch(user: &StepUser) -> nix::Result<()> {
    let groups: Vec<Gid> = user.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    setgroups(&groups)?;
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)
}

/// Makes the step's user the owner of its streams, or it could not open them again by `/dev/stdout`.
fn own_streams(user: &StepUser) -> Result<(), Refusal> {
    let owner = Some(rustix::fs::Uid::from_raw(user.uid));
    for stream in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
        let stat = rustix::fs::fstat(stream)?;
        let pipe = FileType::from_raw_mode(stat.st_mode) == FileType::Fifo;
        if (pipe || rustix::termios::isatty(stream)) && stat.st_uid != user.uid {
            rustix::fs::fchown(stream, owner, None)?;
        }
    }
    Ok(())
}
