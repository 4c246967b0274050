//! What a round removes from a real store.

use std::{collections::BTreeMap, fs};

use buildd_api::containerd::containerd::services::containers::v1::Container;
use buildd_oci::descriptor::Descriptor;
use prost::Message;

use super::*;
use crate::{
    label::Labels,
    meta::lease::{EXPIRE, Resource},
    snapshot::named::Scope,
};

mod many;
mod races;

const NS: &str = "ns";

struct Place {
    dir: tempfile::TempDir,
    store: std::sync::Arc<Store>,
}

fn place() -> Place {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(dir.path()).expect("a store");
    Place { dir, store }
}

impl Place {
    fn blob(&self, text: &str, labels: &[(&str, String)]) -> Digest {
        let labels: Labels = labels.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        self.store.content.put(NS, &mut text.as_bytes(), &labels).expect("a blob").0
    }

    fn image(&self, name: &str, target: Digest, labels: &Labels) {
        let target = Descriptor::new("application/vnd.oci.image.manifest.v1+json", target, 1);
        self.store.images.put(NS, name, &target, labels).expect("an image");
    }

    fn layers(&self) -> usize {
        fs::read_dir(self.dir.path().join("layers")).expect("the folder").count()
    }

    fn files(&self) -> usize {
        fs::read_dir(self.dir.path().join("content/blobs/sha256")).expect("the folder").count()
    }
}

#[test]
fn an_image_keeps_its_blobs_and_its_layers_until_it_goes() {
    let place = place();
    let store = &place.store;
    let held = store.snapshots.active(None).expect("a mount").commit().expect("a layer");
    let chain_id = Digest::of(b"chain");
    store.snapshots.set_chain_id(held.id(), &chain_id).expect("a name");
    let layer = place.blob("layer", &[]);
    let config = place.blob("config", &[("containerd.io/gc.ref.snapshot.overlayfs", chain_id.to_string())]);
    let manifest = place.blob(
        "manifest",
        &[
            ("containerd.io/gc.ref.content.config", config.to_string()),
            ("containerd.io/gc.ref.content.l.0", layer.to_string()),
        ],
    );
    place.image("kept", manifest, &Labels::new());
    place.blob("nobody's", &[]);
    drop(held);
    let first = collect(store).expect("a round");
    assert_eq!(first.blobs, [Digest::of(b"nobody's")]);
    assert!(first.layers.is_empty(), "the image's config names the chain");
    assert_eq!((place.files(), place.layers()), (3, 1));
    store.images.delete(NS, "kept", None).expect("delete");
    let second = collect(store).expect("a round");
    assert_eq!((second.blobs.len(), second.layers.len()), (3, 1));
    assert_eq!((place.files(), place.layers()), (0, 0));
    assert_eq!(collect(store).expect("a round"), Collected::default());
}

#[test]
fn who_works_with_layers_keeps_them_and_what_is_below() {
    let place = place();
    let snapshots = &place.store.snapshots;
    let base = snapshots.active(None).expect("a mount").commit().expect("a layer");
    let top = snapshots.active(Some(base.id())).expect("a mount").commit().expect("a layer");
    drop(base);
    assert!(collect(&place.store).expect("a round").layers.is_empty());
    let copy = top.clone();
    drop(top);
    assert!(collect(&place.store).expect("a round").layers.is_empty());
    let id = copy.id();
    drop(copy);
    assert_eq!(collect(&place.store).expect("a round").layers.len(), 2);
    assert!(snapshots.pin(id).is_err(), "it is gone, and says so");
}

#[test]
fn a_lease_holds_until_it_ends_or_expires() {
    let place = place();
    let store = &place.store;
    let digest = place.blob("leased", &[]);
    let expire = |text: &str| BTreeMap::from([(EXPIRE.to_owned(), text.to_owned())]);
    let content = Resource { kind: "content".to_owned(), id: digest.to_string() };
    for (id, labels) in [("live", expire("2999-01-01T00:00:00Z")), ("dead", expire("2001-01-01T00:00:00Z"))] {
        store.leases.create(NS, id, &labels).expect("a lease");
        store.leases.add(NS, id, &content).expect("held");
    }
    assert!(collect(store).expect("a round").blobs.is_empty());
    let left: Vec<String> = store.leases.list(NS).expect("list").into_iter().map(|lease| lease.id).collect();
    assert_eq!(left, ["live"]);
    store.leases.delete(NS, "live").expect("delete");
    assert_eq!(collect(store).expect("a round").blobs, [digest]);
    let unknown = store.leases.add(NS, "none", &content).expect_err("no such lease");
    assert_eq!(unknown.kind(), buildd_oci::ErrorKind::NotFound);
}

#[test]
fn an_active_snapshot_needs_an_owner() {
    let place = place();
    let store = &place.store;
    let scope = Scope::new(NS, "overlayfs").expect("a scope");
    let root = BTreeMap::from([("containerd.io/gc.root".to_owned(), "2026".to_owned())]);
    store.named_snapshots.prepare(&scope, "rooted", "", &root).expect("prepare");
    store.named_snapshots.prepare(&scope, "lost", "", &Labels::new()).expect("prepare");
    store.named_snapshots.prepare(&scope, "container's", "", &Labels::new()).expect("prepare");
    let record = Container {
        id: "c".to_owned(),
        snapshotter: "overlayfs".to_owned(),
        snapshot_key: "container's".to_owned(),
        ..Container::default()
    };
    store.containers.create(NS, "c", &record.encode_to_vec()).expect("a container");
    let collected = collect(store).expect("a round");
    assert_eq!(collected.uppers.len(), 1);
    let names: Vec<String> =
        store.named_snapshots.list(&scope).expect("list").into_iter().map(|one| one.name).collect();
    assert_eq!(names, ["container's", "rooted"]);
    assert_eq!(fs::read_dir(place.dir.path().join("named")).expect("uppers").count(), 2);
}

#[test]
fn a_blob_stays_as_long_as_any_namespace_has_it() {
    let place = place();
    let store = &place.store;
    let digest = place.blob("shared", &[]);
    let root = BTreeMap::from([("containerd.io/gc.root".to_owned(), "1".to_owned())]);
    store.content.put("other", &mut &b"shared"[..], &root).expect("a blob");
    assert!(collect(store).expect("a round").blobs.is_empty());
    assert!(store.content.info(NS, &digest).is_err() && store.content.info("other", &digest).is_ok());
    assert_eq!(place.files(), 1);
}

#[test]
fn an_operation_that_names_last_is_waited_for() {
    let place = place();
    let store = place.store.clone();
    let kept = place.store.gc_guard();
    let waiting = std::thread::spawn(move || collect(&store).expect("a round"));
    let digest = place.blob("about to be named", &[]);
    place.image("named", digest, &Labels::new());
    assert!(!waiting.is_finished());
    drop(kept);
    assert!(waiting.join().expect("no panic").blobs.is_empty());
}

#[test]
fn leases_of_ingests_become_leases_of_blobs() {
    let place = place();
    let leases = &place.store.leases;
    let ingest = Resource { kind: "ingests".to_owned(), id: "ref".to_owned() };
    let digest = Digest::of(b"x");
    let kind = |error: Error| error.kind();
    let gone = [
        leases.add(NS, "l", &ingest).map_err(kind),
        leases.remove(NS, "l", &ingest).map_err(kind),
        leases.resources(NS, "l").map(drop).map_err(kind),
        leases.commit(NS, "l", "ref", &digest).map_err(kind),
    ];
    assert_eq!(gone, [Err(buildd_oci::ErrorKind::NotFound); 4]);
    leases.create(NS, "l", &Labels::new()).expect("a lease");
    leases.add(NS, "l", &ingest).expect("held");
    leases.commit(NS, "l", "ref", &digest).expect("held");
    let kinds =
        || leases.resources(NS, "l").expect("a list").into_iter().map(|one| one.kind).collect::<Vec<_>>();
    assert_eq!(kinds(), ["content"]);
    place.blob("x", &[]);
    assert!(collect(&place.store).expect("a round").blobs.is_empty());
    place.store.content.delete(NS, &digest).expect("deleted by hand");
    assert!(kinds().is_empty(), "what comes again is not held by old leases");
}

#[test]
fn partial_blobs_go_when_they_are_old_and_nobody_writes_or_holds_them() {
    let place = place();
    let store = &place.store;
    for name in ["old", "held", "busy", "young"] {
        drop(store.content.writer(NS, name, 0, None).expect("an ingest"));
    }
    let long_ago = fs::FileTimes::new().set_modified(SystemTime::now() - 2 * INGEST_AGE);
    for entry in fs::read_dir(place.dir.path().join("content/ingest").join(NS)).expect("ingests").flatten() {
        let young = fs::read_to_string(entry.path().join("ref")).expect("a ref").ends_with("young");
        let data = fs::File::options().write(true).open(entry.path().join("data")).expect("data");
        data.set_times(if young { fs::FileTimes::new() } else { long_ago }).expect("a time");
    }
    store.leases.create(NS, "l", &Labels::new()).expect("a lease");
    let held = Resource { kind: "ingests".to_owned(), id: "held".to_owned() };
    store.leases.add(NS, "l", &held).expect("held");
    let _busy = store.content.writer(NS, "busy", 0, None).expect("a writer");
    collect(store).expect("a round");
    let mut left: Vec<String> =
        store.content.statuses(NS).expect("a list").into_iter().map(|status| status.name).collect();
    left.sort();
    assert_eq!(left, ["busy", "held", "young"]);
}

#[test]
fn f_21_rounds_beside_many_writers_take_nothing_that_is_leased_or_named() {
    const WRITERS: usize = 50;
    const TIMES: usize = 8;
    let place = place();
    let store = &place.store;
    let scope = Scope::new(NS, "overlayfs").expect("a scope");
    let one = |writer: usize, time: usize| {
        let text = format!("{writer} {time}");
        let digest = Digest::of(text.as_bytes());
        let lease = format!("lease {writer}");
        store.leases.create(NS, &lease, &Labels::new()).expect("a lease");
        let held = Resource { kind: "content".to_owned(), id: digest.to_string() };
        store.leases.add(NS, &lease, &held).expect("held before it comes");
        place.blob(&text, &[]);
        assert!(store.content.open_blob(&digest).is_ok(), "{text} is leased");
        let name = format!("image {writer}");
        place.image(&name, digest, &Labels::new());
        store.leases.delete(NS, &lease).expect("the image has it now");
        assert!(store.content.open_blob(&digest).is_ok(), "{text} is named");
        let step = store.snapshots.active(None).expect("a mount").commit().expect("a layer");
        assert!(store.snapshots.layers(step.id()).is_ok_and(|layers| layers.len() == 1), "{text} is held");
        let root = BTreeMap::from([("containerd.io/gc.root".to_owned(), "1".to_owned())]);
        store.named_snapshots.prepare(&scope, &name, "", &root).expect("an active one");
        assert!(store.named_snapshots.stat(&scope, &name).is_ok(), "{name} is a root");
        store.named_snapshots.remove(&scope, &name).expect("it goes");
        drop(step);
        assert!(store.images.get(NS, &name).is_ok_and(|image| image.target.digest == digest));
    };
    let mut rounds = 0;
    std::thread::scope(|scope| {
        let one = &one;
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| scope.spawn(move || (0..TIMES).for_each(|time| one(writer, time))))
            .collect();
        while writers.iter().any(|writer| !writer.is_finished()) {
            collect(store).expect("a round");
            rounds += 1;
        }
    });
    assert!(rounds > 2, "{rounds} rounds");
    collect(store).expect("a round");
    assert_eq!((place.files(), place.layers()), (WRITERS, 0), "what the last images name is all there is");
}
