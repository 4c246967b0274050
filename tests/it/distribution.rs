//! Distribution: pull, push and copy through the daemon, by our client, ctr of both majors and docker-buildx, against Debian's
//! docker-registry and one that can be told to do wrong.

mod archives;
mod ctr;
mod faults;
mod hosts;
mod peers;

use std::{fs, path::Path};

use buildd_tests::{
    daemon::{Daemon, run},
    fixture::{context, import_base, text},
    peers::{ctr, peer},
    registry::{DockerRegistry, Registry},
    shared::Shared,
};

/// Makes images and pushes them to registries of single tests, whose address is in their names.
static MAKER: Shared = Shared::new();

/// What a build of this names.
const DOCKERFILE: &str = "FROM alpine\nCOPY words /words\nRUN cat /words /words > /twice\n";

/// Builds an image with three layers under this name; its digest.
fn build(daemon: &Daemon, name: &str) -> String {
    let dir = context(&[("Dockerfile", DOCKERFILE), ("words", "some words\n")]);
    let place = tempfile::tempdir().expect("a folder");
    let metadata = place.path().join("metadata.json");
    let args = [
        "build",
        "-o",
        &format!("type=image,name={name},compression=gzip"),
        "--metadata-file",
        text(&metadata),
    ];
    daemon.buildctl(&[&args[..], &[text(dir.path())]].concat()).ok();
    digest(&metadata)
}

fn digest(metadata: &Path) -> String {
    let value: serde_json::Value =
        serde_json::from_slice(&fs::read(metadata).expect("metadata")).expect("JSON");
    value["containerimage.digest"].as_str().expect("a digest").to_owned()
}

/// What skopeo says of a tag in a registry.
fn inspected(registry: &str, name: &str) -> String {
    let image = format!("docker://{registry}/{name}");
    run(peer("skopeo").args(["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &image]))
        .ok()
        .stdout
        .trim()
        .to_owned()
}

#[test]
fn an_image_goes_to_a_registry_and_comes_back() {
    let daemon = MAKER.with_base();
    let registry = DockerRegistry::start();
    let name = format!("{}/team/made:v1", registry.authority());
    let built = build(&daemon, &name);
    daemon.buildctl(&["image", "push", &name]).ok();
    assert_eq!(inspected(registry.authority(), "team/made:v1"), built);

    // On a machine that has never seen it.
    let other = Daemon::start();
    assert_eq!(other.buildctl(&["image", "pull", &name]).ok().stdout, format!("{name}\n"));
    let ran = other.buildctl(&["run", "--rm", &name, "cat", "/twice"]).ok();
    assert_eq!(ran.stdout, "some words\nsome words\n");
    let listed = other.buildctl(&["image", "inspect", &name]).ok().stdout;
    assert!(listed.contains(&built), "{listed}");

    // Again: everything is there already.
    let again = other.buildctl(&["image", "pull", &name]).ok().stderr;
    assert!(again.lines().all(|line| line.contains("already exists")), "{again}");
    let again = daemon.buildctl(&["image", "push", &name]).ok().stderr;
    let layers: Vec<&str> =
        again.lines().filter(|line| line.starts_with("layer") && !line.contains("uploading")).collect();
    assert_eq!(layers.len(), 3, "{again}");
    assert!(layers.iter().all(|line| line.contains("already exists")), "{again}");
}

#[test]
fn what_came_from_a_repository_is_mounted_into_the_next() {
    let daemon = MAKER.with_base();
    let registry = Registry::start();
    let host = registry.authority();
    let first = format!("{host}/one:v1");
    build(&daemon, &first);
    daemon.buildctl(&["image", "push", &first]).ok();
    let other = Daemon::start();
    other.buildctl(&["image", "pull", &first]).ok();
    let sent = registry.uploaded();
    let second = format!("{host}/two:v1");
    other.buildctl(&["image", "tag", &first, &second]).ok();
    let shown = other.buildctl(&["image", "push", &second]).ok().stderr;
    assert_eq!(shown.matches("mounted").count(), 4, "three layers and the config: {shown}");
    assert_eq!(registry.uploaded(), sent, "not a byte travels");
    assert_eq!(registry.tagged("two", "v1"), registry.tagged("one", "v1"));
    assert!(registry.tagged("one", "v1").is_some());
}

#[test]
fn bases_come_from_registries_when_something_needs_them() {
    let daemon = MAKER.with_base();
    let registry = Registry::start();
    let base = format!("{}/base:v1", registry.authority());
    build(&daemon, &base);
    daemon.buildctl(&["image", "push", &base]).ok();

    let other = Daemon::start();
    let blobs = || registry.log("/base/blobs/").iter().filter(|line| line.starts_with("GET")).count();
    let steps = format!("FROM {base}\nRUN cat /twice > /thrice && cat /words >> /thrice\n");
    let dir = context(&[("Dockerfile", &steps)]);
    let before = blobs();
    other.buildctl(&["build", "-t", "made:v1", text(dir.path())]).ok();
    assert_eq!(blobs() - before, 4, "config and layers, once each: {:?}", registry.log("/base/"));
    let ran = other.buildctl(&["run", "--rm", "made:v1", "cat", "/thrice"]).ok();
    assert_eq!(ran.stdout.lines().count(), 3);

    // It has its name now: the next build asks nobody, unless it must.
    let asked = registry.seen().len();
    other.buildctl(&["build", "--no-cache", "-t", "made:v2", text(dir.path())]).ok();
    assert_eq!(registry.seen().len(), asked);
    other.buildctl(&["build", "--pull", "-t", "made:v3", text(dir.path())]).ok();
    assert!(registry.seen().len() > asked);

    // Where every step is cached, nothing needs the tree: the documents come, no layer does.
    other.buildctl(&["image", "rm", &base]).ok();
    let before = blobs();
    other.buildctl(&["build", "-t", "made:v4", text(dir.path())]).ok();
    assert!(blobs() - before <= 1, "the config alone: {:?}", registry.log("/base/"));

    // Nor is a layer needed of a base that stays as it is, and that nobody takes anywhere.
    let bare = context(&[("Dockerfile", &format!("FROM {base}\n"))]);
    let lazy = Daemon::start();
    let before = blobs();
    lazy.buildctl(&["build", text(bare.path())]).ok();
    assert_eq!(blobs() - before, 1, "the config alone: {:?}", registry.log("/base/"));
    lazy.buildctl(&["build", "-t", "bare:v1", text(bare.path())]).ok();
    assert_eq!(blobs() - before, 4, "the layers too: {:?}", registry.log("/base/"));

    // COPY --from too.
    let steps = format!("FROM scratch\nCOPY --from={}/base:v1 /words /\n", registry.authority());
    let third = Daemon::start();
    fs::write(dir.path().join("Dockerfile"), steps).expect("a Dockerfile");
    let out = third.path("out");
    third.buildctl(&["build", "-o", text(&out), text(dir.path())]).ok();
    assert_eq!(fs::read_to_string(out.join("words")).expect("the file"), "some words\n");
}

#[test]
fn a_build_pushes_what_it_made() {
    let daemon = MAKER.with_base();
    let registry = DockerRegistry::start();
    let name = format!("{}/pushed:v1", registry.authority());
    let dir = context(&[("Dockerfile", DOCKERFILE), ("words", "w\n")]);
    let place = tempfile::tempdir().expect("a folder");
    let metadata = place.path().join("metadata.json");
    daemon
        .buildctl(&["build", "--push", "-t", &name, "--metadata-file", text(&metadata), text(dir.path())])
        .ok();
    assert_eq!(inspected(registry.authority(), "pushed:v1"), digest(&metadata));
    let ran = daemon.buildctl(&["run", "--rm", &name, "cat", "/twice"]).ok();
    assert_eq!(ran.stdout, "w\nw\n");
    daemon.buildctl(&["build", "--push", text(dir.path())]).fails(1, &["--push needs a name"]);
    let output = format!("type=registry,name={}/again:v1", registry.authority());
    daemon.buildctl(&["build", "-o", &output, text(dir.path())]).ok();
    assert_eq!(inspected(registry.authority(), "again:v1"), digest(&metadata));
}

#[test]
fn an_image_is_copied_from_registry_to_registry() {
    let daemon = MAKER.with_base();
    let (near, far) = (Registry::start(), DockerRegistry::start());
    let from = format!("{}/made:v1", near.authority());
    let built = build(&daemon, &from);
    daemon.buildctl(&["image", "push", &from]).ok();
    let other = Daemon::start();
    let to = format!("{}/mirror/made:v2", far.authority());
    other.buildctl(&["image", "cp", &from, &to]).ok();
    assert_eq!(inspected(far.authority(), "mirror/made:v2"), built);
    assert_eq!(other.buildctl(&["content", "ls", "-q"]).ok().stdout, "", "nothing is stored on the way");
}

#[test]
fn absent_images_and_registries_are_told_apart() {
    let daemon = Daemon::start();
    let registry = DockerRegistry::start();
    let absent = format!("{}/absent:v1", registry.authority());
    daemon.buildctl(&["image", "pull", &absent]).fails(1, &["absent", "404"]);
    let dir = context(&[("Dockerfile", &format!("FROM {absent}\n"))]);
    daemon.buildctl(&["build", "-t", "a", text(dir.path())]).fails(1, &["404", "FROM"]);
    daemon.buildctl(&["image", "pull", "127.0.0.1:1/absent:v1"]).fails(1, &["127.0.0.1:1", "refused"]);
    daemon.buildctl(&["image", "push", "absent:v1"]).fails(1, &["no such image"]);
    assert_eq!(daemon.buildctl(&["image", "ls", "-q"]).ok().stdout, "");
}
