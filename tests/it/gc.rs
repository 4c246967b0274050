//! Collection: what nothing needs goes, what is needed stays, also beside builds and across kills.

use std::{fs, path::Path, process::Stdio};

use buildd_tests::{
    daemon::{Daemon, run},
    fixture::{context, import_base, text},
    peers::peer,
};
use rustix::process::Signal;

fn count(folder: &Path) -> usize {
    fs::read_dir(folder).expect("a folder of the store").count()
}

#[test]
fn deleted_images_and_pruned_results_leave_no_files() {
    let mut daemon = Daemon::start();
    import_base(&daemon);
    let (blobs, layers) = (daemon.path("root/content/blobs/sha256"), daemon.path("root/layers"));
    let before = (count(&blobs), count(&layers));
    let dir = context(&[("Dockerfile", "FROM alpine\nCOPY big /\nRUN cat /big /big > /bigger\n")]);
    fs::write(dir.path().join("big"), vec![7; 3 << 20]).expect("a file");
    daemon.buildctl(&["build", "-t", "one", text(dir.path())]).ok();
    let du = daemon.buildctl(&["du"]).ok().stdout;
    assert!(du.contains("RUN cat /big"), "{du}");
    let sizes = daemon.buildctl(&["du", "--filter", "description~=RUN cat", "--format", "{{json .}}"]).ok();
    let record: serde_json::Value = serde_json::from_str(sizes.stdout.trim()).expect("one record");
    assert!(record["size"].as_i64().is_some_and(|size| (6 << 20..7 << 20).contains(&size)), "{record}");
    daemon.buildctl(&["prune"]).ok();
    // The image keeps what it is made of, without the cache.
    let bigger = daemon.buildctl(&["run", "--rm", "one", "wc", "-c", "/bigger"]).ok().stdout;
    assert!(bigger.starts_with("6291456"), "{bigger}");
    daemon.buildctl(&["image", "rm", "one"]).ok();
    let ctr = |args: &[&str]| run(peer("ctr2").arg("--address").arg(daemon.path("sock")).args(args));
    ctr(&["images", "tag", "docker.io/library/alpine:latest", "other"]).ok();
    ctr(&["images", "rm", "--sync", "other"]).ok();
    assert_eq!((count(&blobs), count(&layers)), before, "only the base is left");
    daemon.buildctl(&["run", "--rm", "alpine", "true"]).ok();
    daemon.stop(Signal::KILL);
    daemon.spawn(&[]);
    assert_eq!((count(&blobs), count(&layers)), before);
}

#[test]
fn builds_beside_collections_lose_nothing() {
    let daemon = Daemon::start();
    import_base(&daemon);
    let address = daemon.address();
    let dir =
        context(&[("Dockerfile", "FROM alpine\nARG N\nRUN echo $N > /n && sleep 0.1\nRUN cat /n > /m\n")]);
    let builds: Vec<_> = (0..2)
        .map(|worker| {
            let dir = text(dir.path());
            let script = format!(
                "for i in 1 2 3 4 5 6; do buildctl build -q --build-arg N={worker}-$i -t t{worker} {dir} >/dev/null \
                 && [ $(buildctl run --rm t{worker} cat /m) = {worker}-$i ] || exit 1; done"
            );
            let folder = buildd_tests::daemon::binaries();
            let path = format!("{}:{}", text(&folder), std::env::var("PATH").expect("a PATH"));
            let mut shell = std::process::Command::new("sh");
            shell.args(["-ec", &script]).env("PATH", path).env("BUILDKIT_HOST", &address);
            shell.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().expect("start a shell")
        })
        .collect();
    let mut rounds = 0;
    let mut builds = builds;
    while builds.iter_mut().any(|build| build.try_wait().expect("wait").is_none()) {
        daemon.buildctl(&["prune"]).ok();
        rounds += 1;
    }
    for mut build in builds {
        assert!(build.wait().expect("wait").success(), "a build lost something\n{}", daemon.log());
    }
    assert!(rounds > 3, "{rounds} rounds");
}
