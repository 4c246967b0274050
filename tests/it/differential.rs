//! Differential: Dockerfiles of the frontend's corpus, built by us and by buildah: files, owners, modes and configs are the same.
//!
//! The corpus is of texts that are read, not run: here their commands exist, and write down how they were called. What buildah does not know
//! (heredocs, half of the flags) it cannot be asked about: the list has what it builds.

use std::{
    collections::BTreeMap,
    fs,
    io::{Cursor, Read},
    path::Path,
    process::Command,
};

use buildd_tests::{
    daemon::{Daemon, run},
    fixture::{context, import_base, repository, text},
    peers::Buildah,
};
use serde_json::Value;
use tempfile::TempDir;

/// Commands of the corpus: each adds its name and arguments to a file of the image.
pub(crate) const BASE: &str = r#"FROM alpine
RUN printf '#!/bin/sh\necho "$0 $*" >>/tmp/ran 2>/dev/null\nexit 0\n' >/bin/any && chmod 755 /bin/any \
    && : >/tmp/ran && chmod 666 /tmp/ran \
    && for n in a b c d e x y z make apk go 0 1 2 3 4 5 6 7 8 9 10 11; do [ -e /bin/$n ] || ln -s any /bin/$n; done \
    && echo 'u:x:1001:100::/:/bin/sh' >>/etc/passwd && echo 'me:x:1002:100::/:/bin/sh' >>/etc/passwd \
    && echo 'user:x:1003:100::/:/bin/sh' >>/etc/passwd && echo 'group:x:200:' >>/etc/group
"#;

/// The files that the corpus copies.
const FILES: [&str; 31] = [
    "a",
    "c",
    "x",
    "y",
    "z",
    "file",
    "f",
    "src/one",
    "src/two.txt",
    "src/a",
    "src/b",
    "dir/a",
    "dir/b",
    "one",
    "two",
    "a.txt",
    "b.txt",
    "go.mod",
    "go.sum",
    "package.json",
    "README.md",
    "app/x",
    "conf",
    "with space",
    "a b",
    "b c",
    "t/x",
    "sub/a",
    "a.log",
    "b/c",
    "x.md",
];

/// The cases that buildah builds.
const CASES: [&str; 54] = [
    "arg-env-wins-over-arg",
    "arg-in-child-stage",
    "arg-not-in-sibling",
    "arg-quoted",
    "arg-several",
    "cmd-forms",
    "comments",
    "copy-basics",
    "copy-globs",
    "copy-ignored",
    "copy-json",
    "copy-relative-dest",
    "entrypoint-forms",
    "entrypoint-keeps-own-cmd",
    "entrypoint-resets-cmd",
    "env-expansion",
    "env-old-form",
    "env-quotes",
    "env-same-line",
    "escape",
    "expose-forms",
    "fmt-messy",
    "from-arg-not-inherited",
    "from-stage-shadows-image",
    "ignore",
    "label-forms",
    "lex-bom",
    "lex-comments-inside",
    "lex-continuation-at-end",
    "lex-crlf",
    "lex-directive-after-comment",
    "lex-directive-unknown-ends",
    "lex-directive-upper",
    "lex-double-escape",
    "lex-escape-then-blanks",
    "lex-hash-in-word",
    "lex-invalid-utf8",
    "lex-keyword-split",
    "lex-leading-blanks",
    "lex-mixed-case",
    "lex-only-mark",
    "lex-tab-after-keyword",
    "lex-triple-escape",
    "lex-unicode",
    "maintainer",
    "many-steps",
    "places-do-not-expand",
    "places-json-volume",
    "scratch",
    "scratch-only",
    "seed",
    "stage-inherits",
    "stopsignal-forms",
    "volume-forms",
];

/// Files that buildah leaves behind by mounting over them.
const LEFT_BEHIND: [&str; 3] = ["etc/hosts", "etc/hostname", "etc/resolv.conf"];

/// What differs by nature: the case, the field or file, and why.
const BY_NATURE: [(&str, &str, &str); 13] = [
    ("cmd-forms", "Cmd", "a CMD without words clears it, as BuildKit has it; buildah keeps the shell alone"),
    ("escape", "C:\\x", "with another escape character a backslash is a character like any other"),
    ("escape", "C:x", "the same folder as buildah names it"),
    ("escape", "WorkingDir", "the same folder"),
    (
        "expose-forms",
        "ExposedPorts",
        "ranges are taken apart and protocols in small letters, as BuildKit has it",
    ),
    ("lex-double-escape", "User", "two backslashes do not continue a line, so that USER is one of its own"),
    ("lex-double-escape", "tmp/ran", "the same: the words of USER are not the command's"),
    ("lex-triple-escape", "User", "nor do three"),
    ("lex-triple-escape", "tmp/ran", "the same"),
    ("places-json-volume", "b c", "buildah makes the folders of volumes, BuildKit does not"),
    ("places-json-volume", "dir", "the same"),
    ("places-json-volume", "dir/a", "the same"),
    ("volume-forms", "c", "the same"),
];

/// The fields of a config that say how a container starts.
const FIELDS: [&str; 12] = [
    "Env",
    "Cmd",
    "Entrypoint",
    "User",
    "WorkingDir",
    "Labels",
    "ExposedPorts",
    "Volumes",
    "StopSignal",
    "Healthcheck",
    "Shell",
    "OnBuild",
];

/// What a build made.
struct Made {
    files: BTreeMap<String, String>,
    config: Value,
}

fn theirs(buildah: &Buildah, dockerfile: &Path, dir: &Path) -> Made {
    let mut build = buildah.trusting("bud");
    build.args(["--isolation", "chroot", "--pull-never", "--format", "docker", "-q", "-t", "made", "-f"]);
    run(build.arg(dockerfile).arg(dir)).ok();
    let container = run(buildah.command("from").args(["--pull-never", "made"])).ok().stdout;
    let container = container.trim();
    let root = run(buildah.command("mount").arg(container)).ok().stdout;
    let tar = Command::new("tar").args(["-C", root.trim(), "-cf", "-", "."]).output().expect("tar");
    let inspected = run(buildah.command("inspect").args(["--type", "image", "made"])).ok().stdout;
    run(buildah.command("rm").arg(container)).ok();
    let inspected: Value = serde_json::from_str(&inspected).expect("JSON");
    Made { files: files(&tar.stdout), config: inspected["Docker"]["config"].clone() }
}

fn ours(daemon: &Daemon, dockerfile: &Path, dir: &Path) -> Made {
    let archive = daemon.path("made.tar");
    let output = format!("type=tar,dest={}", text(&archive));
    let args = ["build", "-q", "-t", "made", "-o", "type=image", "-o", &output, "-f"];
    daemon.buildctl(&[&args[..], &[text(dockerfile), text(dir)]].concat()).ok();
    let inspected = daemon.buildctl(&["image", "inspect", "made"]).ok().stdout;
    let inspected: Value = serde_json::from_str(&inspected).expect("JSON");
    Made { files: files(&fs::read(archive).expect("an archive")), config: config_in(&inspected).clone() }
}

/// The part of an inspection that says how a container starts.
fn config_in(inspected: &Value) -> &Value {
    let one = inspected.get(0).unwrap_or(inspected);
    let config = &one["config"];
    config.get("config").unwrap_or(config)
}

/// Every file of an archive: kind, mode, owner, content or target.
fn files(archive: &[u8]) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(Cursor::new(archive));
    let mut found = BTreeMap::new();
    for entry in archive.entries().expect("an archive") {
        let mut entry = entry.expect("an entry");
        let path = entry.path().expect("a path").to_string_lossy().into_owned();
        let name = path.trim_start_matches("./").trim_end_matches('/').to_owned();
        let header = entry.header().clone();
        let kind = header.entry_type();
        if name.is_empty() || LEFT_BEHIND.contains(&name.as_str()) {
            continue;
        }
        let owner = format!("{}:{}", header.uid().expect("a user"), header.gid().expect("a group"));
        let mode = header.mode().expect("a mode") & 0o7777;
        let said = if kind.is_symlink() {
            format!("link {owner} -> {}", entry.link_name().expect("a target").unwrap_or_default().display())
        } else if kind.is_dir() {
            format!("folder {mode:o} {owner}")
        } else if kind.is_hard_link() {
            // Which name comes first is the archiver's choice.
            continue;
        } else {
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("content");
            format!("file {mode:o} {owner} {} {:?}", content.len(), buildd_oci::digest::Digest::of(&content))
        };
        found.insert(name, said);
    }
    found
}

/// Empty and absent are one; so is what buildah says of itself.
fn field(config: &Value, name: &str) -> Option<Value> {
    let mut value = config.get(name)?.clone();
    if let (Some(labels), "Labels") = (value.as_object_mut(), name) {
        labels.remove("io.buildah.version");
    }
    let empty = match &value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    (!empty).then_some(value)
}

/// What differs, one line each.
fn differences(case: &str, ours: &Made, theirs: &Made) -> Vec<String> {
    let expected = |what: &str| BY_NATURE.iter().any(|(of, field, _)| *of == case && *field == what);
    let mut found = Vec::new();
    let names: std::collections::BTreeSet<&String> = ours.files.keys().chain(theirs.files.keys()).collect();
    for name in names {
        let (mine, other) = (ours.files.get(name), theirs.files.get(name));
        if mine != other && !expected(name) {
            found.push(format!("{case}: {name}: ours {mine:?}, buildah's {other:?}"));
        }
    }
    for name in FIELDS {
        let (mine, other) = (field(&ours.config, name), field(&theirs.config, name));
        if mine != other && !expected(name) {
            found.push(format!("{case}: {name}: ours {mine:?}, buildah's {other:?}"));
        }
    }
    found
}

pub(crate) fn project() -> TempDir {
    let files: Vec<(&str, &str)> = FILES.iter().map(|name| (*name, *name)).collect();
    context(&files)
}

#[test]
fn buildah_makes_the_same_of_the_corpus() {
    let daemon = Daemon::start();
    import_base(&daemon);
    let base = daemon.path("base-of-both.tar");
    let output = format!("type=docker,name=docker.io/library/alpine:latest,dest={}", text(&base));
    let dir = context(&[("Dockerfile", BASE)]);
    daemon.buildctl(&["build", "-q", "-o", &output, text(dir.path())]).ok();
    daemon.buildctl(&["image", "import", text(&base)]).ok();
    let buildah = Buildah::new(&daemon.path("buildah"), &base);
    let dir = project();
    let mut found = Vec::new();
    for case in CASES {
        let dockerfile = repository().join("frontend/testdata").join(case).join("Dockerfile");
        let theirs = theirs(&buildah, &dockerfile, dir.path());
        found.extend(differences(case, &ours(&daemon, &dockerfile, dir.path()), &theirs));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
