//! Emulation: which foreign processors' programs this machine runs, through interpreters registered with the kernel.
//!
//! The kernel finds an interpreter by the head of an ELF file, so a handler is known by the `e_machine` it asks for. A step
//! of a foreign platform runs like any other; only its failure to start is explained with what is found here.
//!
//! # Sources
//! Linux `Documentation/admin-guide/binfmt-misc.rst`, elf(5).

use std::{fs, path::Path};

use buildd_oci::platform::Platform;

/// Where the kernel lists its handlers.
const HANDLERS: &str = "/proc/sys/fs/binfmt_misc";
/// Handlers that are read: a bound for a folder that is not what it should be.
const MAX_HANDLERS: usize = 1024;

/// Architectures as images name them, with the `e_machine` of their programs and whether they are big-endian.
const MACHINES: &[(&str, &str, u16, bool)] = &[
    ("386", "", 3, false),
    ("amd64", "", 62, false),
    ("arm", "v7", 40, false),
    ("arm64", "", 183, false),
    ("loong64", "", 258, false),
    ("mips64le", "", 8, false),
    ("ppc64le", "", 21, false),
    ("riscv64", "", 243, false),
    ("s390x", "", 22, true),
];

/// A registered interpreter.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Handler {
    name: String,
    /// Whether the kernel holds its file open, so that it need not be in the container (flag F).
    fixed: bool,
}

/// The foreign platforms whose steps run here.
pub fn platforms() -> Vec<Platform> {
    let host = Platform::host();
    let foreign = MACHINES.iter().filter(|(architecture, ..)| *architecture != host.architecture);
    let emulated = foreign.filter(|(architecture, ..)| {
        handler(Path::new(HANDLERS), architecture).is_some_and(|handler| handler.fixed)
    });
    emulated.map(|(architecture, variant, ..)| Platform::new("linux", architecture, variant)).collect()
}

/// Why a step for `platform` could not start here, and what to do about it; None if the platform is not the reason.
pub fn hint(platform: &Platform) -> Option<String> {
    explain(platform, &Platform::host(), Path::new(HANDLERS))
}

fn explain(platform: &Platform, host: &Platform, handlers: &Path) -> Option<String> {
    if platform.os.is_empty() || platform.architecture == host.architecture {
        return None;
    }
    let instead = "or run the step on this machine's platform with FROM --platform=$BUILDPLATFORM";
    let what = format!("the step is for {platform}, this machine is {host}");
    Some(match handler(handlers, &platform.architecture) {
        None => format!(
            "{what}, and no binfmt_misc handler for {} is registered: install one (Debian: qemu-user-static), {instead}",
            platform.architecture
        ),
        Some(Handler { name, fixed: false }) => format!(
            "{what}, and the binfmt_misc handler {name} has no F flag, so that its interpreter would have to be in \
             the container: register it with F, {instead}"
        ),
        Some(Handler { name, fixed: true }) => {
            format!("{what}; its programs run through the binfmt_misc handler {name}")
        }
    })
}

/// The enabled handler for programs of an architecture.
fn handler(folder: &Path, architecture: &str) -> Option<Handler> {
    let (_, _, machine, big_endian) = MACHINES.iter().find(|(name, ..)| *name == architecture)?;
    let listed = fs::read_dir(folder).ok()?.take(MAX_HANDLERS).filter_map(Result::ok);
    listed
        .filter_map(|entry| {
            let text = fs::read_to_string(entry.path()).ok()?;
            let name = entry.file_name().to_string_lossy().into_owned();
            (elf_machine(&text)? == (*machine, *big_endian)).then(|| Handler {
                name,
                fixed: text
                    .lines()
                    .any(|line| line.strip_prefix("flags:").is_some_and(|flags| flags.contains('F'))),
            })
        })
        .max_by_key(|handler| handler.fixed)
}

/// The `e_machine` and byte order that an enabled handler's magic asks for.
fn elf_machine(text: &str) -> Option<(u16, bool)> {
    let mut lines = text.lines();
    if lines.next()? != "enabled" {
        return None;
    }
    let magic = lines.find_map(|line| line.strip_prefix("magic "))?;
    let byte = |at: usize| u8::from_str_radix(magic.get(2 * at..2 * at + 2)?, 16).ok();
    if (byte(0)?, byte(1)?, byte(2)?, byte(3)?) != (0x7f, b'E', b'L', b'F') {
        return None;
    }
    let (pair, big_endian) = ([byte(18)?, byte(19)?], byte(5)? == 2);
    let machine = if big_endian { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) };
    Some((machine, big_endian))
}

#[cfg(test)]
mod tests;
