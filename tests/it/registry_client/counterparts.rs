//! Counterparts: other people's clients and ours, through one registry, in both directions, by digest.

use std::path::Path;

use buildd_oci::{digest::Digest, manifest::Manifest};
use buildd_tests::{
    daemon::{Ran, run},
    peers::peer,
    registry::{DockerRegistry, Options},
};
use oci_client::{
    client::{ClientConfig, ClientProtocol, Config, ImageLayer},
    secrets::RegistryAuth,
};

use super::*;

fn view(authority: &str, rest: &str) -> Repository {
    let host = Host {
        scheme: Scheme::Http,
        authority: authority.to_owned(),
        path: "/v2".to_owned(),
        capabilities: Capabilities::ALL,
        tls: Tls::default(),
        headers: Vec::new(),
        dial_timeout: None,
        origins: Vec::new(),
    };
    let name = Reference::parse(&format!("{authority}/{rest}")).expect(rest);
    Client::with_timeouts(hurry()).repository(&name, vec![host], anonymous())
}

fn blob(media_type: &str, bytes: &Bytes) -> Descriptor {
    Descriptor::new(media_type, Digest::of(bytes), bytes.len() as u64)
}

/// Pushes an image of one layer; its manifest.
async fn push(repository: &Repository, tag: &str, layer: &Bytes) -> Descriptor {
    let config = Bytes::from_static(
        br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#,
    );
    let (top, below) = (blob(media_type::OCI_CONFIG, &config), blob(media_type::OCI_LAYER_GZIP, layer));
    repository.push_blob(&below, &Memory(layer.clone()), &[]).await.expect("push");
    repository.push_blob(&top, &Memory(config), &[]).await.expect("push");
    let bytes = manifest(&top, &[&below]);
    let descriptor = blob(media_type::OCI_MANIFEST, &bytes);
    repository.push_manifest(&descriptor, bytes, Some(tag)).await.expect("push");
    descriptor
}

#[tokio::test(flavor = "multi_thread")]
async fn oci_client_reads_what_we_push_and_we_what_it_pushes() {
    // Its HTTP client takes the process's choice of cryptography; ours does not ask for it.
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    let (debian, ours) = (DockerRegistry::start(), Registry::start());
    for authority in [debian.authority().to_owned(), ours.authority()] {
        let config = ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() };
        let other = oci_client::Client::new(config);
        let name = |tag: &str| {
            format!("{authority}/team/app:{tag}").parse::<oci_client::Reference>().expect("a name")
        };
        let layer = noise(1, 700_000);
        let pushed = push(&view(&authority, "team/app:ours"), "ours", &layer).await;
        let auth = RegistryAuth::Anonymous;
        let digest = other.fetch_manifest_digest(&name("ours"), &auth).await.expect("a digest");
        assert_eq!(digest, pushed.digest.to_string());
        let kinds = vec![media_type::OCI_LAYER_GZIP];
        let image = other.pull(&name("ours"), &auth, kinds).await.expect("an image");
        assert!(image.layers.len() == 1 && image.layers[0].data == layer);

        let layers = [ImageLayer::new(noise(2, 9_000_000), media_type::OCI_LAYER_GZIP.to_owned(), None)];
        let config = Config::oci_v1(&b"{}"[..], None);
        other.push(&name("theirs"), &layers, config, &auth, None).await.expect("a push");
        let repository = view(&authority, "team/app:theirs");
        let found = repository.resolve().await.expect("resolve");
        assert_eq!(
            other.fetch_manifest_digest(&name("theirs"), &auth).await.expect("a digest"),
            found.digest.to_string()
        );
        let manifest =
            Manifest::parse(&repository.document(&found).await.expect("a manifest")).expect("a manifest");
        assert_eq!(repository.document(&manifest.config).await.expect("a config"), "{}");
        let got =
            read(repository.open(&manifest.layers[0], 0).await.expect("a layer")).await.expect("its bytes");
        assert!(got == layers[0].data);
    }
}

fn oras(dir: &Path, args: &[&str]) -> Ran {
    run(peer("oras").args(args).arg("--plain-http").current_dir(dir)).ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn oras_reads_what_we_push_and_we_what_it_attaches() {
    let dir = tempfile::tempdir().expect("a folder");
    for options in [Options::default(), Options { no_referrers: true, ..Options::default() }] {
        let registry = Registry::with(options);
        let authority = registry.authority();
        let repository = view(&authority, "team/app:v1");
        let subject = push(&repository, "v1", &noise(3, 100_000)).await;
        let name = format!("{authority}/team/app:v1");
        let told = oras(dir.path(), &["manifest", "fetch", "--descriptor", &name]).stdout;
        assert!(told.contains(&subject.digest.to_string()), "{told}");
        std::fs::write(dir.path().join("sbom.json"), "{\"packages\":[]}").expect("write");
        oras(
            dir.path(),
            &["attach", "--artifact-type", "application/sbom", &name, "sbom.json:application/json"],
        );
        let found = repository.referrers(&subject.digest, Some("application/sbom")).await.expect("referrers");
        assert_eq!(found.len(), 1, "{:?}", registry.log(""));
        let artifact =
            Manifest::parse(&repository.document(&found[0]).await.expect("a manifest")).expect("a manifest");
        assert_eq!(repository.document(&artifact.layers[0]).await.expect("a file"), "{\"packages\":[]}");
        // And what we attach it finds.
        let config = Bytes::from_static(b"{}");
        repository
            .push_blob(&blob(media_type::OCI_CONFIG, &config), &Memory(config.clone()), &[])
            .await
            .expect("push");
        let signature: Bytes = json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "artifactType": "application/signature",
            "config": blob(media_type::OCI_CONFIG, &config), "layers": [], "subject": subject,
        })
        .to_string()
        .into();
        let descriptor = blob(media_type::OCI_MANIFEST, &signature);
        repository.push_manifest(&descriptor, signature, None).await.expect("push");
        let told = oras(dir.path(), &["discover", "--format", "json", &name]).stdout;
        assert!(
            told.contains(&descriptor.digest.to_string()) && told.contains(&found[0].digest.to_string()),
            "{told}"
        );
        let tags = oras(dir.path(), &["repo", "tags", &format!("{authority}/team/app")]).stdout;
        let mut ours = repository.tags().await.expect("tags");
        ours.sort();
        assert_eq!(tags.lines().collect::<Vec<_>>(), ours);
    }
}
