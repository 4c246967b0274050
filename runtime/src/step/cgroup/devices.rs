//! Devices: which device files a step may open, as rules for version 1 of control groups and as a program for version 2.
//!
//! A step may make any device file, as docker's may; what it stands for opens only if a rule says so.
//!
//! # Sources
//! kernel `admin-guide/cgroup-v1/devices`; `linux/bpf.h`, `bpf_cgroup_dev_ctx`; bpf instruction-set RFC 9669.

use std::{fs::File, io, path::Path};

use crate::{device::DeviceNode, step::StepSpec, sys};

/// Bits of what is done with a device, as the kernel gives them to a program.
const MAKE: u32 = 1;
const ALL: u32 = 7;

/// What may be done with some devices.
pub(super) struct Rule {
    /// `c` or `b`.
    kind: char,
    /// Any if not given.
    major: Option<u32>,
    minor: Option<u32>,
    /// `MAKE` or `ALL`.
    what: u32,
}

const fn opens(major: u32, minor: Option<u32>) -> Rule {
    Rule { kind: 'c', major: Some(major), minor, what: ALL }
}

const fn any(kind: char) -> Rule {
    Rule { kind, major: None, minor: None, what: MAKE }
}

/// The device files that every container has: null, zero, full, random, urandom, tty, console, ptmx, all of devpts.
const USUAL: [Rule; 11] = [
    opens(1, Some(3)),
    opens(1, Some(5)),
    opens(1, Some(7)),
    opens(1, Some(8)),
    opens(1, Some(9)),
    opens(5, Some(0)),
    opens(5, Some(1)),
    opens(5, Some(2)),
    opens(136, None),
    any('c'),
    any('b'),
];

/// The rules of a step: the usual ones, and one for each device it was given.
pub(super) fn rules(step: &StepSpec) -> io::Result<Vec<Rule>> {
    let number =
        |number: i64| u32::try_from(number).map_err(|_| io::Error::other(format!("device number {number}")));
    let given = |node: &DeviceNode| {
        let (major, minor) = (Some(number(node.major)?), Some(number(node.minor)?));
        Ok(Rule { kind: if node.kind == 'b' { 'b' } else { 'c' }, major, minor, what: ALL })
    };
    let nodes = step.devices.iter().filter(|node| node.kind != 'p').map(given);
    USUAL.into_iter().map(Ok).chain(nodes).collect()
}

impl Rule {
    /// As version 1 reads it.
    pub(super) fn text(&self) -> String {
        let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
        let what = if self.what == ALL { "rwm" } else { "m" };
        format!("{} {}:{} {what}", self.kind, number(self.major), number(self.minor))
    }
}

/// Lets the processes of a group of version 2 open what the rules allow, and nothing else.
pub(super) fn restrict(group: &Path, rules: &[Rule]) -> io::Result<()> {
    sys::attach_device_program(&File::open(group)?, &program(rules))
}

/// An instruction: operation, registers, jump, constant.
fn instruction(operation: u8, to: u8, from: u8, jump: i16, constant: u32) -> [u8; 8] {
    let ([j0, j1], [c0, c1, c2, c3]) = (jump.to_ne_bytes(), constant.to_ne_bytes());
    [operation, to | (from << 4), j0, j1, c0, c1, c2, c3]
}

/// The rules as a program: 1 for what is allowed, 0 for what is not.
///
/// Registers: 2 the kind of device, 3 what is done with it, 4 and 5 its numbers.
fn program(rules: &[Rule]) -> Vec<[u8; 8]> {
    const LOAD: u8 = 0x61;
    const AND: u8 = 0x54;
    const SHIFT_RIGHT: u8 = 0x74;
    const SET: u8 = 0xb7;
    const COPY: u8 = 0xbc;
    const JUMP_UNLESS: u8 = 0x55;
    const JUMP_UNLESS_SAME: u8 = 0x5d;
    const EXIT: u8 = 0x95;
    let mut program = vec![
        instruction(LOAD, 2, 1, 0, 0),
        instruction(LOAD, 3, 1, 0, 0),
        instruction(LOAD, 4, 1, 4, 0),
        instruction(LOAD, 5, 1, 8, 0),
        instruction(AND, 2, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, 3, 0, 0, 16),
    ];
    for rule in rules {
        // Each test that fails jumps to the next rule: over the tests behind it and the answer.
        let mut tests = vec![(JUMP_UNLESS, 2, 0, if rule.kind == 'b' { 1 } else { 2 })];
        if rule.what != ALL {
            tests.extend([(COPY, 1, 3, 0), (AND, 1, 0, rule.what), (JUMP_UNLESS_SAME, 1, 3, 0)]);
        }
        tests.extend(rule.major.map(|major| (JUMP_UNLESS, 4, 0, major)));
        tests.extend(rule.minor.map(|minor| (JUMP_UNLESS, 5, 0, minor)));
        for (number, (operation, to, from, constant)) in (1_i16..).zip(&tests) {
            let behind = i16::try_from(tests.len()).unwrap_or(i16::MAX) - number + 2;
            let jump = if [JUMP_UNLESS, JUMP_UNLESS_SAME].contains(operation) { behind } else { 0 };
            program.push(instruction(*operation, *to, *from, jump, *constant));
        }
        program.extend([instruction(SET, 0, 0, 0, 1), instruction(EXIT, 0, 0, 0, 0)]);
    }
    program.extend([instruction(SET, 0, 0, 0, 0), instruction(EXIT, 0, 0, 0, 0)]);
    program
}
