//! Registry client: `buildd_oci::registry` against a registry of the test's own, which does wrong what it is told to.
//!
//! Named after the cases of the specification: F-26 to F-38, BLOB, MAN and NET.

mod blobs;
mod counterparts;
mod faults;
mod hostile;
mod pull;
mod push;
mod real;
mod tls;

use std::{sync::Arc, time::Duration};

use buildd_oci::{
    descriptor::Descriptor,
    media_type,
    reference::Reference,
    registry::{
        Error, Registry as Client, Repository, Timeouts,
        auth::{Anonymous, Authorizer, Credential, Credentials, Redacted},
        fetch::BlobStream,
        host::{Capabilities, Host, Scheme, Tls},
        push::BlobSource,
    },
};
use buildd_tests::{fixture::Noise, registry::Registry};
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use serde_json::json;

/// As in a daemon, but in a hurry.
fn hurry() -> Timeouts {
    Timeouts {
        answer: Duration::from_secs(5),
        upload_answer: Duration::from_secs(5),
        silence: Duration::from_secs(5),
        drip_window: Duration::from_secs(1),
        drip_bytes: 1 << 10,
        slow_part: Duration::ZERO,
        backoff: Duration::from_millis(5),
        patience: Duration::from_secs(10),
    }
}

fn host(registry: &Registry) -> Host {
    let tls = registry.url().starts_with("https");
    Host {
        scheme: if tls { Scheme::Https } else { Scheme::Http },
        authority: registry.authority(),
        path: "/v2".to_owned(),
        capabilities: Capabilities::ALL,
        tls: Tls::default(),
        headers: Vec::new(),
        dial_timeout: None,
        origins: Vec::new(),
    }
}

fn reference(registry: &Registry, rest: &str) -> Reference {
    Reference::parse(&format!("{}/{rest}", registry.authority())).expect(rest)
}

fn anonymous() -> Authorizer {
    Authorizer::new(Arc::new(Anonymous))
}

/// `rest` (`repository:tag`) at this registry, without credentials.
fn at(registry: &Registry, rest: &str) -> Repository {
    through(&[registry], rest)
}

/// `rest` at the first of these registries, which the others follow as mirrors.
fn through(registries: &[&Registry], rest: &str) -> Repository {
    through_with(hurry(), registries, rest)
}

fn through_with(timeouts: Timeouts, registries: &[&Registry], rest: &str) -> Repository {
    let hosts = registries.iter().map(|registry| host(registry)).collect();
    Client::with_timeouts(timeouts).repository(&reference(registries[0], rest), hosts, anonymous())
}

async fn read(stream: BlobStream) -> Result<Bytes, Error> {
    let all = stream.try_fold(BytesMut::new(), |mut all, bytes| async move {
        all.extend_from_slice(&bytes);
        Ok(all)
    });
    Ok(all.await?.freeze())
}

/// Bytes that do not repeat, from a seed.
fn noise(seed: u64, size: usize) -> Bytes {
    let mut bytes = vec![0; size];
    Noise::new(seed).fill(&mut bytes);
    bytes.into()
}

/// An image of one layer, in the registry; its manifest.
fn image(registry: &Registry, repository: &str, tag: &str) -> Descriptor {
    let layer = registry.put_blob(repository, noise(7, 100_000));
    let config = registry.put_blob(repository, format!("{{\"tag\":\"{tag}\"}}"));
    let manifest = manifest(&config, &[&layer]);
    registry.put_manifest(repository, Some(tag), media_type::OCI_MANIFEST, manifest)
}

fn manifest(config: &Descriptor, layers: &[&Descriptor]) -> Bytes {
    json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": layers,
    })
    .to_string()
    .into()
}

/// A blob in memory, as a push reads it.
struct Memory(Bytes);

#[async_trait::async_trait]
impl BlobSource for Memory {
    async fn open(&self, offset: u64) -> Result<BoxStream<'static, Result<Bytes, Error>>, Error> {
        let rest = self.0.slice(usize::try_from(offset).expect("it is in memory")..);
        let pieces: Vec<_> = rest.chunks(16 << 10).map(|piece| Ok(rest.slice_ref(piece))).collect();
        Ok(futures::stream::iter(pieces).boxed())
    }
}

/// A user and a password, for whoever asks.
#[derive(Debug)]
struct Fixed(&'static str, &'static str);

#[async_trait::async_trait]
impl Credentials for Fixed {
    async fn credential(&self, _host: &str) -> Result<Credential, Error> {
        Ok(Credential::Basic { username: self.0.to_owned(), password: Redacted(self.1.to_owned()) })
    }
}

fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
