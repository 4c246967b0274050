//! Foreign platforms: what is said when no handler runs them.

use super::*;

/// What the kernel shows of a handler for a 64-bit ELF machine.
fn shown(state: &str, flags: &str, order: u8, machine: [u8; 2]) -> String {
    let magic: String = [0x7f, b'E', b'L', b'F', 2, order, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0]
        .iter()
        .chain(&machine)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{state}\ninterpreter /usr/bin/qemu\nflags: {flags}\noffset 0\nmagic {magic}\nmask ff\n")
}

#[test]
fn a_foreign_step_is_explained_by_the_handlers() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: String| fs::write(folder.path().join(name), text).expect("written");
    write("status", "enabled\n".to_owned());
    write("python", "enabled\ninterpreter /usr/bin/python3\nflags: \noffset 0\nmagic 6f0d0d0a\n".to_owned());
    write("off", shown("disabled", "F", 1, [243, 0]));
    write("qemu-arm", shown("enabled", "", 1, [40, 0]));
    write("qemu-s390x", shown("enabled", "POCF", 2, [0, 22]));
    write("not-s390x", shown("enabled", "", 1, [22, 0]));
    let host = Platform::new("linux", "amd64", "");
    let explained = |platform: &str| {
        explain(&platform.parse().expect("a platform"), &host, folder.path()).unwrap_or_default()
    };
    for (platform, words) in [
        ("linux/amd64", ""),
        ("linux/arm64", "no binfmt_misc handler for arm64 is registered"),
        ("linux/riscv64", "no binfmt_misc handler for riscv64 is registered"),
        ("linux/arm/v7", "the binfmt_misc handler qemu-arm has no F flag"),
        ("linux/s390x", "run through the binfmt_misc handler qemu-s390x"),
    ] {
        let text = explained(platform);
        assert!(text.contains(words) && text.is_empty() == words.is_empty(), "{platform}: {text}");
        assert!(text.is_empty() || text.contains(platform), "{platform}: {text}");
    }
}
