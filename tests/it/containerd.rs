//! containerd's image-side services, driven by the real `ctr`: layers into snapshots and back, events.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Stdio},
};

use buildd_tests::{
    daemon::{Daemon, eventually, run},
    fixture::{context, import_base, text},
    peers::{ctr, peer},
};
use rustix::process::Signal;

/// The name under which `build -t made` is found.
const MADE: &str = "docker.io/library/made:latest";

/// A daemon with an image of two layers, made by a build; the archive of the image.
fn with_image() -> (Daemon, PathBuf) {
    let daemon = Daemon::start();
    import_base(&daemon);
    let script = "FROM alpine\nRUN echo hello > /file && rm -r /root && mkdir -m 700 /root\n";
    let dir = context(&[("Dockerfile", script)]);
    daemon.buildctl(&["build", "-t", "made", text(dir.path())]).ok();
    let archive = daemon.path("made.tar");
    ctr(&daemon, &["images", "export", text(&archive), MADE]).ok();
    (daemon, archive)
}

/// The names of the committed snapshots of a namespace.
fn committed(daemon: &Daemon, namespace: &str) -> Vec<String> {
    let listed = ctr(daemon, &["-n", namespace, "snapshots", "ls"]).ok().stdout;
    let lines = listed.lines().filter(|line| line.contains("Committed"));
    lines.map(|line| line.split_whitespace().next().expect("a name").to_owned()).collect()
}

#[test]
fn ctr_unpacks_by_itself() {
    // Another daemon, which never saw these layers: what the client unpacks is all it has.
    let (_built, archive) = with_image();
    let daemon = Daemon::start();
    ctr(&daemon, &["images", "import", "--local", text(&archive)]).ok();
    let layers = committed(&daemon, "default");
    assert_eq!(layers.len(), 2, "{layers:?}");
    let cat = ctr(&daemon, &["run", "--rm", MADE, "unpacked", "sh", "-c", "cat /file; stat -c %a /root"])
        .ok()
        .stdout;
    assert_eq!(cat, "hello\n700\n");
    // It is at once a base of builds, and its layers are not unpacked twice.
    let dir = context(&[("Dockerfile", "FROM made\nRUN cat /file > /copy\n")]);
    daemon.buildctl(&["build", "-t", "above", text(dir.path())]).ok();
    assert_eq!(daemon.buildctl(&["run", "--rm", "above", "cat", "/copy"]).ok().stdout, "hello\n");
    let folders = fs::read_dir(daemon.path("root/layers")).expect("the layers").flatten();
    assert_eq!(folders.filter(|folder| folder.path().join("file").exists()).count(), 1);
    let info = ctr(&daemon, &["snapshots", "tree"]).ok().stdout;
    assert!(layers.iter().all(|layer| info.contains(layer.as_str())), "{info}");
}

#[test]
fn a_transfer_unpacks_for_the_snapshotter_that_is_asked_for() {
    let (_built, archive) = with_image();
    let daemon = Daemon::start();
    let import = ["-n", "other", "images", "import", "--snapshotter", "native", text(&archive)];
    ctr(&daemon, &import).ok();
    assert!(committed(&daemon, "default").is_empty());
    let listed = ctr(&daemon, &["-n", "other", "snapshots", "--snapshotter", "native", "ls"]).ok().stdout;
    assert_eq!(listed.lines().filter(|line| line.contains("Committed")).count(), 2, "{listed}");
    ctr(&daemon, &["-n", "other", "images", "import", "--snapshotter", "zfs", text(&archive)])
        .fails(1, &["overlayfs and native"]);
}

#[test]
fn ctr_tells_the_difference_of_snapshots() {
    let (daemon, _archive) = with_image();
    // What a build made has its names once somebody asks for them.
    daemon.buildctl(&["run", "--rm", "made", "true"]).ok();
    let layers = committed(&daemon, "default");
    assert_eq!(layers.len(), 2, "{layers:?}");
    ctr(&daemon, &["snapshots", "prepare", "work", &layers[0]]).ok();
    let diff = |args: &[&str]| {
        let mut ctr = peer("ctr2");
        ctr.arg("--address").arg(daemon.path("sock")).args(["snapshots", "diff"]).args(args);
        let out = ctr.stdin(Stdio::null()).output().expect("start ctr");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        fs::write(daemon.path("diff.tar"), out.stdout).expect("write the layer");
        run(std::process::Command::new("tar").arg("-tf").arg(daemon.path("diff.tar"))).ok().stdout
    };
    assert_eq!(diff(&["work"]), "", "nothing was written yet");
    for layer in &layers {
        let names = diff(&[layer]);
        let top = names.lines().any(|name| name == "file");
        let base = names.lines().any(|name| name == "bin/busybox");
        assert!(top != base, "one of the two layers: {names}");
    }
    let other = diff(&["--media-type", "application/vnd.oci.image.layer.v1.tar", &layers[0], &layers[1]]);
    assert!(other.contains("file"), "{other}");
    ctr(&daemon, &["snapshots", "diff", "nothing"]).fails(1, &["not found"]);
    ctr(&daemon, &["snapshots", "diff", "--media-type", "text/plain", &layers[0]]).fails(1, &["text/plain"]);
}

/// A `ctr events` that runs until it is dropped.
struct Listener {
    child: Child,
    heard: PathBuf,
}

impl Listener {
    fn start(daemon: &Daemon, name: &str, filters: &[&str]) -> Self {
        let heard = daemon.path(name);
        let file = File::create(&heard).expect("a file");
        let mut ctr = peer("ctr2");
        ctr.arg("--address").arg(daemon.path("sock")).arg("events").args(filters);
        Self { child: ctr.stdin(Stdio::null()).stdout(file).spawn().expect("start ctr"), heard }
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.heard).expect("what it heard")
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).expect("end our own child");
    }
}

#[test]
fn events_are_told_in_the_order_they_happen() {
    let mut daemon = Daemon::start_with(&["--debug"]);
    let all = Listener::start(&daemon, "all", &[]);
    let exits = Listener::start(
        &daemon,
        "exits",
        &["topic~=^/tasks/(exit|oom)$,namespace==default", "topic==/namespaces/create"],
    );
    let mut probes = 0;
    eventually("the first event", || {
        probes += 1;
        ctr(&daemon, &["namespaces", "create", &format!("probe{probes}")]).ok();
        [&all, &exits].iter().all(|listener| listener.text().contains("/namespaces/create"))
    });
    import_base(&daemon);
    let image = "docker.io/library/alpine:latest";
    ctr(&daemon, &["run", "--rm", image, "told", "sh", "-c", "exit 3"]).fails(3, &[]);
    ctr(&daemon, &["-n", "probe1", "run", "--rm", image, "told", "true"]).fails(1, &["not found"]);
    ctr(&daemon, &["images", "label", image, "a=b"]).ok();
    ctr(&daemon, &["images", "rm", "--sync", image]).ok();
    eventually("the last event", || all.text().contains("/content/delete"));
    let heard = all.text();
    let mut rest = heard.as_str();
    for wanted in [
        "default /content/create {\"digest\":",
        "default /images/create {\"name\":\"docker.io/library/alpine:latest\"",
        "default /snapshot/prepare {\"key\":\"told\",\"parent\":\"sha256:",
        "default /containers/create {\"id\":\"told\",\"image\":\"docker.io/library/alpine:latest\"",
        "default /tasks/create {\"container_id\":\"told\"",
        "default /tasks/start {\"container_id\":\"told\",\"pid\":",
        "default /tasks/exit {\"container_id\":\"told\",\"id\":\"told\"",
        "\"exit_status\":3",
        "default /tasks/delete {\"container_id\":\"told\"",
        "default /snapshot/remove {\"key\":\"told\"",
        "default /containers/delete {\"id\":\"told\"}",
        "default /images/update {",
        "default /images/delete {",
        "default /content/delete {",
    ] {
        let at = rest.find(wanted).unwrap_or_else(|| panic!("no {wanted} in its place in:\n{heard}"));
        rest = &rest[at + wanted.len()..];
    }
    let exits = exits.text();
    assert!(exits.lines().all(|line| line.contains("/tasks/exit") || line.contains("/namespaces/create")));
    assert_eq!(exits.matches("/tasks/exit").count(), 1, "an exit is told once: {exits}");
    assert_eq!(daemon.stop(Signal::TERM), Some(0), "listeners do not hold it up");
    assert!(!daemon.log().contains("still in flight"), "{}", daemon.log());
}
