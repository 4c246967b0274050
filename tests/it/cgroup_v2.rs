//! Control groups of version 2: steps and tasks in a small virtual machine, for the machines of the other tests have version 1.
//!
//! The machine is emulated (qemu, no acceleration), with a kernel of Debian and nothing else in its memory than our binaries, busybox, ctr and
//! a base image. There is no systemd: the groups are made in the file system, as the daemon does without one. `cgroup_v2/smoke` is what runs in
//! it and prints a line for each check. `tests/peers` fetches kernel and emulator.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use buildd_tests::{
    daemon::{binaries, run},
    fixture::{repository, text},
    peers::{peer, peers},
};

/// Seconds that the machine may take: a liveness deadline; it needs some thirty on two idle processors.
const DEADLINE: &str = "300";
const SMOKE: &str = include_str!("cgroup_v2/smoke");

/// The names of the checks that the script makes.
fn checks() -> BTreeSet<&'static str> {
    let names = SMOKE.lines().filter_map(|line| {
        let (verb, rest) = line.split_once(" \"")?;
        ["check", "fails"].contains(&verb).then(|| rest.split_once('"').expect("a name in quotes").0)
    });
    names.collect()
}

/// Copies a program, without what a debugger needs, and the libraries that it is linked to.
fn program(from: &Path, root: &Path) {
    let to = root.join("bin").join(from.file_name().expect("a program"));
    run(Command::new("strip").arg("-o").arg(&to).arg(from)).ok();
    let listed = run(Command::new("ldd").arg(from));
    for library in listed.stdout.split_whitespace().filter(|word| word.starts_with('/')) {
        let to = root.join(library.trim_start_matches('/'));
        fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        fs::copy(library, &to).expect("a library");
    }
}

/// The initial file system of the machine.
fn initial(dir: &Path) -> PathBuf {
    let root = dir.join("root");
    for folder in
        ["bin", "proc", "sys", "dev", "etc", "new", "context", "modules", "lib", "lib64", "usr/lib", "tmp"]
    {
        fs::create_dir_all(root.join(folder)).expect("a folder");
    }
    let busybox = PathBuf::from(peer("busybox").get_program());
    fs::copy(&busybox, root.join("bin/busybox")).expect("busybox");
    for name in ["buildd", "buildctl"] {
        program(&binaries().join(name), &root);
    }
    program(Path::new(peer("ctr").get_program()), &root);
    for module in ["libcrc32c.ko", "erofs.ko", "overlay.ko"] {
        fs::copy(peers().join("machine").join(module), root.join("modules").join(module)).expect("a module");
    }
    run(Command::new(repository().join("examples/base")).arg(root.join("base.tar"))).ok();
    for (name, script) in [("init", include_str!("cgroup_v2/init")), ("smoke", SMOKE)] {
        fs::write(root.join(name), script).expect("a script");
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(0o755)).expect("a mode");
    }
    let packed = dir.join("initial.gz");
    let pack = "set -o pipefail; find . | busybox cpio -o -H newc 2>/dev/null | gzip -1 >\"$0\"";
    run(Command::new("bash").args(["-c", pack, text(&packed)]).current_dir(&root)).ok();
    packed
}

#[test]
fn steps_and_tasks_run_under_control_groups_of_version_2() {
    let dir = tempfile::Builder::new().prefix("buildd-machine-").tempdir().expect("a temporary folder");
    let kernel = peers().join("machine/vmlinuz");
    assert!(kernel.exists(), "{} is missing: run `tests/peers {}`", kernel.display(), peers().display());
    let mut machine = Command::new("timeout");
    machine.args([DEADLINE, "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-m", "2048"]);
    machine.args(["-smp", "2", "-display", "none", "-serial", "stdio", "-no-reboot", "-nic", "none"]);
    machine.arg("-kernel").arg(&kernel).arg("-initrd").arg(initial(dir.path()));
    machine.args(["-append", "console=ttyS0 quiet panic=-1 rdinit=/init"]).stdin(Stdio::null());
    let ran = run(&mut machine);
    let said = format!("{}\n{}", ran.stdout, ran.stderr);
    assert!(said.contains("smoke has ended"), "the machine did not come to its end:\n{said}");
    let passed: BTreeSet<&str> =
        said.lines().filter_map(|line| line.trim_end().strip_prefix("ok ")).collect();
    assert_eq!(passed, checks(), "{said}");
    assert!(!said.contains("panick") && !said.contains(" ERROR "), "{said}");
}
