//! OCI layouts of a client as contexts: the daemon has no image and asks no registry.

use std::{
    fs,
    path::{Path, PathBuf},
};

use buildd_oci::digest::Digest;
use buildd_tests::{
    daemon::{Daemon, run},
    fixture::{context, text},
    peers::peer,
    shared::Shared,
};
use serde_json::Value;

use crate::clients::Buildx;

/// Makes the images that lie in layouts.
static MAKER: Shared = Shared::new();

/// A layout with the images `one` and `two` of another daemon, whose `/word` is the name.
fn layout(folder: &Path) -> PathBuf {
    let maker = MAKER.with_base();
    let layout = folder.join("layout");
    for name in ["one", "two"] {
        let file =
            format!("FROM alpine\nENV WORD={name}\nRUN echo {name} > /word\nONBUILD RUN echo on > /on\n");
        let dir = context(&[("Dockerfile", &file)]);
        let archive = folder.join(name);
        let output = format!("type=oci,dest={},name=example.com/made:{name}", text(&archive));
        maker.buildctl(&["build", "-o", &output, text(dir.path())]).ok();
        let from = format!("oci-archive:{}", text(&archive));
        let to = format!("oci:{}:{name}", text(&layout));
        run(peer("skopeo").args(["copy", "--insecure-policy", &from, &to])).ok();
    }
    layout
}

fn index(layout: &Path) -> Value {
    serde_json::from_slice(&fs::read(layout.join("index.json")).expect("index.json")).expect("JSON")
}

fn digest_of(layout: &Path, tag: &str) -> String {
    let index = index(layout);
    let images = index["manifests"].as_array().expect("a list").iter();
    let mut tagged = images
        .filter(|image| image["annotations"]["org.opencontainers.image.ref.name"].as_str() == Some(tag));
    tagged.next().expect("the tag")["digest"].as_str().expect("a digest").to_owned()
}

fn blob(layout: &Path, digest: &str) -> PathBuf {
    layout.join("blobs").join(digest.replace(':', "/"))
}

const USES: &str =
    "FROM base\nRUN cat /word /on > /told && echo $WORD >> /told\nCOPY --from=other /word /other\n";

/// Builds with two layout contexts through `build`, which gets arguments; reads what came of it.
fn built(
    daemon: &Daemon,
    arguments: &[&str],
    build: &dyn Fn(&[&str]) -> buildd_tests::daemon::Ran,
) -> String {
    let out = daemon.path("out");
    let output = format!("type=local,dest={}", text(&out));
    build(&[&["build", "--progress", "plain", "-o", &output], arguments].concat()).ok();
    let told = fs::read_to_string(out.join("told")).expect("made by RUN");
    told + &fs::read_to_string(out.join("other")).expect("copied")
}

/// The contexts of `USES`, by a tag and by a digest.
fn named(layout: &Path) -> [String; 2] {
    let place = text(layout);
    [
        format!("base=oci-layout://{place}:one"),
        format!("other=oci-layout://{place}@{}", digest_of(layout, "two")),
    ]
}

#[test]
fn images_of_a_layout_are_bases_and_contexts() {
    let daemon = Daemon::start();
    let folder = tempfile::tempdir().expect("a folder");
    let layout = layout(folder.path());
    let dir = context(&[("Dockerfile", USES)]);
    let [base, other] = named(&layout);
    let contexts = ["--build-context", &base, "--build-context", &other, text(dir.path())];
    assert_eq!(built(&daemon, &contexts, &|args| daemon.buildctl(args)), "one\non\none\ntwo\n");
    // The next build has a session of its own, and finds what it needs in the cache.
    let again = daemon.buildctl(&[&["build", "--progress", "plain"], &contexts[..]].concat()).ok();
    assert!(again.stderr.contains("CACHED"), "{}", again.stderr);

    let opt = format!("context:base=oci-layout://lay@{}", digest_of(&layout, "two"));
    let lay = format!("lay={}", text(&layout));
    let (context_dir, file) =
        (format!("context={}", text(dir.path())), format!("dockerfile={}", text(dir.path())));
    let other_opt = format!("context:other=oci-layout://lay:x@{}", digest_of(&layout, "one"));
    let buildkits = ["--frontend", "dockerfile.v0", "--local", &context_dir, "--local", &file];
    let flags = ["--oci-layout", &lay, "--opt", &opt, "--opt", &other_opt];
    let arguments = [&buildkits[..], &flags[..]].concat();
    assert_eq!(built(&daemon, &arguments, &|args| daemon.buildctl(args)), "two\non\ntwo\none\n");

    for (context, words) in [
        (format!("base=oci-layout://{}:three", text(&layout)), "there: one, two"),
        (format!("base=oci-layout://{}", text(dir.path())), "index.json"),
        (format!("base=oci-layout://{}@sha256:{}", text(&layout), "0".repeat(64)), "blobs/sha256/00"),
    ] {
        daemon.buildctl(&["build", "--build-context", &context, text(dir.path())]).fails(1, &[words]);
    }
}

#[test]
fn buildx_sends_layouts() {
    let daemon = Daemon::start();
    let folder = tempfile::tempdir().expect("a folder");
    let layout = layout(folder.path());
    let dir = context(&[("Dockerfile", USES)]);
    let [base, other] = named(&layout);
    let buildx = Buildx::new(&daemon);
    let contexts =
        ["--builder", "ours", "--build-context", &base, "--build-context", &other, text(dir.path())];
    assert_eq!(built(&daemon, &contexts, &|args| buildx.run(args)), "one\non\none\ntwo\n");
}

#[test]
fn what_is_not_what_its_digest_says_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let layout = layout(folder.path());
    let daemon = Daemon::start();
    let dir = context(&[("Dockerfile", "FROM base\nRUN cat /word\n")]);
    let base = format!("base=oci-layout://{}:one", text(&layout));
    let build = || daemon.buildctl(&["build", "--build-context", &base, text(dir.path())]);
    let manifest = blob(&layout, &digest_of(&layout, "one"));
    let whole = fs::read(&manifest).expect("the manifest");
    let parsed: Value = serde_json::from_slice(&whole).expect("JSON");
    let layers = parsed["layers"].as_array().expect("layers");
    let layer = layers.last().expect("a layer")["digest"].as_str().expect("a digest");
    let last = blob(&layout, layer);

    fs::write(&manifest, [&whole[..], b" "].concat()).expect("one byte more");
    build().fails(1, &["content hashes to sha256:"]);
    fs::write(&manifest, &whole).expect("as it was");

    // Another layer in the place of the last: its tar is whole, but not the one that the config names.
    let good = fs::read(&last).expect("the layer");
    let first = blob(&layout, layers[0]["digest"].as_str().expect("a digest"));
    fs::write(&last, fs::read(first).expect("another layer")).expect("the wrong layer");
    build().fails(1, &["sha256:"]);
    fs::remove_file(&last).expect("no layer");
    build().fails(1, &[layer, "not in the OCI layout"]);
    assert_eq!(Digest::of(&good).to_string(), layer, "the layer is what it was made from");
    fs::write(&last, good).expect("as it was");
    build().ok();
}

#[test]
fn a_layout_is_only_read_where_the_client_says() {
    let daemon = Daemon::start();
    let dir = context(&[("Dockerfile", "FROM base\n")]);
    let digest = Digest::of(b"none");
    for (value, words) in [
        (format!("oci-layout://else@{digest}"), "no OCI layout \"oci:else\" was given"),
        (format!("oci-layout://../../etc@{digest}"), "no OCI layout"),
        ("oci-layout://else".to_owned(), "does not say which image"),
        ("oci-layout://else@sha256:12".to_owned(), "does not say which image"),
    ] {
        let opt = format!("context:base={value}");
        daemon.buildctl(&["build", "--opt", &opt, text(dir.path())]).fails(1, &[words]);
    }
}
