//! Exports: archives that other tools accept, trees on the client, and the same bytes every time.

use std::{fs, os::unix::fs::FileExt, path::Path, process::Command};

use buildd_tests::{
    daemon::{Daemon, run},
    fixture::{Noise, context, import_base, text},
    peers::peer,
};

const DOCKERFILE: &str = "FROM alpine\nCOPY a.txt /a.txt\nRUN echo made > /made\nCMD [\"cat\", \"/made\"]\n";

fn ready() -> (Daemon, tempfile::TempDir) {
    let daemon = Daemon::start();
    import_base(&daemon);
    (daemon, context(&[("Dockerfile", DOCKERFILE), ("a.txt", "a")]))
}

fn output(daemon: &Daemon, spec: &str, dir: &tempfile::TempDir) {
    daemon.buildctl(&["build", "-o", spec, text(dir.path())]).ok();
}

#[test]
fn skopeo_umoci_and_buildah_accept_our_archives() {
    let (daemon, dir) = ready();
    let oci = daemon.path("out.oci.tar");
    output(&daemon, &format!("type=oci,dest={},name=example.com/made:v1", text(&oci)), &dir);
    let inspected =
        run(peer("skopeo").args(["inspect", "--config", &format!("oci-archive:{}", text(&oci))])).ok();
    assert!(inspected.stdout.contains("cat"), "{}", inspected.stdout);

    let layout = daemon.path("layout");
    fs::create_dir(&layout).expect("a folder");
    run(Command::new("tar").arg("-xf").arg(&oci).arg("-C").arg(&layout)).ok();
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(layout.join("index.json")).expect("index.json")).expect("JSON");
    let tag =
        index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"].as_str().expect("a tag");
    let bundle = daemon.path("bundle");
    run(peer("umoci").args(["unpack", "--image", &format!("{}:{tag}", text(&layout)), text(&bundle)])).ok();
    assert_eq!(fs::read_to_string(bundle.join("rootfs/made")).expect("made by RUN"), "made\n");

    let docker = daemon.path("out.docker.tar");
    output(&daemon, &format!("type=docker,dest={},name=example.com/made:v1", text(&docker)), &dir);
    let inspected =
        run(peer("skopeo").args(["inspect", "--config", &format!("docker-archive:{}", text(&docker))])).ok();
    assert!(inspected.stdout.contains("cat"), "{}", inspected.stdout);
    let store = daemon.path("buildah");
    let root = ["--root", text(&store), "--storage-driver", "vfs"];
    run(peer("buildah").args(root).args(["pull", &format!("docker-archive:{}", text(&docker))])).ok();
}

#[test]
fn an_archive_whose_bytes_are_not_what_they_were_is_not_left_at_the_client() {
    let (daemon, dir) = ready();
    let mut large = vec![0; 9 << 20];
    Noise::new(1).fill(&mut large);
    fs::write(dir.path().join("a.txt"), large).expect("a file");
    let out = daemon.path("out.tar");
    let spec = |compression: &str| format!("type=oci,dest={},compression={compression}", text(&out));
    output(&daemon, &spec("uncompressed"), &dir);
    fs::remove_file(&out).expect("it was made");
    // What the disk might do to a layer, wherever the bytes lie.
    for entry in fs::read_dir(daemon.path("root/layers")).expect("layers").flatten() {
        let meta = entry.metadata().expect("it");
        if meta.is_file() && meta.len() > 8 << 20 {
            let file = fs::File::options().write(true).open(entry.path()).expect("a layer");
            file.write_all_at(&[0; 64], 5 << 20).expect("damage");
        }
    }
    let built = daemon.buildctl(&["build", "-o", &spec("uncompressed"), text(dir.path())]);
    built.fails(1, &["sha256:", "hash"]);
    assert!(!out.exists(), "no half of an archive");
    let left = fs::read_dir(daemon.path("")).expect("a folder").flatten();
    assert!(!left.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with(".buildctl-")));
}

#[test]
fn their_archives_are_ours_to_import() {
    let (daemon, dir) = ready();
    let ours = daemon.path("ours.tar");
    output(&daemon, &format!("type=oci,dest={},name=example.com/made:v1", text(&ours)), &dir);
    for (kind, compress) in [("docker-archive", "true"), ("oci-archive", "false")] {
        let theirs = daemon.path(&format!("{kind}.tar"));
        run(peer("skopeo").args([
            "copy",
            "--insecure-policy",
            &format!("--dest-compress={compress}"),
            &format!("oci-archive:{}", text(&ours)),
            &format!("{kind}:{}:example.com/{kind}:v1", text(&theirs)),
        ]))
        .ok();
        daemon.buildctl(&["image", "import", text(&theirs)]).ok();
        let reuse =
            context(&[("Dockerfile", &format!("FROM example.com/{kind}:v1\nRUN cat /made > /again\n"))]);
        let tree = daemon.path(&format!("tree-{kind}"));
        output(&daemon, &format!("type=local,dest={}", text(&tree)), &reuse);
        assert_eq!(fs::read_to_string(tree.join("again")).expect("made from it"), "made\n");
    }
}

#[test]
fn trees_land_on_the_client() {
    let (daemon, dir) = ready();
    let tree = daemon.path("tree");
    output(&daemon, &format!("type=local,dest={}", text(&tree)), &dir);
    assert_eq!(fs::read_to_string(tree.join("made")).expect("made by RUN"), "made\n");
    assert_eq!(fs::read_to_string(tree.join("a.txt")).expect("copied"), "a");
    assert!(!tree.join("proc/self").exists());
    let tar = daemon.path("tree.tar");
    output(&daemon, &format!("type=tar,dest={}", text(&tar)), &dir);
    let listed = run(Command::new("tar").arg("-tf").arg(&tar)).ok().stdout;
    assert!(listed.lines().any(|line| line.trim_start_matches("./") == "made"), "{listed}");
}

/// Files of the platform in folders that all have.
const APART: &str = "FROM --platform=$BUILDPLATFORM alpine AS made
ARG TARGETARCH
RUN mkdir -p /bin-of/one && echo $TARGETARCH > /bin-of/$TARGETARCH && echo x > /bin-of/one/$TARGETARCH
FROM scratch
COPY --from=made /bin-of /bin-of
";

#[test]
fn platforms_are_one_tree_where_no_file_is_lost() {
    let (daemon, _) = ready();
    let dir = context(&[("Dockerfile", APART)]);
    let tree = daemon.path("tree");
    let tar = daemon.path("tree.tar");
    for output in [
        format!("type=local,platform-split=false,dest={}", text(&tree)),
        format!("type=tar,platform-split=false,dest={}", text(&tar)),
    ] {
        let args = ["build", "--platform", "linux/amd64,linux/arm64", "-o", &output, text(dir.path())];
        daemon.buildctl(&args).ok();
    }
    let unpacked = daemon.path("unpacked");
    fs::create_dir(&unpacked).expect("a folder");
    run(Command::new("tar").arg("-xf").arg(&tar).arg("-C").arg(&unpacked)).ok();
    for tree in [&tree, &unpacked] {
        for arch in ["amd64", "arm64"] {
            let read = |path: String| fs::read_to_string(tree.join(path)).expect("a file of each platform");
            assert_eq!(read(format!("bin-of/{arch}")), format!("{arch}\n"));
            assert_eq!(read(format!("bin-of/one/{arch}")), "x\n");
        }
    }
    let split = daemon.path("split");
    let output = format!("type=local,platform-split=true,dest={}", text(&split));
    daemon.buildctl(&["build", "-o", &output, text(dir.path())]).ok();
    assert!(
        fs::read_dir(&split)
            .expect("the tree")
            .all(|entry| { entry.expect("an entry").file_name().to_string_lossy().starts_with("linux_") })
    );
}

const CROSS: &str = "FROM --platform=$BUILDPLATFORM alpine AS made
ARG TARGETARCH
RUN echo $TARGETARCH > /arch
FROM scratch
COPY --from=made /arch /arch
";

#[test]
fn platforms_are_images_of_one_index_and_folders_of_one_tree() {
    let (daemon, _) = ready();
    let dir = context(&[("Dockerfile", CROSS)]);
    let build = |more: &[&str]| {
        let args = [&["build", "--platform", "linux/amd64,linux/arm64"], more, &[text(dir.path())]].concat();
        daemon.buildctl(&args)
    };
    let tree = daemon.path("tree");
    build(&["-o", &format!("type=local,dest={}", text(&tree))]).ok();
    for arch in ["amd64", "arm64"] {
        let file = tree.join(format!("linux_{arch}/arch"));
        assert_eq!(fs::read_to_string(file).expect("a folder for each"), format!("{arch}\n"));
    }
    let tar = daemon.path("tree.tar");
    build(&["-o", &format!("type=tar,dest={}", text(&tar))]).ok();
    let listed = run(Command::new("tar").arg("-tf").arg(&tar)).ok().stdout;
    assert!(listed.contains("linux_amd64/arch") && listed.contains("linux_arm64/arch"), "{listed}");
    build(&["-o", &format!("type=local,platform-split=false,dest={}", text(&tree))])
        .fails(1, &["platform-split", "arch of linux_amd64 and of linux_arm64 would write over each other"]);

    let archive = daemon.path("index.tar");
    let notes = "annotation.a=all,annotation[linux/arm64].a=arm,annotation-index.b=index,\
                 annotation-manifest-descriptor.c=entry";
    build(&["-o", &format!("type=oci,name=example.com/m:v1,dest={},{notes}", text(&archive))]).ok();
    let raw = |arch: &[&str]| -> serde_json::Value {
        let image = format!("oci-archive:{}", text(&archive));
        let ran = run(peer("skopeo").args(arch).args(["inspect", "--raw", &image])).ok();
        serde_json::from_str(&ran.stdout).expect("JSON")
    };
    let index = raw(&[]);
    assert_eq!(index["annotations"]["b"], "index");
    let platforms: Vec<_> = index["manifests"].as_array().expect("manifests").iter().collect();
    assert_eq!(platforms.len(), 2);
    for (entry, (arch, note)) in platforms.iter().zip([("amd64", "all"), ("arm64", "arm")]) {
        assert_eq!(entry["platform"]["architecture"], arch);
        assert_eq!(entry["annotations"]["c"], "entry");
        let blob = entry["digest"].as_str().expect("a digest").replace(':', "/");
        let ran = run(Command::new("tar").arg("-xOf").arg(&archive).arg(format!("blobs/{blob}"))).ok();
        let manifest: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
        assert_eq!(manifest["annotations"]["a"], note);
    }
    let one = format!("type=oci,dest={},annotation-index.b=x", text(&archive));
    daemon.buildctl(&["build", "-o", &one, text(dir.path())]).fails(1, &["annotation", "one platform"]);
}

/// The media types of an archive's layers, and the latest time in all of them.
fn layers(archive: &Path) -> (Vec<String>, u64) {
    let unpacked = tempfile::tempdir().expect("a folder");
    run(Command::new("tar").arg("-C").arg(unpacked.path()).arg("-xf").arg(archive)).ok();
    let read = |digest: &serde_json::Value| {
        let digest = digest.as_str().expect("a digest").replace(':', "/");
        unpacked.path().join("blobs").join(digest)
    };
    let json = |path: &Path| -> serde_json::Value {
        serde_json::from_slice(&fs::read(path).expect("a blob")).expect("JSON")
    };
    let index = json(&unpacked.path().join("index.json"));
    let manifest = json(&read(&index["manifests"][0]["digest"]));
    let (mut types, mut newest) = (Vec::new(), 0);
    for layer in manifest["layers"].as_array().expect("layers") {
        types.push(layer["mediaType"].as_str().expect("a type").to_owned());
        let tree = unpacked.path().join("tree");
        fs::create_dir_all(&tree).expect("a folder");
        run(Command::new("tar").arg("-C").arg(&tree).arg("-xf").arg(read(&layer["digest"]))).ok();
        let found = run(Command::new("find").arg(&tree).args(["-mindepth", "1", "-printf", "%T@\n"])).ok();
        let times = found.stdout.lines().filter_map(|time| time.split('.').next()?.parse::<u64>().ok());
        newest = newest.max(times.max().unwrap_or_default());
        fs::remove_dir_all(&tree).expect("removed");
    }
    (types, newest)
}

#[test]
fn forced_forms_reach_the_layers_of_the_base_too() {
    let (daemon, dir) = ready();
    let export = |words: &str| {
        let archive = daemon.path("x.tar");
        let spec = format!("type=oci,dest={}{words}", text(&archive));
        daemon.buildctl(&["build", "-o", &spec, text(dir.path())]).ok();
        layers(&archive)
    };
    let of = |(types, _): (Vec<String>, u64), end: &str| types.iter().filter(|t| t.ends_with(end)).count();
    let all = export("").0.len();
    assert!(all > 1, "a base and a step");
    assert_eq!(of(export(",compression=zstd,force-compression=true"), "+zstd"), all);
    assert_eq!(of(export(",compression=gzip,force-compression=true"), "+gzip"), all);

    let epoch = 1_000_000_000;
    let rewritten = format!(",source-date-epoch={epoch},rewrite-timestamp=true");
    assert!(export(",rewrite-timestamp=false,source-date-epoch=1000000000").1 > epoch);
    assert!(export(&rewritten).1 <= epoch);
    let spec = format!("type=oci,rewrite-timestamp=true,dest={}", text(&daemon.path("x.tar")));
    daemon.buildctl(&["build", "-o", &spec, text(dir.path())]).fails(1, &["SOURCE_DATE_EPOCH"]);
}

#[test]
fn exports_are_reproducible_under_an_epoch() {
    let (daemon, dir) = ready();
    let mut archives = Vec::new();
    for (number, compression) in [(0, "gzip"), (1, "gzip"), (2, "zstd"), (3, "zstd")] {
        let path = daemon.path(&format!("{number}.tar"));
        let spec = format!("type=oci,dest={},name=example.com/r:v1,compression={compression}", text(&path));
        let args = ["build", "--no-cache", "--build-arg", "SOURCE_DATE_EPOCH=1700000000", "-o", &spec];
        daemon.buildctl(&[&args[..], &[text(dir.path())]].concat()).ok();
        archives.push(fs::read(&path).expect("an archive"));
    }
    assert!(archives[0] == archives[1], "gzip archives differ");
    assert!(archives[2] == archives[3], "zstd archives differ");
}

#[test]
fn images_come_back_as_they_went() {
    let (daemon, dir) = ready();
    daemon.buildctl(&["build", "-t", "round:v1", text(dir.path())]).ok();
    let digest = |daemon: &Daemon| {
        let ran = daemon.buildctl(&["image", "inspect", "round:v1"]).ok();
        let value: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
        value.to_string()
    };
    let before = digest(&daemon);
    let archive = daemon.path("round.tar");
    daemon.buildctl(&["image", "export", "-o", text(&archive), "round:v1"]).ok();
    daemon.buildctl(&["image", "rm", "round:v1"]).ok();
    daemon.buildctl(&["image", "import", text(&archive)]).ok();
    let strip = |text: &str| text.split("sha256:").nth(1).map(|rest| rest[..64].to_owned());
    assert_eq!(strip(&digest(&daemon)), strip(&before));
}

#[test]
fn unknown_attributes_are_refused_with_a_suggestion() {
    let (daemon, dir) = ready();
    let ran = daemon.buildctl(&["build", "-o", "type=image,name=x,compresion=gzip", text(dir.path())]);
    ran.fails(1, &["compresion", "compression"]);
}
