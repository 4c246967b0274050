//! What goes wrong on the way: broken connections, killed daemons, wrong bytes, many at once.

use buildd_tests::{
    daemon::eventually,
    registry::{Act, Fault},
};
use rustix::process::Signal;

use super::*;

/// A registry with a built image in it, and its name.
fn stocked() -> (Registry, String, String) {
    let daemon = MAKER.with_base();
    let registry = Registry::start();
    let name = format!("{}/made:v1", registry.authority());
    let built = build(&daemon, &name);
    daemon.buildctl(&["image", "push", &name]).ok();
    (registry, name, built)
}

/// The digest of the image's first layer: the base, and the largest.
fn largest(registry: &Registry, name: &str) -> String {
    let manifest = registry.tagged("made", "v1").expect(name);
    let manifest = registry.content("made", &manifest).expect("a manifest");
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).expect("JSON");
    manifest["layers"][0]["digest"].as_str().expect("a digest").to_owned()
}

fn gets(registry: &Registry) -> Vec<buildd_tests::registry::Seen> {
    registry.seen().into_iter().filter(|seen| seen.method == "GET" && seen.path.contains("/blobs/")).collect()
}

#[test]
fn a_pull_goes_on_where_a_killed_daemon_stopped() {
    let (registry, name, _) = stocked();
    let mut daemon = Daemon::start();
    // The base's bytes stop in the middle, and the connection stays open.
    let asked = gets(&registry).len();
    registry.fault(Fault::on("/blobs/", Act::Stop(300_000)).method("GET"));
    let mut pull = daemon.command("buildctl").args(["image", "pull", &name]).spawn().expect("buildctl");
    eventually("the first bytes", || {
        let ingests = daemon.path("root/content/ingest/default");
        let sizes = std::fs::read_dir(ingests).into_iter().flatten().flatten();
        sizes.filter_map(|e| e.path().join("data").metadata().ok()).any(|meta| meta.len() >= 200_000)
    });
    daemon.stop(Signal::KILL);
    let _ = pull.wait();
    registry.forgive();
    daemon.spawn(&[]);
    assert_eq!(daemon.buildctl(&["image", "ls", "-q"]).ok().stdout, "", "nothing half visible");
    daemon.buildctl(&["image", "pull", &name]).ok();
    let resumed = gets(&registry).split_off(asked);
    let from: Vec<u64> = resumed
        .iter()
        .filter_map(|seen| seen.header("range")?.strip_prefix("bytes=")?.split('-').next()?.parse().ok())
        .collect();
    assert!(from.iter().any(|offset| *offset >= 200_000), "{resumed:?}");
    let ran = daemon.buildctl(&["run", "--rm", &name, "cat", "/words"]).ok();
    assert_eq!(ran.stdout, "some words\n");
}

#[test]
fn ten_pulls_at_once_cost_one() {
    let (registry, name, _) = stocked();
    let daemon = Daemon::start();
    let asked = gets(&registry).len();
    let pulls: Vec<_> = (0..10)
        .map(|number| {
            let ns = format!("ns{}", number % 3);
            daemon.command("buildctl").args(["--namespace", &ns, "image", "pull", "-q", &name]).spawn()
        })
        .collect();
    for pull in pulls {
        assert!(pull.expect("buildctl").wait().expect("its end").success());
    }
    assert_eq!(gets(&registry).len() - asked, 4, "three layers and a config, once each");
    for ns in ["ns0", "ns1", "ns2"] {
        let ran = daemon.buildctl(&["--namespace", ns, "run", "--rm", &name, "cat", "/words"]).ok();
        assert_eq!(ran.stdout, "some words\n");
    }
}

#[test]
fn wrong_bytes_never_become_an_image() {
    let (registry, name, _) = stocked();
    let daemon = Daemon::start();
    let layer = largest(&registry, &name);
    registry.fault(Fault::on(format!("/blobs/{layer}"), Act::Flip(5000)).method("GET"));
    daemon.buildctl(&["image", "pull", &name]).fails(1, &[&layer, "hashes to"]);
    assert_eq!(daemon.buildctl(&["image", "ls", "-q"]).ok().stdout, "");
    registry.forgive();
    daemon.buildctl(&["image", "pull", &name]).ok();
    let blob = daemon.command("buildctl").args(["content", "get", &layer]).output().expect("buildctl");
    assert_eq!(buildd_oci::digest::Digest::of(&blob.stdout).to_string(), layer);
}

#[test]
fn a_bit_that_flips_on_the_way_costs_one_more_try() {
    let (registry, name, _) = stocked();
    let daemon = Daemon::start();
    registry.fault(Fault::on("/blobs/", Act::Flip(100)).method("GET").times(1));
    registry.fault(Fault::on("/manifests/sha256", Act::Flip(100)).method("GET").times(1));
    daemon.buildctl(&["image", "pull", &name]).ok();
    let ran = daemon.buildctl(&["run", "--rm", &name, "cat", "/words"]).ok();
    assert_eq!(ran.stdout, "some words\n");
}

#[test]
fn a_client_that_leaves_ends_its_pull() {
    let (registry, name, _) = stocked();
    let daemon = Daemon::start();
    registry.fault(Fault::on("/blobs/", Act::Stop(1000)).method("GET"));
    let mut pull = daemon.command("buildctl").args(["image", "pull", &name]).spawn().expect("buildctl");
    let leases = || daemon.buildctl(&["lease", "ls", "-q"]).ok().stdout;
    eventually("a pull's lease", || leases().contains("buildd-pull-"));
    pull.kill().expect("kill buildctl");
    pull.wait().expect("its end");
    eventually("the pull's end", || !leases().contains("buildd-pull-"));
    registry.forgive();
    daemon.buildctl(&["image", "pull", &name]).ok();
}

#[test]
fn a_layer_that_is_not_what_its_config_says_is_refused() {
    let (registry, name, _) = stocked();
    let daemon = Daemon::start();
    daemon.buildctl(&["image", "pull", "-q", &name]).ok();
    // The same manifest over a config whose second diff_id is another one's.
    let inspected = daemon.buildctl(&["image", "inspect", &name]).ok().stdout;
    let value: serde_json::Value = serde_json::from_str(&inspected).expect("JSON");
    let mut manifest = value[0]["manifest"]["content"].clone();
    let config = manifest["config"]["digest"].as_str().expect("a digest");
    let read = daemon.buildctl(&["content", "get", config]).ok().stdout;
    let mut config: serde_json::Value = serde_json::from_str(&read).expect("JSON");
    config["rootfs"]["diff_ids"][1] = serde_json::json!(format!("sha256:{}", "5".repeat(64)));
    let config = registry.put_blob("evil", config.to_string());
    manifest["config"]["digest"] = serde_json::json!(config.digest.to_string());
    manifest["config"]["size"] = serde_json::json!(config.size);
    for layer in manifest["layers"].as_array().expect("layers") {
        let digest = layer["digest"].as_str().expect("a digest").parse().expect("a digest");
        registry.put_blob("evil", registry.content("made", &digest).expect("a layer"));
    }
    let media_type = manifest["mediaType"].as_str().expect("a type").to_owned();
    registry.put_manifest("evil", Some("v1"), &media_type, manifest.to_string());
    let evil = format!("{}/evil:v1", registry.authority());
    let other = Daemon::start();
    for daemon in [&daemon, &other] {
        daemon.buildctl(&["image", "pull", &evil]).fails(1, &["sha256:5555"]);
        assert!(!daemon.buildctl(&["image", "ls", "-q"]).ok().stdout.contains("evil"));
    }
}

#[test]
fn rule_82_a_registrys_warning_reaches_the_log() {
    let (registry, name, _) = stocked();
    let warning = "299 - \"this name goes away in May\"";
    registry.fault(Fault::on("/manifests/", Act::Header("warning", Some(warning.to_owned()))));
    let daemon = Daemon::start();
    daemon.buildctl(&["image", "pull", "-q", &name]).ok();
    assert!(daemon.log().contains("this name goes away in May"), "{}", daemon.log());
}

#[test]
fn blob_14_an_ingest_that_was_changed_is_not_gone_on_with() {
    let (registry, name, _) = stocked();
    let mut daemon = Daemon::start();
    registry.fault(Fault::on("/blobs/", Act::Stop(300_000)).method("GET"));
    let mut pull = daemon.command("buildctl").args(["image", "pull", &name]).spawn().expect("buildctl");
    let partial = || {
        let ingests =
            fs::read_dir(daemon.path("root/content/ingest/default")).into_iter().flatten().flatten();
        let mut files = ingests.map(|ingest| ingest.path().join("data"));
        files.find(|file| file.metadata().is_ok_and(|meta| meta.len() >= 200_000))
    };
    eventually("the first bytes", || partial().is_some());
    let changed = partial().expect("still there");
    daemon.stop(Signal::KILL);
    let _ = pull.wait();
    registry.forgive();
    let mut bytes = fs::read(&changed).expect("what came");
    bytes[100_000] ^= 1;
    fs::write(&changed, bytes).expect("changed");
    daemon.spawn(&[]);
    // The whole is hashed, what does not fit is thrown away, and the blob is fetched again.
    daemon.buildctl(&["image", "pull", "-q", &name]).ok();
    assert_eq!(daemon.buildctl(&["run", "--rm", &name, "cat", "/words"]).ok().stdout, "some words\n");
}
