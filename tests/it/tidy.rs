//! Tidy: the rules of the house that a program can check.
//!
//! Crate edges and the two floors of runtime, file and function length, module docs, banned names, the unsafe fence.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

use buildd_tests::fixture::repository;

/// Longest file, in lines; test files are free.
const FILE_LINES: usize = 500;
/// Longest function, in lines; a function that is one flat `match` may exceed it.
const FUNCTION_LINES: usize = 60;

/// The crates a crate may use: architecture.md, "Crates".
const EDGES: &[(&str, &[&str])] = &[
    ("buildd-fs", &[]),
    ("buildd-oci", &["buildd-fs"]),
    ("buildd-api", &["buildd-oci", "buildd-fs"]),
    ("buildd-frontend", &["buildd-api", "buildd-oci", "buildd-fs"]),
    ("buildd-solver", &["buildd-api", "buildd-oci", "buildd-fs"]),
    ("buildd-runtime", &["buildd-solver", "buildd-api", "buildd-oci", "buildd-fs"]),
    (
        "buildd",
        &["buildd-frontend", "buildd-solver", "buildd-runtime", "buildd-api", "buildd-oci", "buildd-fs"],
    ),
    ("buildctl", &["buildd-frontend", "buildd-api", "buildd-oci", "buildd-fs"]),
    ("buildd-tests", &["buildd-api", "buildd-oci", "buildd-fs"]),
];

/// The upper floor of runtime: what the lower floor and the solver never import.
const UPPER_FLOOR: &[&str] = &[
    "worker",
    "cache_store",
    "snapshot_ref",
    "checksum",
    "session",
    "ops",
    "source",
    "export",
    "cache",
    "unpack",
    "base",
    "pull",
    "push",
    "registry_copy",
];

struct Source {
    path: PathBuf,
    name: String,
    text: String,
}

impl Source {
    fn is_test(&self) -> bool {
        self.name.starts_with("tests/")
            || self.name.contains("/tests/")
            || self.name.ends_with("/tests.rs")
            || self.name.contains("/testsuite")
            || self.name.ends_with("/properties.rs")
    }
}

fn sources() -> Vec<Source> {
    let root = repository();
    let out = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "*.rs"])
        .current_dir(&root)
        .output()
        .expect("git lists the sources");
    let names = String::from_utf8(out.stdout).expect("UTF-8 names");
    let all: Vec<Source> = names
        .lines()
        .filter(|name| root.join(name).exists())
        .map(|name| Source {
            path: root.join(name),
            name: name.to_owned(),
            text: std::fs::read_to_string(root.join(name)).expect("a source file"),
        })
        .collect();
    assert!(all.len() > 20, "git listed only {} sources", all.len());
    all
}

#[track_caller]
fn none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

#[test]
fn crates_use_only_the_crates_below_them() {
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(repository())
        .output()
        .expect("cargo metadata");
    let metadata: serde_json::Value = serde_json::from_slice(&out.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("a list");
    let ours: BTreeSet<&str> = packages.iter().filter_map(|p| p["name"].as_str()).collect();
    assert_eq!(ours, EDGES.iter().map(|(name, _)| *name).collect(), "a crate is not in EDGES, or gone");
    for package in packages {
        let name = package["name"].as_str().expect("a name");
        let (_, allowed) = EDGES.iter().find(|(n, _)| *n == name).expect("checked above");
        for dependency in package["dependencies"].as_array().expect("a list") {
            let used = dependency["name"].as_str().expect("a name");
            assert!(!ours.contains(used) || allowed.contains(&used), "{name} must not use {used}");
        }
    }
}

#[test]
fn only_the_binaries_serve_parse_flags_and_print() {
    let banned = ["use tonic", "use clap", "use anyhow", "env::var", "println!", "eprintln!"];
    let mut found = Vec::new();
    for source in sources() {
        let library = ["fs/", "oci/", "frontend/", "solver/", "runtime/"]
            .iter()
            .any(|dir| source.name.starts_with(dir));
        if !library || source.is_test() {
            continue;
        }
        for (number, line) in source.text.lines().enumerate() {
            if let Some(word) =
                banned.iter().find(|word| line.contains(*word) && !line.trim_start().starts_with("//"))
            {
                found.push(format!("{}:{}: {word}", source.name, number + 1));
            }
        }
    }
    none("belongs in buildd or buildctl", &found);
}

#[test]
fn the_lower_floor_of_runtime_never_looks_up() {
    let mut found = Vec::new();
    for source in sources() {
        let Some(rest) = source.name.strip_prefix("runtime/src/") else { continue };
        let module = rest.split(['/', '.']).next().expect("split gives one");
        if module == "lib" || UPPER_FLOOR.contains(&module) || source.is_test() {
            continue;
        }
        for (number, line) in source.text.lines().enumerate() {
            let up = UPPER_FLOOR.iter().any(|upper| line.contains(&format!("crate::{upper}::")));
            if up || line.contains("buildd_solver") {
                found.push(format!("{}:{}: {}", source.name, number + 1, line.trim()));
            }
        }
    }
    none("the lower floor imports the upper one or the solver", &found);
}

#[test]
fn files_are_short_documented_and_well_named() {
    let mut found = Vec::new();
    for source in sources() {
        let lines = source.text.lines().count();
        if lines > FILE_LINES && !source.is_test() {
            found.push(format!("{}: {lines} lines, {FILE_LINES} allowed: split it", source.name));
        }
        if !source.text.starts_with("//!") {
            found.push(format!("{}: no module doc on the first line", source.name));
        }
        let stem = source.path.file_stem().and_then(|s| s.to_str()).expect("a name");
        if ["mod", "util", "utils", "common", "helpers", "misc", "types"].contains(&stem) {
            found.push(format!("{}: name the thing, not the drawer", source.name));
        }
    }
    none("files", &found);
}

#[test]
fn functions_are_short() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        let lines: Vec<&str> = source.text.lines().collect();
        for (start, line) in lines.iter().enumerate() {
            let trimmed = line.trim_start();
            let head = trimmed
                .trim_start_matches("pub ")
                .trim_start_matches("pub(crate) ")
                .trim_start_matches("async ");
            if !(head.starts_with("fn ") || head.starts_with("unsafe fn ")) || trimmed.ends_with('}') {
                continue;
            }
            let end = format!("{}}}", &line[..line.len() - trimmed.len()]);
            let Some(length) = lines[start..].iter().position(|l| *l == end) else { continue };
            let body =
                lines[start..start + length].iter().find(|l| l.ends_with('{')).copied().unwrap_or_default();
            let after = lines[start..start + length]
                .iter()
                .skip_while(|l| **l != body)
                .nth(1)
                .copied()
                .unwrap_or_default();
            if length + 1 > FUNCTION_LINES && !after.trim_start().contains("match ") {
                found.push(format!("{}:{}: {} lines", source.name, start + 1, length + 1));
            }
        }
    }
    none(&format!("functions over {FUNCTION_LINES} lines"), &found);
}

#[test]
fn unsafe_stays_behind_its_fence_and_nothing_is_left_undone() {
    let undone = [
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("#[ig", "nore"),
    ];
    let mut found = Vec::new();
    for source in sources() {
        let fenced = ["fs/src/sys", "runtime/src/sys"].iter().any(|dir| source.name.starts_with(dir));
        for (number, line) in source.text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let dangerous =
                code.contains("unsafe {") || code.contains("unsafe fn") || code.contains("unsafe impl");
            if dangerous && !fenced && !source.is_test() {
                found.push(format!("{}:{}: unsafe outside sys/", source.name, number + 1));
            }
            if let Some(word) = undone.iter().find(|word| line.contains(*word)) {
                found.push(format!("{}:{}: {word}", source.name, number + 1));
            }
        }
    }
    none("sources", &found);
}

#[test]
fn no_binary_and_no_large_file_is_committed() {
    let root = repository();
    let out =
        Command::new("git").args(["ls-files"]).current_dir(&root).output().expect("git lists the files");
    let names = String::from_utf8(out.stdout).expect("UTF-8 names");
    let mut found = Vec::new();
    for name in names.lines() {
        let Ok(bytes) = std::fs::read(root.join(name)) else { continue };
        if Path::new(name).extension().is_some_and(|e| e == "lock") {
            continue;
        }
        if bytes.len() > 200_000 || bytes.contains(&0) {
            found.push(name.to_owned());
        }
    }
    none("binary or larger than 200 kB", &found);
}
