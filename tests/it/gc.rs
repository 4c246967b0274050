//! Collection: what nothing needs goes, what is needed stays, also beside builds and across kills.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
};

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
    let shared = daemon.buildctl(&["du", "--filter", "shared"]).ok().stdout;
    assert!(shared.contains("RUN cat /big"), "what an image has too stays without --all: {shared}");
    daemon.buildctl(&["prune", "--all"]).ok();
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
            let mut shell = Command::new("sh");
            shell.args(["-ec", &script]).env("PATH", path).env("BUILDKIT_HOST", &address);
            shell.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().expect("start a shell")
        })
        .collect();
    let mut rounds = 0;
    let mut builds = builds;
    while builds.iter_mut().any(|build| build.try_wait().expect("wait").is_none()) {
        daemon.buildctl(&["prune", "--all"]).ok();
        rounds += 1;
    }
    for mut build in builds {
        assert!(build.wait().expect("wait").success(), "a build lost something\n{}", daemon.log());
    }
    assert!(rounds > 3, "{rounds} rounds");
}

#[test]
fn cache_mounts_are_records_too() {
    let daemon = Daemon::start();
    import_base(&daemon);
    let dockerfile = "FROM alpine\nARG N\nRUN --mount=type=cache,target=/cache echo $N >> /cache/log && cp /cache/log /log\n";
    let dir = context(&[("Dockerfile", dockerfile)]);
    let build = |number: &str| {
        let tree = daemon.path(&format!("tree-{number}"));
        let (argument, output) = (format!("N={number}"), format!("type=local,dest={}", text(&tree)));
        daemon.buildctl(&["build", "--build-arg", &argument, "-o", &output, text(dir.path())]).ok();
        fs::read_to_string(tree.join("log")).expect("written by RUN")
    };
    assert_eq!((build("1"), build("2")), ("1\n".to_owned(), "1\n2\n".to_owned()));
    let of_type = |kind: &str| {
        let filter = format!("type=={kind}");
        let ran = daemon.buildctl(&["du", "--filter", &filter, "--format", "{{json .}}"]).ok();
        let records = ran.stdout.lines().map(|line| serde_json::from_str(line).expect("a record"));
        records.collect::<Vec<serde_json::Value>>()
    };
    let mounts = of_type("exec.cachemount");
    assert_eq!(mounts.len(), 1);
    assert_eq!((&mounts[0]["usageCount"], &mounts[0]["mutable"]), (&2.into(), &true.into()), "{mounts:?}");
    assert!(mounts[0]["size"].as_i64().is_some_and(|size| size > 0), "{mounts:?}");
    assert!(!of_type("source.local").is_empty(), "the context is a record");
    let pruned = daemon.buildctl(&["prune", "--filter", "type==exec.cachemount"]).ok().stdout;
    assert!(pruned.contains("cached mount"), "{pruned}");
    assert_eq!(of_type("exec.cachemount").len(), 0);
    assert_eq!(count(&daemon.path("root/cache-mounts")), 0);
    assert_eq!(build("3"), "3\n", "a fresh mount");
}

#[test]
fn docker_sees_the_rules_and_the_records() {
    let mut daemon = Daemon::start_with(&["--oci-worker-gc-keepstorage=3GB"]);
    import_base(&daemon);
    let home = daemon.path("home");
    let address = daemon.address();
    let buildx = |args: &[&str]| run(peer("docker-buildx").args(args).env("BUILDX_CONFIG", &home));
    buildx(&["create", "--name", "b", "--driver", "remote", &address]).ok();
    let dir = context(&[("Dockerfile", "FROM alpine\nRUN echo one > /one\n")]);
    buildx(&["build", "--builder", "b", "--progress", "plain", text(dir.path())]).ok();
    let inspected = buildx(&["inspect", "b"]).ok().stdout;
    assert!(inspected.contains("GC Policy rule#3"), "{inspected}");
    let used = buildx(&["du", "--builder", "b", "--verbose"]).ok().stdout;
    assert!(used.contains("RUN echo one") && used.contains("source.local"), "{used}");
    let pruned = buildx(&["prune", "--builder", "b", "--force", "--all"]).ok().stdout;
    assert!(pruned.contains("Total"), "{pruned}");
    let left = daemon.buildctl(&["du", "--filter", "description~=RUN", "--format", "json"]).ok().stdout;
    assert!(!left.contains("RUN echo"), "{left}");
    daemon.stop(Signal::TERM);
    let config = daemon.path("bad.toml");
    fs::write(&config, "[[worker.oci.gcpolicy]]\nkeepDuration = \"a while\"\n").expect("a file");
    let mut refused = daemon.command("buildd");
    let refused = run(refused.args(["config", "dump", "--config"]).arg(&config));
    refused.fails(1, &["worker.oci.gcpolicy.keepDuration", "a while", "48h"]);
}

#[test]
fn what_has_no_owner_goes_with_the_next_deletion() {
    let daemon = Daemon::start();
    let ctr = |args: &[&str]| run(peer("ctr2").arg("--address").arg(daemon.path("sock")).args(args));
    let blobs = daemon.path("root/content/blobs/sha256");
    let write = |text: &str| {
        let script = format!("printf %s {text} | $0 --address $1 content ingest {text}");
        let mut shell = Command::new("sh");
        run(shell.args(["-ec", &script]).arg(peer("ctr2").get_program()).arg(daemon.path("sock"))).ok();
    };
    write("kept");
    let kept = "sha256:".to_owned()
        + &fs::read_dir(&blobs)
            .expect("blobs")
            .flatten()
            .next()
            .expect("one")
            .file_name()
            .into_string()
            .expect("a digest");
    ctr(&["leases", "create", "--id", "mine"]).ok();
    ctr(&["leases", "ls"]).ok();
    ctr(&["content", "label", &kept, "containerd.io/gc.root=1"]).ok();
    write("lost");
    assert_eq!(count(&blobs), 2);
    ctr(&["leases", "create", "--id", "other"]).ok();
    ctr(&["leases", "rm", "--sync", "other"]).ok();
    assert_eq!(count(&blobs), 1, "only what has an owner is left");
    ctr(&["content", "label", &kept, "containerd.io/gc.root="]).ok();
    ctr(&["leases", "rm", "--sync", "mine"]).ok();
    assert_eq!(count(&blobs), 0);
    let gone = ctr(&["leases", "rm", "mine"]);
    assert!(gone.code == Some(0) || gone.stderr.contains("not found"), "{gone:?}");
}

/// Waits for an event that an operation brings about, or for the end of its client.
fn until(client: &mut Child, mut happened: impl FnMut() -> bool) {
    while !happened() && client.try_wait().expect("wait").is_none() {
        std::thread::yield_now();
    }
}

fn spawn(mut command: Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start a client")
}

/// Files below a folder, that are there while we look.
fn files(folder: &Path) -> usize {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let below = entries.flatten().map(|entry| match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
        true => files(&entry.path()),
        false => 1,
    });
    below.sum()
}

#[test]
fn kills_lose_nothing_acknowledged_and_leave_nothing_behind() {
    let mut daemon = Daemon::start();
    import_base(&daemon);
    let dir = context(&[("Dockerfile", "FROM alpine\nCOPY . /\nRUN cat /part* > /whole\n")]);
    for part in 0..6_u8 {
        fs::write(dir.path().join(format!("part{part}")), vec![part; 2 << 20]).expect("a file");
    }
    daemon.buildctl(&["build", "-t", "big", text(dir.path())]).ok();
    let archive = daemon.path("big.tar");
    daemon.buildctl(&["image", "export", "-o", text(&archive), "big"]).ok();
    let whole = fs::read(&archive).expect("an archive");
    let content = daemon.path("root/content");
    let ctr = |daemon: &Daemon, args: &[&str]| {
        let mut command = peer("ctr2");
        command.arg("--address").arg(daemon.path("sock")).args(args);
        command
    };
    let name = "docker.io/library/big:latest";
    for more in 1..5 {
        // An import, killed once it has written so many files.
        run(&mut ctr(&daemon, &["images", "rm", "--sync", name])).ok();
        daemon.buildctl(&["prune", "--all"]).ok();
        let before = files(&content);
        let mut import = daemon.command("buildctl");
        import.args(["image", "import", text(&archive)]);
        let mut client = spawn(import);
        until(&mut client, || files(&content) >= before + more);
        daemon.stop(Signal::KILL);
        let acknowledged = client.wait().expect("it ends").success();
        daemon.spawn(&[]);
        let listed = daemon.buildctl(&["image", "ls", "-q"]).ok().stdout;
        assert!(listed.contains("alpine") && (!acknowledged || listed.contains("big")), "{listed}");
        daemon.buildctl(&["image", "import", text(&archive)]).ok();
        // An export, killed once something arrived.
        let out = daemon.path(&format!("out-{more}.tar"));
        let mut export = daemon.command("buildctl");
        export.args(["image", "export", "-o", text(&out), "big"]);
        let mut client = spawn(export);
        until(&mut client, || fs::metadata(&out).is_ok_and(|meta| meta.len() > 0));
        daemon.stop(Signal::KILL);
        client.wait().expect("it ends");
        daemon.spawn(&[]);
        daemon.buildctl(&["image", "export", "-o", text(&out), "big"]).ok();
        assert!(fs::read(&out).expect("an archive") == whole, "the image is what it was");
        // A collection, killed once it removed a file.
        let before = files(&content);
        let mut client = spawn(ctr(&daemon, &["images", "rm", "--sync", name]));
        until(&mut client, || files(&content) < before);
        daemon.stop(Signal::KILL);
        client.wait().expect("it ends");
        daemon.spawn(&[]);
        daemon.buildctl(&["image", "import", text(&archive)]).ok();
        daemon.buildctl(&["run", "--rm", "big", "test", "-s", "/whole"]).ok();
    }
    for image in [name, "docker.io/library/alpine:latest"] {
        run(&mut ctr(&daemon, &["images", "rm", "--sync", image])).ok();
    }
    daemon.buildctl(&["prune", "--all"]).ok();
    for folder in ["content", "layers", "named", "cache-mounts", "trash", "tmp"] {
        assert_eq!(files(&daemon.path(&format!("root/{folder}"))), 0, "{folder} has what nothing needs");
    }
    assert_eq!(count(&daemon.path("root/layers")), 0);
}
