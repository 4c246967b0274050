//! Corpus: the frontend's Dockerfiles, built through the daemon by docker-buildx and by our own client: both succeed with one image, or both
//! fail and say the same.

use std::{fs, path::PathBuf, sync::Mutex, thread};

use buildd_tests::{
    daemon::{Daemon, Ran},
    fixture::{context, import_base, repository, text},
};

use crate::{clients::Buildx, differential};

/// Images of the corpus that are the base by another name.
const BASES: [&str; 7] = [
    "busybox",
    "busybox:1",
    "busybox:2",
    "alpine:3",
    "onbuild",
    "localhost:5000/a/b:c",
    "registry.example/x:1",
];

/// Cases that ask servers of the internet, or for options that the two clients spell differently.
const LEFT_OUT: [&str; 7] = [
    "add-checksum-many",
    "add-git",
    "add-remote",
    "add-remote-flags",
    "copy-url",
    "from-digest",
    "from-tag-and-digest",
];

/// Threads that build: as many as a small machine has processors.
const THREADS: usize = 2;

/// A case: its name, its text, and what both clients are told.
struct Case {
    name: String,
    dockerfile: PathBuf,
    flags: Vec<String>,
}

/// Those whose options are flags of both clients.
fn cases() -> Vec<Case> {
    let folders = fs::read_dir(repository().join("frontend/testdata")).expect("the corpus");
    let mut folders: Vec<PathBuf> = folders.map(|entry| entry.expect("an entry").path()).collect();
    folders.retain(|path| path.is_dir());
    folders.sort();
    let case = |path: PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        let options = fs::read_to_string(path.join("opts")).unwrap_or_default();
        let flags = options.lines().map(flag).collect::<Option<Vec<_>>>()?;
        let kept = !LEFT_OUT.contains(&name.as_str()) && !path.join("dockerignore").exists();
        kept.then(|| Case { name, dockerfile: path.join("Dockerfile"), flags })
    };
    folders.into_iter().filter_map(case).collect()
}

/// A frontend's option as a flag.
fn flag(option: &str) -> Option<String> {
    let (key, value) = option.split_once('=')?;
    match key.split_once(':') {
        Some(("build-arg", name)) => Some(format!("--build-arg={name}={value}")),
        Some(("label", name)) => Some(format!("--label={name}={value}")),
        None if key == "target" => Some(format!("--target={value}")),
        _ => None,
    }
}

/// What docker-buildx puts before an error: the name of its class.
const CLASSES: [&str; 5] =
    ["FailedPrecondition: ", "InvalidArgument: ", "NotFound: ", "PermissionDenied: ", "Unavailable: "];

/// What became of a build: the image's digest, or the first line of what was said after `mark`.
fn outcome(metadata: &str, ran: &Ran, mark: &str) -> Result<String, String> {
    if ran.code == Some(0) {
        let metadata = fs::read_to_string(metadata).expect("metadata");
        let metadata: serde_json::Value = serde_json::from_str(&metadata).expect("JSON");
        return Ok(metadata["containerimage.digest"].as_str().expect("a digest").to_owned());
    }
    let said = ran.stderr.rsplit_once(mark).unwrap_or_else(|| panic!("no error in {}", ran.stderr)).1;
    let said = said.lines().next().unwrap_or_default();
    let bare = CLASSES.iter().find_map(|class| said.strip_prefix(class));
    Err(bare.unwrap_or(said).to_owned())
}

/// The two clients' outcomes, if they differ.
fn difference(daemon: &Daemon, buildx: &Buildx, case: &Case, dir: &str) -> Result<bool, String> {
    let metadata = |client: &str| text(&daemon.path(&format!("{}-{client}.json", case.name))).to_owned();
    let output = format!("type=image,name=docker.io/library/made-{}:latest", case.name.to_lowercase());
    let flags = case.flags.iter().map(String::as_str);
    let common = ["--progress=plain", "-o", &output, "-f", text(&case.dockerfile)];
    let common: Vec<&str> = common.into_iter().chain(flags).chain([dir]).collect();
    let (theirs, ours) = (metadata("buildx"), metadata("buildctl"));
    let args = ["build", "--builder=ours", "--provenance=false", "--metadata-file", &theirs];
    let ran = buildx.run(&[&args[..], &common].concat());
    let theirs = outcome(&theirs, &ran, "failed to solve: ");
    let ran = daemon.buildctl(&[&["build", "--metadata-file", &ours][..], &common].concat());
    let ours = outcome(&ours, &ran, "error: failed to build: ");
    match ours == theirs {
        true => Ok(ours.is_ok()),
        false => Err(format!("{}: ours {ours:?}, buildx's {theirs:?}", case.name)),
    }
}

#[test]
fn buildx_makes_of_the_corpus_what_our_client_makes() {
    let hosts = context(&[("_default/hosts.toml", "server = \"http://127.0.0.1:9\"\n")]);
    let daemon = Daemon::start_with(&["--hosts-dir", text(hosts.path())]);
    import_base(&daemon);
    let base = context(&[("Dockerfile", differential::BASE)]);
    daemon.buildctl(&["build", "-q", "-t", "alpine", text(base.path())]).ok();
    for name in BASES {
        daemon.buildctl(&["image", "tag", "alpine", name]).ok();
    }
    let buildx = Buildx::new(&daemon);
    let dir = differential::project();
    let (cases, done) = (Mutex::new(cases()), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(case) = { cases.lock().expect("no panic").pop() } {
                    let found = difference(&daemon, &buildx, &case, text(dir.path()));
                    done.lock().expect("no panic").push(found);
                }
            });
        }
    });
    let done = done.into_inner().expect("no panic");
    let different: Vec<&String> = done.iter().filter_map(|done| done.as_ref().err()).collect();
    assert!(different.is_empty(), "{different:#?}");
    let built = done.iter().filter(|done| **done == Ok(true)).count();
    assert!(done.len() >= 150 && built >= 80, "{} cases, {built} of them built", done.len());
}
