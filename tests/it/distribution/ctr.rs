//! ctr of both majors, for everything that it does with images, content and snapshots and that no other test has it do.

use buildd_tests::registry::{Authority, Options};

use super::{
    peers::{Ctr, old_ctr},
    *,
};

/// Both, with a word for messages.
const BOTH: [(&str, Ctr); 2] = [("ctr 1.6", old_ctr), ("ctr 2", ctr)];
/// The name under which `with_image` builds.
const MADE: &str = "docker.io/library/made:latest";

fn with_image() -> Daemon {
    let daemon = Daemon::start();
    import_base(&daemon);
    build(&daemon, MADE);
    daemon
}

/// What an image's manifest says of a field of each layer.
fn layer_types(daemon: &Daemon, name: &str) -> Vec<String> {
    let inspected = daemon.buildctl(&["image", "inspect", name]).ok().stdout;
    let value: serde_json::Value = serde_json::from_str(&inspected).expect("JSON");
    let manifest = &value[0]["manifest"]["content"];
    let types = manifest["layers"].as_array().expect("layers").iter().chain([&manifest["config"]]);
    types.map(|layer| layer["mediaType"].as_str().expect("a type").to_owned()).collect()
}

#[test]
fn it_pulls_and_pushes_through_tls_with_certificates_and_passwords() {
    let authority = Authority::new(&["127.0.0.1"]);
    let clients = Authority::new(&["a client"]);
    let dir = tempfile::tempdir().expect("a folder");
    let at = |name: &str| dir.path().join(name);
    authority.write(&at("ca.pem"));
    clients.write_client(&at("cert.pem"), &at("key.pem"));
    let registry = Registry::with(Options {
        tls: Some(authority),
        client_certificates: Some(clients),
        basic: Some(("me".to_owned(), "secret".to_owned())),
        ..Options::default()
    });
    let host = registry.authority();
    let folder = at("hosts").join(&host);
    fs::create_dir_all(&folder).expect("a folder");
    // With a table: ctr 1.6 reads no file without one.
    let file = format!(
        "[host.{:?}]\nca = {:?}\nclient = [[{:?}, {:?}]]\n",
        registry.url(),
        text(&at("ca.pem")),
        text(&at("cert.pem")),
        text(&at("key.pem"))
    );
    fs::write(folder.join("hosts.toml"), file).expect("a hosts.toml");
    let (hosts, name) = (at("hosts"), format!("{host}/made:v1"));
    let daemon = with_image();
    ctr(&daemon, &["images", "tag", MADE, &name]).ok();
    ctr(&daemon, &["images", "push", "--hosts-dir", text(&hosts), "--user", "me:secret", &name]).ok();
    let (cert, key, ca) = (at("cert.pem"), at("key.pem"), at("ca.pem"));
    let pair = ["--tlscert", text(&cert), "--tlskey", text(&key), "--user", "me:secret"];
    let trusting = [&["--tlscacert", text(&ca)], &pair[..]].concat();
    let careless = [&["--skip-verify"], &pair[..]].concat();
    let by_folder = ["--hosts-dir", text(&hosts), "--user", "me:secret"];
    let local = |flags: &[&str]| [&["--local"], flags].concat().iter().map(|s| (*s).to_owned()).collect();
    let plain = |flags: &[&str]| flags.iter().map(|s| (*s).to_owned()).collect::<Vec<String>>();
    // ctr 1.6 speaks plain HTTP with this machine, whatever its flags say: only a hosts.toml makes it do otherwise.
    let cases: [(Ctr, Vec<String>); 5] = [
        (old_ctr, plain(&by_folder)),
        (ctr, local(&trusting)),
        (ctr, local(&careless)),
        (ctr, local(&by_folder)),
        (ctr, plain(&by_folder)),
    ];
    for (ctr, flags) in cases {
        let other = Daemon::start();
        let pull = |flags: &[String]| {
            let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
            ctr(&other, &[&["images", "pull"], &flags[..], &[&name]].concat())
        };
        let without = flags.iter().take_while(|flag| *flag != "--user").cloned().collect::<Vec<_>>();
        assert_ne!(pull(&without).code, Some(0), "nobody is let in: {without:?}");
        pull(&flags).ok();
        let ran = other.buildctl(&["run", "--rm", &name, "cat", "/words"]).ok();
        assert_eq!(ran.stdout, "some words\n", "{flags:?}");
        let log = other.log();
        assert!(!log.contains("secret"), "{log}");
    }
}

#[test]
fn it_converts() {
    for (word, ctr) in BOTH {
        let daemon = with_image();
        let convert = |flags: &[&str], to: &str| {
            ctr(&daemon, &[&["images", "convert"], flags, &[MADE, to]].concat()).ok();
            let ran = daemon.buildctl(&["run", "--rm", to, "cat", "/words"]).ok();
            assert_eq!(ran.stdout, "some words\n", "{word} {flags:?}");
            layer_types(&daemon, to)
        };
        let plain = convert(&["--uncompress"], "example.com/plain:v1");
        assert!(plain.iter().all(|kind| !kind.contains("gzip")), "{plain:?}");
        let oci = convert(&["--oci", "--uncompress"], "example.com/oci:v1");
        assert!(oci.iter().all(|kind| kind.starts_with("application/vnd.oci.image.")), "{oci:?}");
        let host = buildd_oci::platform::Platform::host().to_string();
        convert(&["--oci", "--platform", &host], "example.com/one:v1");
        convert(&["--oci", "--all-platforms"], "example.com/all:v1");
        // What it made is kept, and may be pushed.
        daemon.buildctl(&["prune"]).ok();
        let registry = DockerRegistry::start();
        let remote = format!("{}/plain:v1", registry.authority());
        daemon.buildctl(&["image", "push", "-q", "example.com/plain:v1", &remote]).ok();
        let pulled = Daemon::start();
        pulled.buildctl(&["image", "pull", "-q", &remote]).ok();
        assert_eq!(pulled.buildctl(&["run", "--rm", &remote, "cat", "/words"]).ok().stdout, "some words\n");
    }
}

#[test]
fn it_works_with_snapshots() {
    for (word, ctr) in BOTH {
        let daemon = with_image();
        let archive = daemon.path("made.tar");
        daemon.buildctl(&["image", "export", "-o", text(&archive), MADE]).ok();
        let other = Daemon::start();
        ctr(&other, &["images", "import", "--no-unpack", text(&archive)]).ok();
        let snapshots = |args: &[&str]| ctr(&other, &[&["snapshots"], args].concat());
        let listed = || snapshots(&["ls"]).ok().stdout;
        assert_eq!(listed().lines().count(), 1, "{word}: nothing is unpacked: {}", listed());
        let line = ctr(&other, &["images", "ls"]).ok().stdout;
        let digest = line.split_whitespace().find(|word| word.starts_with("sha256:")).expect("a digest");
        snapshots(&["unpack", digest]).ok();
        let named = listed();
        let keys: Vec<&str> =
            named.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
        assert_eq!(keys.len(), 3, "{word}: {named}");
        let parents: Vec<&str> = named
            .lines()
            .filter_map(|line| line.split_whitespace().nth(1))
            .filter(|p| p.contains(':'))
            .collect();
        let top = *keys.iter().find(|key| !parents.contains(key)).expect("one is on top");
        let tree = snapshots(&["tree"]).ok().stdout;
        assert!(keys.iter().all(|key| tree.contains(key)) && tree.contains("\\_"), "{word}: {tree}");
        let usage = snapshots(&["usage"]).ok().stdout;
        assert!(keys.iter().all(|key| usage.contains(key)), "{word}: {usage}");
        let of_image = ctr(&other, &["images", "usage", MADE]);
        if word != "ctr 1.6" {
            assert!(of_image.ok().stdout.contains(top));
        }
        snapshots(&["prepare", "work", top]).ok();
        let mounts = snapshots(&["mounts", "/nowhere", "work"]).ok().stdout;
        assert!(mounts.starts_with("mount -t overlay") && mounts.contains("/nowhere"), "{word}: {mounts}");
        snapshots(&["view", "seen", top]).ok();
        let info = snapshots(&["info", "work"]).ok().stdout;
        assert!(info.contains("\"Active\"") && info.contains(top), "{word}: {info}");
        snapshots(&["rm", top]).fails(1, &["ctr"]);
        snapshots(&["commit", "kept", "work"]).ok();
        snapshots(&["label", "kept", "a=b"]).ok();
        assert!(snapshots(&["info", "kept"]).ok().stdout.contains("\"a\": \"b\""), "{word}");
        snapshots(&["rm", "seen", "kept"]).ok();
        assert_eq!(listed().lines().count(), 4, "{word}: {}", listed());
    }
}

#[test]
fn it_looks_into_images_and_content() {
    for (word, ctr) in BOTH {
        let daemon = with_image();
        ctr(&daemon, &["images", "label", MADE, "a=b"]).ok();
        assert!(ctr(&daemon, &["images", "ls", "labels.a==b"]).ok().stdout.contains(MADE), "{word}");
        for _ in 0..2 {
            ctr(&daemon, &["images", "tag", "--force", MADE, "example.com/other:v1"]).ok();
        }
        let checked = ctr(&daemon, &["images", "check", &format!("name=={MADE}")]).ok().stdout;
        assert!(checked.contains("complete (4/4)"), "{word}: {checked}");
        let at = daemon.path("mounted");
        fs::create_dir(&at).expect("a folder");
        ctr(&daemon, &["images", "mount", MADE, text(&at)]).ok();
        assert_eq!(fs::read_to_string(at.join("words")).expect("the image's file"), "some words\n", "{word}");
        ctr(&daemon, &["images", "unmount", "--rm", text(&at)]).ok();
        assert!(!at.join("words").exists(), "{word}");
        let left = ctr(&daemon, &["snapshots", "ls"]).ok().stdout;
        assert!(!left.contains(text(&at)), "{word}: --rm takes the snapshot along: {left}");
        // Layers that lie unpacked need no blobs: with the references gone they are collected, and the container still starts.
        let blobs = || ctr(&daemon, &["content", "ls", "-q"]).ok().stdout.lines().count();
        let before = blobs();
        ctr(&daemon, &["content", "prune", "references", "--dry"]).ok();
        assert_eq!(blobs(), before, "{word}");
        ctr(&daemon, &["content", "prune", "references"]).ok();
        assert!(blobs() < before, "{word}: {} of {before}", blobs());
        let ran = super::ctr(&daemon, &["run", "--rm", MADE, "converted", "cat", "/words"]).ok();
        assert_eq!(ran.stdout, "some words\n", "{word}");
        let refused = daemon.buildctl(&["image", "export", "-o", text(&daemon.path("x.tar")), MADE]);
        refused.fails(1, &["not found"]);
    }
}
