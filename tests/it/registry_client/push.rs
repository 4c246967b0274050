//! Pushes: blobs, mounts, manifests, tags.

use buildd_oci::{digest::Digest, registry::push::Pushed};
use buildd_tests::registry::{Act, Fault, Hang};

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

#[tokio::test]
async fn f_35_a_push_that_was_interrupted_sends_only_what_is_missing() {
    let registry = Registry::start();
    let layers: Vec<Bytes> = (0..5).map(|seed| noise(seed, 100_000)).collect();
    let repository = at(&registry, "app:v1");
    for layer in &layers[..3] {
        repository.push_blob(&blob(layer), &Memory(layer.clone()), &[]).await.expect("push");
    }
    // Whoever goes away in the middle of a blob leaves no blob.
    let (all, digest) = (layers[3].clone(), blob(&layers[3]).digest);
    registry.fault(Fault::on("uploads", Act::Hang(Hang::On)).method("PUT").times(1));
    let dropped = tokio::time::timeout(Duration::from_millis(100), async {
        repository.push_blob(&blob(&layers[3]), &Memory(all), &[]).await
    });
    assert!(dropped.await.is_err());
    assert!(registry.content("app", &digest).is_none() && registry.tagged("app", "v1").is_none());
    let before = registry.uploaded();
    let again = at(&registry, "app:v1");
    let mut pushed = Vec::new();
    for layer in &layers {
        pushed.push(again.push_blob(&blob(layer), &Memory(layer.clone()), &[]).await.expect("push"));
    }
    use Pushed::{Existed, Uploaded};
    assert_eq!(pushed, [Existed, Existed, Existed, Uploaded, Uploaded]);
    assert_eq!(registry.uploaded() - before, 200_000);
}

#[tokio::test]
async fn f_37_of_two_pushes_to_one_tag_one_wins_whole() {
    let registry = Registry::start();
    let push = |seed| {
        let repository = at(&registry, "app:v1");
        tokio::spawn(async move {
            let layer = noise(seed, 50_000);
            repository.push_blob(&blob(&layer), &Memory(layer.clone()), &[]).await.expect("push");
            let bytes = manifest(&blob(&layer), &[&blob(&layer)]);
            let descriptor =
                Descriptor::new(media_type::OCI_MANIFEST, Digest::of(&bytes), bytes.len() as u64);
            repository.push_manifest(&descriptor, bytes, Some("v1")).await.expect("push");
            descriptor
        })
    };
    let (one, two) = tokio::join!(push(1), push(2));
    let candidates = [one.expect("it ended").digest, two.expect("it ended").digest];
    let found = at(&registry, "app:v1").resolve().await.expect("resolve");
    assert!(candidates.contains(&found.digest));
    at(&registry, "app:v1").document(&found).await.expect("whole");
}

#[tokio::test]
async fn what_cannot_be_read_is_not_pushed_and_not_tried_again() {
    /// Breaks after its first bytes, or ends early.
    struct Broken(Option<&'static str>);
    #[async_trait::async_trait]
    impl BlobSource for Broken {
        async fn open(&self, _: u64) -> Result<BoxStream<'static, Result<Bytes, Error>>, Error> {
            let broken = self.0.map(|text| {
                let source = Arc::new(std::io::Error::other(text));
                Err(Error::Source { kind: buildd_oci::ErrorKind::Unavailable, source })
            });
            Ok(futures::stream::iter([Ok(noise(1, 1000))].into_iter().chain(broken)).boxed())
        }
    }
    let bytes = noise(1, 100_000);
    for (source, text) in
        [(Broken(Some("the disk is gone")), "the disk is gone"), (Broken(None), "before its size")]
    {
        let registry = Registry::start();
        let pushed = at(&registry, "app").push_blob(&blob(&bytes), &source, &[]).await;
        let error = pushed.expect_err("it cannot be read");
        assert!(chain(&error).contains(text), "{}", chain(&error));
        assert!(registry.log("uploads/upload").len() <= 1, "{:?}", registry.log(""));
    }
}
