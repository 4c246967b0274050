//! Pushes: blobs, mounts, manifests, tags.

use buildd_oci::{digest::Digest, registry::push::Pushed};

use super::*;

fn blob(bytes: &Bytes) -> Descriptor {
    Descriptor::new(media_type::OCI_LAYER, Digest::of(bytes), bytes.len() as u64)
}

#[tokio::test]
async fn an_image_is_pushed_once_and_its_tag_last() {
    let registry = Registry::start();
    let repository = at(&registry, "team/app:v1");
    let (layer, config) = (noise(1, 300_000), Bytes::from_static(b"{}"));
    for expected in [Pushed::Uploaded, Pushed::Existed] {
        for bytes in [&layer, &config] {
            let pushed = repository.push_blob(&blob(bytes), &Memory(bytes.clone()), &[]).await;
            assert_eq!(pushed.expect("push"), expected);
        }
    }
    assert_eq!(registry.uploaded(), 300_002);
    let bytes = manifest(&blob(&config), &[&blob(&layer)]);
    let descriptor = Descriptor::new(media_type::OCI_MANIFEST, Digest::of(&bytes), bytes.len() as u64);
    assert!(!repository.exists(&descriptor).await.expect("an answer"));
    for _ in 0..2 {
        repository.push_manifest(&descriptor, bytes.clone(), Some("v1")).await.expect("push");
    }
    assert!(repository.exists(&descriptor).await.expect("an answer"));
    assert_eq!(registry.tagged("team/app", "v1"), Some(descriptor.digest));
    assert_eq!(repository.resolve().await.expect("resolve"), descriptor);
    let puts: Vec<_> = registry.log("manifests").into_iter().filter(|line| line.starts_with("PUT")).collect();
    assert_eq!(puts, ["PUT /v2/team/app/manifests/v1 201"], "what is there is not put again");
}
