//! Other people's clients move images with our daemon, and what one of us pushes the others pull.

use super::*;

/// Runs one of the two.
pub(super) type Ctr = fn(&Daemon, &[&str]) -> buildd_tests::daemon::Ran;

/// ctr 1.6, which speaks with registries itself.
pub(super) fn old_ctr(daemon: &Daemon, args: &[&str]) -> buildd_tests::daemon::Ran {
    run(peer("ctr").arg("--address").arg(daemon.path("sock")).args(args))
}

#[test]
fn ctr_of_both_majors_pulls_and_pushes() {
    let daemon = MAKER.with_base();
    let registry = DockerRegistry::start();
    let host = registry.authority();
    let name = format!("{host}/made:v1");
    let built = build(&daemon, &name);
    daemon.buildctl(&["image", "push", "-q", &name]).ok();
    let clients: [(&str, Ctr); 2] = [("one", old_ctr), ("two", ctr)];
    for (word, ctr) in clients {
        let other = Daemon::start();
        let pulled = ctr(&other, &["images", "pull", "--plain-http", &name]).ok();
        assert!(pulled.stdout.contains("layer"), "its display shows the parts: {}", pulled.stdout);
        assert_eq!(ctr(&other, &["images", "ls", "-q"]).ok().stdout, format!("{name}\n"));
        let checked = ctr(&other, &["images", "check"]).ok().stdout;
        assert!(checked.contains("complete (4/4)") && checked.contains("true"), "{checked}");
        let ran = other.buildctl(&["run", "--rm", &name, "cat", "/words"]).ok();
        assert_eq!(ran.stdout, "some words\n");
        let copy = format!("{host}/{word}:v1");
        ctr(&other, &["images", "tag", &name, &copy]).ok();
        ctr(&other, &["images", "push", "--plain-http", &copy]).ok();
        assert_eq!(inspected(host, &format!("{word}:v1")), built);
        // What ctr pulled is a base for our builds.
        let dir = context(&[("Dockerfile", &format!("FROM {name}\nRUN cat /words\n"))]);
        other.buildctl(&["build", "-t", "on-it", text(dir.path())]).ok();
    }
}

#[test]
fn ctr_with_its_own_registry_traffic() {
    let daemon = MAKER.with_base();
    let registry = DockerRegistry::start();
    let name = format!("{}/made:v1", registry.authority());
    build(&daemon, &name);
    daemon.buildctl(&["image", "push", "-q", &name]).ok();
    let other = Daemon::start();
    ctr(&other, &["images", "pull", "--local", "--plain-http", &name]).ok();
    let ran = other.buildctl(&["run", "--rm", &name, "cat", "/twice"]).ok();
    assert_eq!(ran.stdout, "some words\nsome words\n");
    ctr(&other, &["content", "fetch", "--plain-http", &name]).ok();
    let listed = ctr(&other, &["content", "ls"]).ok().stdout;
    assert!(listed.contains("containerd.io/distribution.source."), "{listed}");
}

#[test]
fn skopeo_and_oras_push_what_we_pull() {
    let daemon = Daemon::start();
    import_base(&daemon);
    let registry = DockerRegistry::start();
    let host = registry.authority();
    let archive = daemon.path("made.tar");
    let spec = format!("type=oci,dest={}", text(&archive));
    let dir = context(&[("Dockerfile", DOCKERFILE), ("words", "some words\n")]);
    daemon.buildctl(&["build", "-o", &spec, text(dir.path())]).ok();
    for format in ["oci", "v2s2"] {
        let to = format!("docker://{host}/skopeo:{format}");
        let from = format!("oci-archive:{}", text(&archive));
        run(peer("skopeo").args(["copy", "--dest-tls-verify=false", "--format", format, &from, &to])).ok();
        let name = format!("{host}/skopeo:{format}");
        daemon.buildctl(&["image", "pull", "-q", &name]).ok();
        let ran = daemon.buildctl(&["run", "--rm", &name, "cat", "/twice"]).ok();
        assert_eq!(ran.stdout, "some words\nsome words\n");
    }
    // An artifact is no image, but it can be held.
    let file = daemon.path("note.txt");
    fs::write(&file, "a note").expect("a file");
    let artifact = format!("{host}/notes:v1");
    let mut oras = peer("oras");
    oras.current_dir(daemon.path("")).args(["push", "--plain-http", &artifact, "note.txt:text/plain"]);
    run(&mut oras).ok();
    daemon.buildctl(&["image", "pull", "--all-platforms", &artifact]).ok();
    daemon.buildctl(&["image", "push", &artifact]).ok();
}

#[test]
fn buildx_pushes_and_pulls_its_bases() {
    let daemon = MAKER.with_base();
    let registry = DockerRegistry::start();
    let host = registry.authority();
    let base = format!("{host}/base:v1");
    build(&daemon, &base);
    daemon.buildctl(&["image", "push", "-q", &base]).ok();
    let other = Daemon::start();
    let home = other.path("buildx");
    let buildx = |args: &[&str]| {
        let mut command = peer("docker-buildx");
        command
            .env("DOCKER_CONFIG", &home)
            .env("BUILDX_CONFIG", home.join("buildx"))
            .env_remove("BUILDKIT_HOST");
        run(command.args(args))
    };
    buildx(&["create", "--name", "ours", "--driver", "remote", &other.address()]).ok();
    let dir = context(&[("Dockerfile", &format!("FROM {base}\nRUN cat /words > /read\n"))]);
    let name = format!("{host}/from-buildx:v1");
    buildx(&["build", "--builder", "ours", "--provenance=false", "--push", "-t", &name, text(dir.path())])
        .ok();
    let third = Daemon::start();
    third.buildctl(&["image", "pull", "-q", &name]).ok();
    let ran = third.buildctl(&["run", "--rm", &name, "cat", "/read"]).ok();
    assert_eq!(ran.stdout, "some words\n");
}

#[test]
fn buildctl_converts_too() {
    let daemon = Daemon::start();
    import_base(&daemon);
    let made = "docker.io/library/made:latest";
    build(&daemon, made);
    let types = |name: &str| {
        let inspected = daemon.buildctl(&["image", "inspect", name]).ok().stdout;
        let value: serde_json::Value = serde_json::from_str(&inspected).expect("JSON");
        let manifest = value[0]["manifest"]["content"].clone();
        let kind = |layer: &serde_json::Value| layer["mediaType"].as_str().expect("a type").to_owned();
        let layers: Vec<String> = manifest["layers"].as_array().expect("layers").iter().map(kind).collect();
        (layers, kind(&manifest["config"]))
    };
    let registry = DockerRegistry::start();
    for (word, flags, ending) in [
        ("zstd", &["--compression", "zstd"][..], "tar+zstd"),
        ("plain", &["--uncompress", "--oci"], "image.layer.v1.tar"),
        ("gzip", &["--compression", "gzip", "--oci"], "tar+gzip"),
    ] {
        let name = format!("{}/{word}:v1", registry.authority());
        let digest = daemon.buildctl(&[&["image", "convert"], flags, &[made, &name]].concat()).ok().stdout;
        let (layers, _) = types(&name);
        assert!(layers.iter().all(|kind| kind.ends_with(ending)), "{word}: {layers:?}");
        // What it made is whole: the collector leaves it, and others read it.
        daemon.buildctl(&["prune", "--all"]).ok();
        daemon.buildctl(&["image", "push", "-q", &name]).ok();
        assert_eq!(inspected(registry.authority(), &format!("{word}:v1")), digest.trim());
        let other = Daemon::start();
        other.buildctl(&["image", "pull", "-q", &name]).ok();
        assert_eq!(other.buildctl(&["run", "--rm", &name, "cat", "/words"]).ok().stdout, "some words\n");
    }
    // Nothing to do is not done: the same image, by another name.
    let same = daemon.buildctl(&["image", "convert", made, "example.com/same:v1"]).ok().stdout;
    assert!(daemon.buildctl(&["image", "inspect", made]).ok().stdout.contains(same.trim()));
    daemon
        .buildctl(&["image", "convert", "--compression", "lzma", made, "x"])
        .fails(1, &["neither gzip nor"]);
    daemon.buildctl(&["image", "convert", "absent", "x"]).fails(1, &["no such image"]);
}
