//! Tidy: the rules of the house that a program can check.
//!
//! Crate edges and unused dependencies, circles among modules, file and function length, module docs, banned names, the unsafe
//! fence. `tidy/tree` reads the workspace, `tidy/reading` one file; what a rule is for is planted in `tidy/planted`, and found.

mod circle;
mod planted;
mod reading;
mod rules;
mod tree;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

use buildd_tests::fixture::repository;

use self::{
    circle::Place,
    tree::{packages, sources},
};

/// The crates a crate may use, for its tests, too: architecture.md, "Crates".
const EDGES: &[(&str, &[&str])] = &[
    ("buildd-fs", &[]),
    ("buildd-oci", &["buildd-fs"]),
    ("buildd-api", &["buildd-oci", "buildd-fs"]),
    ("buildd-frontend", &["buildd-api", "buildd-oci", "buildd-fs"]),
    ("buildd-solver", &["buildd-api", "buildd-oci", "buildd-fs"]),
    ("buildd-store", &["buildd-api", "buildd-oci", "buildd-fs"]),
    ("buildd-runtime", &["buildd-api", "buildd-oci", "buildd-fs"]),
    (
        "buildd-worker",
        &["buildd-store", "buildd-runtime", "buildd-solver", "buildd-api", "buildd-oci", "buildd-fs"],
    ),
    (
        "buildd",
        &[
            "buildd-frontend",
            "buildd-worker",
            "buildd-solver",
            "buildd-store",
            "buildd-runtime",
            "buildd-api",
            "buildd-oci",
            "buildd-fs",
        ],
    ),
    ("buildctl", &["buildd-frontend", "buildd-api", "buildd-oci", "buildd-fs"]),
    ("buildd-tests", &["buildd-api", "buildd-oci", "buildd-fs"]),
];

/// Packages that only generated code names: what `api/build.rs` writes and `api/src/containerd.rs` includes.
const GENERATED: &[(&str, &str)] =
    &[("buildd-api", "prost-types"), ("buildd-api", "tonic"), ("buildd-api", "tonic-prost")];

/// Folders of the crates that are libraries and nothing else; `api` holds generated code.
const LIBRARIES: &[&str] = &["fs", "oci", "frontend", "solver", "store", "runtime", "worker"];

/// Folders that `unsafe` may lie in.
const FENCED: &[&str] = &["fs/src/sys", "runtime/src/sys"];

#[track_caller]
fn none(what: &str, found: &[String]) {
    let unique: BTreeSet<&String> = found.iter().collect();
    let lines: Vec<&str> = unique.into_iter().map(String::as_str).collect();
    assert!(found.is_empty(), "{what}:\n{}", lines.join("\n"));
}

#[test]
fn crates_use_only_the_crates_below_them() {
    let ours: BTreeSet<&str> = packages().iter().map(|package| package.name.as_str()).collect();
    let drawn: BTreeSet<&str> = EDGES.iter().map(|(name, _)| *name).collect();
    let mut found: Vec<String> = ours
        .symmetric_difference(&drawn)
        .map(|name| format!("{name} is not in EDGES, or not there"))
        .collect();
    for package in packages() {
        let used = package.dependencies.iter().map(|dependency| dependency.name.as_str());
        let used: Vec<&str> = used.filter(|name| ours.contains(name)).collect();
        found.extend(rules::edges(EDGES, &package.name, &used));
    }
    none("crates", &found);
}

#[test]
fn no_modules_of_a_crate_use_each_other_in_a_ring() {
    let mut found = Vec::new();
    for package in packages() {
        let targets: BTreeSet<&str> =
            package.sources.iter().filter(|s| s.kind != "test").map(|s| s.target.as_str()).collect();
        for target in targets {
            let files: Vec<Place<'_>> = package
                .sources
                .iter()
                .filter(|source| source.target == target)
                .map(|s| Place { name: &s.name, module: &s.module, test: s.test, read: &s.read })
                .collect();
            found.extend(circle::circles(&files).into_iter().map(|ring| format!("{target}: {ring}")));
        }
    }
    none("circles among first-level modules", &found);
}

#[test]
fn every_dependency_is_used_where_it_is_listed() {
    let mut found = Vec::new();
    for package in packages() {
        for dependency in package.dependencies.iter().filter(|dependency| dependency.compiled) {
            let generated = GENERATED.contains(&(&package.name, &dependency.name));
            let names = |tests: bool| {
                let build = dependency.kind == "build";
                let sources =
                    package.sources.iter().filter(|source| build == (source.kind == "custom-build"));
                let sources = sources.filter(|source| tests || !source.test).map(|source| &source.read);
                rules::uses(&dependency.name, tests, sources)
            };
            let tests = dependency.kind == "dev";
            if !generated && !names(tests) {
                let who = if !tests && names(true) { "only a test" } else { "no source" };
                found.push(format!("{}/Cargo.toml: {who} names {}", package.folder, dependency.name));
            }
        }
    }
    none("dependencies", &found);
}

#[test]
fn every_dependency_of_the_workspace_has_a_user() {
    let manifest = std::fs::read_to_string(repository().join("Cargo.toml")).expect("Cargo.toml");
    let (_, listed) = manifest.split_once("[workspace.dependencies]\n").expect("a section");
    let (listed, _) = listed.split_once("\n[").expect("a section after it");
    let used: BTreeSet<&str> =
        packages().iter().flat_map(|package| &package.dependencies).map(|d| d.name.as_str()).collect();
    let names =
        listed.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(" = "));
    let found: Vec<String> =
        names.map(|(name, _)| name.to_owned()).filter(|n| !used.contains(n.as_str())).collect();
    none("in Cargo.toml, but no crate depends on it", &found);
}

#[test]
fn only_the_binaries_serve_parse_flags_and_print() {
    let mut found = Vec::new();
    for package in packages().iter().filter(|package| LIBRARIES.contains(&package.folder.as_str())) {
        for source in package.sources.iter().filter(|source| !source.test) {
            found.extend(
                rules::belongs_in_a_binary(&source.read).iter().map(|at| format!("{}:{at}", source.name)),
            );
        }
    }
    none("belongs in buildd or buildctl", &found);
}

#[test]
fn files_are_short_documented_and_well_named() {
    let mut found = Vec::new();
    let mut lengths = BTreeMap::new();
    for source in sources() {
        found.extend(rules::file(&source.name, &source.text, source.test));
        if !source.test {
            lengths.insert(source.name.as_str(), source.text.lines().count());
        }
    }
    found.extend(rules::median(lengths.into_values().collect()));
    none("files", &found);
}

#[test]
fn every_source_is_a_module_of_a_crate() {
    let reached: BTreeSet<&str> = sources().map(|source| source.name.as_str()).collect();
    let out = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "*.rs"])
        .current_dir(repository())
        .output()
        .expect("git lists the sources");
    let names = String::from_utf8(out.stdout).expect("UTF-8 names");
    let there: Vec<&str> = names.lines().filter(|name| repository().join(name).exists()).collect();
    assert!(there.len() > 20, "git listed only {} sources", there.len());
    let lost: Vec<String> =
        there.iter().filter(|name| !reached.contains(*name)).map(|name| (*name).to_owned()).collect();
    none("no `mod` declares it", &lost);
}

#[test]
fn functions_are_short() {
    let mut found = Vec::new();
    for source in sources().filter(|source| !source.test) {
        found.extend(rules::long_functions(&source.read).iter().map(|at| format!("{}:{at}", source.name)));
    }
    none(&format!("functions over {} lines", rules::FUNCTION_LINES), &found);
}

#[test]
fn unsafe_stays_behind_its_fence_and_nothing_is_left_undone() {
    let mut found = Vec::new();
    for source in sources() {
        let fenced = source.test || FENCED.iter().any(|dir| source.name.starts_with(dir));
        let faults = rules::undone(&source.text, &source.read)
            .into_iter()
            .chain(rules::unsafes(&source.read).into_iter().filter(|_| !fenced));
        found.extend(faults.map(|at| format!("{}:{at}", source.name)));
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
