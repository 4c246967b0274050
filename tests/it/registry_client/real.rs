//! Somebody else's registry: what our client and docker-registry make of each other.

use std::sync::atomic::{AtomicUsize, Ordering};

use buildd_oci::{ErrorKind, digest::Digest, registry::push::Pushed};
use buildd_tests::registry::DockerRegistry;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
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
    Client::with_timeouts(Timeouts { silence: Duration::from_secs(10), ..hurry() }).repository(
        &name,
        vec![host],
        anonymous(),
    )
}

fn blob(bytes: &Bytes) -> Descriptor {
    Descriptor::new(media_type::OCI_LAYER, Digest::of(bytes), bytes.len() as u64)
}

/// A port that leads to `to` and cuts some connections after so many bytes from the client.
async fn cutting(to: String, cuts: Vec<usize>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
    let address = listener.local_addr().expect("an address").to_string();
    let next = Arc::new(AtomicUsize::new(0));
    tokio::spawn(async move {
        loop {
            let Ok((mut near, _)) = listener.accept().await else { return };
            let (to, cuts, next) = (to.clone(), cuts.clone(), next.clone());
            tokio::spawn(async move {
                let mut far = TcpStream::connect(to).await.expect("the registry");
                let (mut from_far, mut to_far) = far.split();
                let (mut from_near, mut to_near) = near.split();
                let up = async {
                    let (mut buffer, mut passed) = (vec![0; 32 << 10], 0);
                    while let Ok(count @ 1..) = from_near.read(&mut buffer).await {
                        passed += count;
                        if to_far.write_all(&buffer[..count]).await.is_err() {
                            return;
                        }
                        if cuts.get(next.load(Ordering::SeqCst)).is_some_and(|cut| passed > *cut) {
                            next.fetch_add(1, Ordering::SeqCst);
                            return;
                        }
                    }
                };
                tokio::select! {
                    () = up => {}
                    _ = tokio::io::copy(&mut from_far, &mut to_near) => {}
                }
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_registry_takes_and_gives_an_image() {
    let registry = DockerRegistry::start();
    let repository = view(registry.authority(), "team/app:v1");
    assert_eq!(repository.resolve().await.expect_err("nothing there").kind(), ErrorKind::NotFound);
    let (layer, config, empty) = (noise(1, 3_000_000), Bytes::from_static(b"{}"), Bytes::new());
    for expected in [Pushed::Uploaded, Pushed::Existed] {
        for bytes in [&layer, &config, &empty] {
            let pushed = repository.push_blob(&blob(bytes), &Memory(bytes.clone()), &[]).await;
            assert_eq!(pushed.unwrap_or_else(|error| panic!("{}", chain(&error))), expected);
        }
    }
    let bytes = manifest(
        &Descriptor { media_type: media_type::OCI_CONFIG.to_owned(), ..blob(&config) },
        &[&blob(&layer)],
    );
    let descriptor = Descriptor::new(media_type::OCI_MANIFEST, Digest::of(&bytes), bytes.len() as u64);
    for tag in [None, Some("v1"), Some("v2"), Some("v2")] {
        repository.push_manifest(&descriptor, bytes.clone(), tag).await.expect("push");
    }
    assert_eq!(repository.resolve().await.expect("resolve"), descriptor);
    assert_eq!(repository.document(&descriptor).await.expect("the manifest"), bytes);
    assert!(repository.ranges(&blob(&layer)).await.expect("an answer"));
    let part = repository.open_range(&blob(&layer), 1_000_000..2_000_000).await.expect("a part");
    assert!(read(part).await.expect("its bytes") == layer.slice(1_000_000..2_000_000));
    let all = repository.open(&blob(&layer), 0).await.expect("the layer");
    assert!(read(all).await.expect("its bytes") == layer);
    let mut tags = repository.tags().await.expect("tags");
    tags.sort();
    assert_eq!(tags, ["v1", "v2"]);
    let other = view(registry.authority(), "team/other:v1");
    let from = ["team/app".to_owned()];
    let mounted = other.push_blob(&blob(&layer), &Memory(layer.clone()), &from).await.expect("a mount");
    assert_eq!(mounted, Pushed::Mounted);
    // A manifest whose blobs are not there is refused by its code (F-36).
    let error = other.push_manifest(&descriptor, bytes, Some("v1")).await.expect_err("no config there");
    assert!(error.says("MANIFEST_BLOB_UNKNOWN"), "{}", chain(&error));
    // Nor does a blob get in under another name.
    let wrong = Descriptor { digest: Digest::of(b"other"), ..blob(&layer) };
    let error = other.push_blob(&wrong, &Memory(layer), &[]).await.expect_err("another digest");
    assert!(error.says("DIGEST_INVALID"), "{}", chain(&error));
}

/// docker-registry throws away what it got of a request that broke, and says so with a 404: it is sent again from the start.
#[tokio::test(flavor = "multi_thread")]
async fn docker_registry_gets_an_upload_that_broke_all_the_same() {
    let registry = DockerRegistry::start();
    let layer = noise(2, 20_000_000);
    let through = cutting(registry.authority().to_owned(), vec![6_000_000, 7_000_000]).await;
    let repository = view(&through, "app:v1");
    let pushed = repository.push_blob(&blob(&layer), &Memory(layer.clone()), &[]).await;
    pushed.unwrap_or_else(|error| panic!("{}\n{}", chain(&error), registry.log()));
    let all = repository.open(&blob(&layer), 0).await.expect("the layer");
    assert!(read(all).await.expect("its bytes") == layer);
}
