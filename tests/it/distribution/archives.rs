//! Archives of images that are only partly here, and what a pull leaves on the disk.

use buildd_oci::{descriptor::Descriptor, digest::Digest, manifest::Index, media_type};
use serde_json::{Value, json};

use super::*;

/// Puts an image for two platforms into a registry: this machine's is the one `made` in it, the other has a config alone of its own.
fn two_platforms(registry: &Registry) -> (String, Digest) {
    let daemon = MAKER.with_base();
    let made = format!("{}/made:v1", registry.authority());
    build(&daemon, &made);
    daemon.buildctl(&["image", "push", "-q", &made]).ok();
    let digest = registry.tagged("made", "v1").expect("a tag");
    let bytes = registry.content("made", &digest).expect("a manifest");
    let mut manifest: Value = serde_json::from_slice(&bytes).expect("JSON");
    let kind = manifest["mediaType"].as_str().expect("a type").to_owned();
    let read = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().and_then(|text| text.parse().ok()).expect("a digest");
        registry.content("made", &digest).expect("a blob")
    };
    let mut config: Value = serde_json::from_slice(&read(&manifest["config"])).expect("JSON");
    let here = config["architecture"].as_str().expect("one").to_owned();
    let other = if here == "s390x" { "arm64" } else { "s390x" };
    config["architecture"] = json!(other);
    let config = registry.put_blob("made", config.to_string());
    manifest["config"]["digest"] = json!(config.digest.to_string());
    manifest["config"]["size"] = json!(config.size);
    let theirs = registry.put_manifest("made", None, &kind, manifest.to_string());
    let named = |descriptor: Descriptor, architecture: &str| Descriptor {
        platform: Some(format!("linux/{architecture}").parse().expect("a platform")),
        ..descriptor
    };
    let ours = Descriptor::new(kind.clone(), digest, bytes.len() as u64);
    let index = Index::new(vec![named(ours, &here), named(theirs.clone(), other)]);
    registry.put_manifest("made", Some("both"), media_type::OCI_INDEX, index.to_bytes());
    (format!("linux/{other}"), theirs.digest)
}

#[test]
fn an_image_that_is_partly_here_goes_out_as_far_as_it_is() {
    let registry = Registry::start();
    let (other, absent) = two_platforms(&registry);
    let name = format!("{}/made:both", registry.authority());
    let daemon = Daemon::start();
    daemon.buildctl(&["image", "pull", "-q", &name]).ok();
    let archive = daemon.path("image.tar");
    let archive = text(&archive);
    let export = |more: &[&str]| {
        daemon.buildctl(&[&["image", "export", "-o", archive], more, &[name.as_str()]].concat())
    };
    let told = export(&[]).ok().stderr;
    let left_out = format!("left out: {name} {other}: blob {absent} is not here");
    assert!(told.contains(&left_out), "{told}");
    for flags in [&["--all-platforms"][..], &["--platform", &other]] {
        fs::remove_file(archive).expect("what was written");
        export(flags).fails(1, &[&other, &absent.to_string(), &format!("--platform {other}")]);
        assert!(!Path::new(archive).exists(), "a failed export leaves no file");
        export(&[]).ok();
    }
    // What went out is an image elsewhere, under the same digest.
    let elsewhere = Daemon::start();
    elsewhere.buildctl(&["image", "import", archive]).ok();
    assert_eq!(elsewhere.buildctl(&["run", "--rm", &name, "cat", "/words"]).ok().stdout, "some words\n");
    // ctr asks in the same way.
    let ctr_export = |more: &[&str]| ctr(&daemon, &[&["images", "export"], more, &[archive, &name]].concat());
    ctr_export(&[]).ok();
    let refused = ctr_export(&["--all-platforms"]);
    assert!(refused.code != Some(0) && refused.stderr.contains(&other), "{refused:?}");
    // With everything here nothing is left out.
    daemon.buildctl(&["image", "pull", "-q", "--all-platforms", &name]).ok();
    assert_eq!(export(&["--all-platforms"]).ok().stderr, "");
}

/// An OCI layout of these blobs and this index, as a tar.
fn layout(path: &str, blobs: &[&str], index: &Value) {
    let mut builder = tar::Builder::new(fs::File::create(path).expect("a file"));
    let mut add = |name: &str, bytes: &str| {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, bytes.as_bytes()).expect("a disk");
    };
    add("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
    add("index.json", &index.to_string());
    for blob in blobs {
        add(&format!("blobs/sha256/{}", Digest::of(blob.as_bytes()).hex()), blob);
    }
    builder.finish().expect("a disk");
}

#[test]
fn rule_21_what_refers_to_an_image_of_an_archive_lives_as_long_as_that() {
    let daemon = Daemon::start();
    let describe = |kind: &str, text: &str| json!({"mediaType": kind, "digest": Digest::of(text.as_bytes()), "size": text.len()});
    let manifest = |config: &str, subject: Option<&Value>| {
        let config = describe(media_type::OCI_CONFIG, config);
        json!({"schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": [], "subject": subject})
            .to_string()
    };
    let (config, note) = (r#"{"rootfs":{"type":"layers","diff_ids":[]}}"#, r#"{"a":"signature"}"#);
    let image = manifest(config, None);
    let mut named = describe(media_type::OCI_MANIFEST, &image);
    let signature = manifest(note, Some(&named));
    let mut referring = describe(media_type::OCI_MANIFEST, &signature);
    referring["annotations"] = json!({"io.containerd.manifest.subject": named["digest"]});
    named["annotations"] = json!({"io.containerd.image.name": "example.com/made:v1"});
    let index = json!({"schemaVersion": 2, "manifests": [referring, named]});
    let archive = daemon.path("referred.tar");
    let blobs = [config, note, image.as_str(), signature.as_str()];
    layout(text(&archive), &blobs, &index);
    assert_eq!(daemon.buildctl(&["image", "import", text(&archive)]).ok().stdout, "example.com/made:v1\n");
    assert_eq!(daemon.buildctl(&["image", "ls", "-q"]).ok().stdout, "example.com/made:v1\n");
    let here = || {
        daemon.buildctl(&["prune"]).ok();
        let here = daemon.buildctl(&["content", "ls", "-q"]).ok().stdout;
        blobs.map(|blob| here.contains(&Digest::of(blob.as_bytes()).to_string()))
    };
    assert_eq!(here(), [true; 4]);
    daemon.buildctl(&["image", "rm", "example.com/made:v1"]).ok();
    assert_eq!(here(), [false; 4]);
}

#[test]
fn a_layer_that_came_uncompressed_is_stored_once() {
    let daemon = Daemon::start();
    import_base(&daemon);
    let registry = Registry::start();
    let name = format!("{}/made:v1", registry.authority());
    let dir = context(&[("Dockerfile", DOCKERFILE), ("words", "some words\n")]);
    let output = format!("type=image,name={name},compression=uncompressed,force-compression=true,push=true");
    daemon.buildctl(&["build", "-o", &output, text(dir.path())]).ok();
    let manifest = registry.tagged("made", "v1").and_then(|tag| registry.content("made", &tag));
    let manifest: Value = serde_json::from_slice(&manifest.expect("a manifest")).expect("JSON");
    let layers: Vec<&str> = manifest["layers"]
        .as_array()
        .expect("layers")
        .iter()
        .map(|layer| layer["digest"].as_str().expect("a digest"))
        .collect();
    let other = Daemon::start();
    other.buildctl(&["image", "pull", "-q", &name]).ok();
    let files = fs::read_dir(other.path("root/layers")).expect("the layers").flatten();
    let files = files.filter(|layer| layer.path().is_file()).count();
    let blob = |digest: &str| other.path("root/content/blobs").join(digest.replace(':', "/"));
    let copies = layers.iter().filter(|digest| blob(digest).exists()).count();
    assert_eq!(copies + files, layers.len(), "a blob lies beside its layer only where that is a folder");
    for digest in layers {
        let bytes = other.command("buildctl").args(["content", "get", digest]).output().expect("buildctl");
        assert_eq!(Digest::of(&bytes.stdout).to_string(), digest);
    }
    assert_eq!(other.buildctl(&["run", "--rm", &name, "cat", "/words"]).ok().stdout, "some words\n");
}
