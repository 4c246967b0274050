//! Tests of the fence: the compiled filter, interpreted as the kernel does, answers as the profile says for every call there is.

use std::collections::BTreeMap;

use libseccomp::{ScmpArch, ScmpSyscall};

use super::compile;
use crate::profile::seccomp;

const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
/// Numbers as the kernel gives them to a filter.
const X86_64: u32 = 0xc000_003e;
const X86: u32 = 0x4000_0003;
const AARCH64: u32 = 0xc000_00b7;
/// More calls than any architecture has.
const CALLS: i32 = 700;

/// Runs a classic BPF program over `struct seccomp_data`.
fn answer(program: &[u8], arch: u32, call: i32, args: [u64; 6]) -> u32 {
    let mut data = Vec::new();
    data.extend(call.to_ne_bytes());
    data.extend(arch.to_ne_bytes());
    data.extend(0_u64.to_ne_bytes());
    args.iter().for_each(|arg| data.extend(arg.to_ne_bytes()));
    let word = |at: u32| u32::from_ne_bytes(data[at as usize..at as usize + 4].try_into().expect("four"));
    let (mut at, mut a) = (0, 0_u32);
    loop {
        let i = &program[at * 8..at * 8 + 8];
        let (code, k) =
            (u16::from_ne_bytes([i[0], i[1]]), u32::from_ne_bytes(i[4..].try_into().expect("four")));
        at += 1;
        let (yes, no) = (usize::from(i[2]), usize::from(i[3]));
        at += match code {
            0x20 => {
                a = word(k);
                0
            }
            0x54 => {
                a &= k;
                0
            }
            0x05 => k as usize,
            0x15 => [no, yes][usize::from(a == k)],
            0x25 => [no, yes][usize::from(a > k)],
            0x35 => [no, yes][usize::from(a >= k)],
            0x45 => [no, yes][usize::from(a & k != 0)],
            0x06 => return k,
            other => panic!("an instruction {other:#x}"),
        };
    }
}

fn program() -> Vec<u8> {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("filter");
    compile(&path).expect("a filter");
    std::fs::read(path).expect("a file")
}

/// What the profile says of a call that is named in it.
#[derive(Default)]
struct Said {
    /// First arguments that it is allowed with, or masks and what they must leave; if there are none, with all.
    first: Vec<(u64, Option<u64>)>,
    /// What it answers instead of being allowed.
    errno: Option<u32>,
}

fn said() -> BTreeMap<String, Said> {
    let mut said: BTreeMap<String, Said> = BTreeMap::new();
    for rule in seccomp::profile().expect("a profile").syscalls().iter().flatten() {
        for name in rule.names() {
            let entry = said.entry(name.clone()).or_default();
            entry.errno = rule.errno_ret();
            entry.first.extend(rule.args().iter().flatten().map(|arg| (arg.value(), arg.value_two())));
        }
    }
    said
}

#[test]
fn every_call_is_answered_as_the_profile_says() {
    let (program, said) = (program(), said());
    let arches = if cfg!(target_arch = "aarch64") {
        vec![(AARCH64, ScmpArch::Aarch64)]
    } else {
        vec![(X86_64, ScmpArch::X8664), (X86, ScmpArch::X86)]
    };
    let (mut allowed, mut refused) = (0, 0);
    for (number, arch) in arches {
        for call in 0..CALLS {
            let name = ScmpSyscall::from(call).get_name_by_arch(arch).unwrap_or_default();
            for argument in
                [0, 1, 2, 3, 8, 10, 16, 17, 0x10_0000, 0x1000_0000, 0x0200_0011, 0xffff_ffff, u64::MAX]
            {
                // 32-bit Linux has no more of an argument.
                let argument = if number == X86 { argument & 0xffff_ffff } else { argument };
                let conditions = |(value, masked): &(u64, Option<u64>)| match masked {
                    Some(masked) => argument & value == *masked,
                    None => argument == *value,
                };
                let wanted = match said.get(&name) {
                    Some(Said { errno: Some(errno), .. }) => ERRNO | errno,
                    Some(Said { first, .. }) if first.is_empty() || first.iter().any(conditions) => ALLOW,
                    _ => ERRNO | 1,
                };
                let answer = answer(&program, number, call, [argument, 0, 0, 0, 0, 0]);
                // Multiplexed calls of 32-bit Linux are checked where they arrive.
                if name != "socketcall" && name != "ipc" {
                    assert_eq!(answer, wanted, "{name} ({call}) of {arch:?} with {argument:#x}");
                }
                *(if answer == ALLOW { &mut allowed } else { &mut refused }) += 1;
            }
        }
    }
    assert!(allowed > 3000 && refused > 1000, "{allowed} and {refused}: hardly anything was compared");
}

#[test]
fn another_architectures_calls_end_the_process() {
    // The kernel's numbers of s390x; and x32's calls, which have the same architecture as ours and a bit of their own.
    let program = program();
    assert_eq!(answer(&program, 0x8000_0016, 1, [0; 6]) & 0x7fff_0000, 0);
    if cfg!(target_arch = "x86_64") {
        assert_ne!(answer(&program, X86_64, 0x4000_0000 | 1, [0; 6]), ALLOW);
    }
}

#[test]
fn what_is_no_filter_is_not_loaded() {
    // In a process of its own this would be enforced; here it must fail before that.
    for bytes in [&b""[..], &[0; 7], &[0; 9]] {
        assert!(crate::sys::load_filter(bytes).is_err());
    }
}
