//! Tree: the workspace as cargo sees it: packages, their dependencies, and every source file at its place in a module tree.
//!
//! Files are found by walking the `mod` declarations of each target, so what is compiled for tests only is known by its
//! attributes and not by its name. A file that two targets include is listed with each of them.

use std::{
    path::{Component, Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use buildd_tests::fixture::repository;
use serde_json::Value;

use super::reading::{self, Reading};

/// One package of the workspace.
#[derive(Debug)]
pub(super) struct Package {
    /// Its name, as in Cargo.toml.
    pub(super) name: String,
    /// Its folder in the repository.
    pub(super) folder: String,
    /// What it depends on.
    pub(super) dependencies: Vec<Dependency>,
    /// Its sources.
    pub(super) sources: Vec<Source>,
}

/// One line below `[dependencies]` and the like.
#[derive(Debug)]
pub(super) struct Dependency {
    /// The package's name.
    pub(super) name: String,
    /// `normal`, `dev` or `build`.
    pub(super) kind: String,
    /// Whether it is for any target; some are listed for none, to be fetched only.
    pub(super) compiled: bool,
}

/// One source file as one target includes it.
#[derive(Debug)]
pub(super) struct Source {
    /// Its path in the repository.
    pub(super) name: String,
    /// The file that its target begins with.
    pub(super) target: String,
    /// `lib`, `bin`, `test` or `custom-build`.
    pub(super) kind: String,
    /// Its module's path below the target's root.
    pub(super) module: Vec<String>,
    /// Compiled for tests only.
    pub(super) test: bool,
    /// Its text.
    pub(super) text: String,
    /// What it names and defines.
    pub(super) read: Reading,
}

/// All packages of the workspace, read once.
pub(super) fn packages() -> &'static [Package] {
    static PACKAGES: OnceLock<Vec<Package>> = OnceLock::new();
    PACKAGES.get_or_init(|| {
        let root = repository();
        let out = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
            .current_dir(&root)
            .output()
            .expect("cargo metadata");
        let metadata: Value = serde_json::from_slice(&out.stdout)
            .unwrap_or_else(|e| panic!("cargo metadata: {e}: {}", String::from_utf8_lossy(&out.stderr)));
        list(&metadata["packages"]).iter().map(|value| package(&root, value)).collect()
    })
}

/// Every source of the workspace; one that two targets include comes twice.
pub(super) fn sources() -> impl Iterator<Item = &'static Source> {
    packages().iter().flat_map(|package| &package.sources)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

fn package(root: &Path, value: &Value) -> Package {
    let manifest = Path::new(text(&value["manifest_path"]));
    let folder = manifest.parent().and_then(|dir| dir.strip_prefix(root).ok()).expect("in the repository");
    let dependencies = list(&value["dependencies"]).iter().map(|dependency| Dependency {
        name: text(&dependency["name"]).to_owned(),
        kind: dependency["kind"].as_str().unwrap_or("normal").to_owned(),
        compiled: dependency["target"].as_str() != Some("cfg(any())"),
    });
    let mut sources = Vec::new();
    for target in list(&value["targets"]) {
        let file = Path::new(text(&target["src_path"])).strip_prefix(root).expect("in the repository");
        let kind = text(&target["kind"][0]);
        let mut walk = Walk { root, target: file, kind, sources: &mut sources };
        walk.file(file, &[], kind == "test");
    }
    Package {
        name: text(&value["name"]).to_owned(),
        folder: folder.to_str().expect("UTF-8").to_owned(),
        dependencies: dependencies.collect(),
        sources,
    }
}

struct Walk<'a> {
    root: &'a Path,
    target: &'a Path,
    kind: &'a str,
    sources: &'a mut Vec<Source>,
}

impl Walk<'_> {
    fn file(&mut self, file: &Path, module: &[String], test: bool) {
        let text = std::fs::read_to_string(self.root.join(file))
            .unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let read = reading::read(&text, module, test)
            .unwrap_or_else(|e| panic!("{}:{}: {e}", file.display(), e.span().start().line));
        let here = file.parent().expect("a file lies in a folder");
        let below = if file == self.target { here.to_owned() } else { file.with_extension("") };
        let children: Vec<(PathBuf, Vec<String>, bool)> = read
            .modules
            .iter()
            .map(|declared| {
                let path = match &declared.file {
                    Some(path) => here.join(path),
                    None => below.join(declared.path.join("/")).with_extension("rs"),
                };
                (plain(&path), module.iter().chain(&declared.path).cloned().collect(), declared.test)
            })
            .collect();
        let shown = |path: &Path| path.to_str().expect("UTF-8").to_owned();
        let (name, target) = (shown(file), shown(self.target));
        let module = module.to_vec();
        self.sources.push(Source { name, target, kind: self.kind.to_owned(), module, test, text, read });
        for (path, module, test) in children {
            self.file(&path, &module, test);
        }
    }
}

/// A path without `..`.
fn plain(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                out.pop();
            }
            part => out.push(part),
        }
    }
    out
}
