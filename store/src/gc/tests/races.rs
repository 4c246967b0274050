//! What is done between the look of a round and its deletions wins, whatever it is.

use super::*;
use crate::{db::BATCH, gc::mark::Marking};

/// What there is before each race: a manifest that names a layer and a chain, and that nothing needs.
struct Scene {
    place: Place,
    scope: Scope,
    layer: Digest,
    config: Digest,
    manifest: Digest,
    chain: Digest,
}

const REF: &str = "containerd.io/gc.ref.content.x";

fn scene() -> Scene {
    let place = place();
    let store = &place.store;
    let held = store.snapshots.active(None).expect("a mount").commit().expect("a layer");
    let chain = Digest::of(b"chain");
    store.snapshots.set_chain_id(held.id(), &chain).expect("a name");
    let only = store.snapshots.layers(held.id()).expect("its layer")[0].id;
    store.snapshots.set_diff_id(only, &chain).expect("a chain of one");
    let layer = place.blob("layer", &[]);
    let config = place.blob("config", &[("containerd.io/gc.ref.snapshot.overlayfs", chain.to_string())]);
    let labels = [("containerd.io/gc.ref.content.l", layer.to_string()), (REF, config.to_string())];
    let manifest = place.blob("manifest", &labels);
    let scope = Scope::new(NS, "overlayfs").expect("a scope");
    store.leases.create(NS, "lease", &Labels::new()).expect("a lease");
    Scene { place, scope, layer, config, manifest, chain }
}

impl Scene {
    /// A round, with `meanwhile` between its look and its first batch.
    fn round(&self, meanwhile: impl Fn(&Self)) -> usize {
        let store = &self.place.store;
        let watch = store.db.watch().expect("notes");
        let now = SystemTime::now();
        let graph = store.db.view("look", |c| gather::gather(c, now)).expect("a graph");
        let mut sweep = Sweep { store, watch: &watch, marking: Marking::of(graph), now };
        let batches = order::batches(&sweep.marking, 1);
        meanwhile(self);
        for batch in batches {
            let gone = sweep.things(&batch).expect("a batch");
            store.content.remove_files(&gone.blobs).expect("files");
        }
        let marking = &sweep.marking;
        let unneeded = store.db.view("look", |c| Unneeded::find(c, |chain| marking.keeps_chain(chain)));
        let unneeded = unneeded.expect("stacks");
        sweep.stacks(&unneeded.stacks).expect("a batch");
        let layers = sweep.layers(&unneeded.layers).expect("a batch");
        store.snapshots.remove_layers(&layers).expect("files");
        self.place.files() + self.place.layers()
    }

    fn lease(&self, kind: &str, id: &Digest) {
        let held = Resource { kind: kind.to_owned(), id: id.to_string() };
        self.place.store.leases.add(NS, "lease", &held).expect("held");
    }

    fn label(&self, blob: &Digest, labels: &[(&str, &str)]) {
        let labels: Labels =
            labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let replace = |all: &mut Labels| -> std::result::Result<(), std::convert::Infallible> {
            *all = labels;
            Ok(())
        };
        drop(self.place.store.content.update_labels(NS, blob, replace).expect("labels"));
    }
}

/// A name, what is done, and how many files (blobs and layers) are there after the round.
type Case = (&'static str, fn(&Scene), usize);

const CASES: &[Case] = &[
    ("nothing", |_| {}, 0),
    ("the manifest is leased", |scene| scene.lease("content", &scene.manifest), 4),
    ("the layer is leased", |scene| scene.lease("content", &scene.layer), 1),
    ("the chain is leased", |scene| scene.lease("snapshots/overlayfs", &scene.chain), 1),
    ("an image names the manifest", |scene| scene.place.image("new", scene.manifest, &Labels::new()), 4),
    ("the config becomes a root", |scene| scene.label(&scene.config, &[("containerd.io/gc.root", "1")]), 1),
    (
        "a new blob names the manifest",
        |scene| {
            scene.place.blob("new", &[(REF, scene.manifest.to_string())]);
        },
        5,
    ),
    (
        "what was leased just now names another thing now",
        |scene| {
            scene.lease("content", &scene.layer);
            scene.label(&scene.layer, &[(REF, &scene.manifest.to_string())]);
        },
        4,
    ),
    (
        "the layer comes again",
        |scene| {
            scene.place.blob("layer", &[]);
        },
        1,
    ),
    (
        "somebody finds the manifest",
        |scene| drop(scene.place.store.content.info(NS, &scene.manifest).expect("it is there")),
        4,
    ),
    (
        "somebody looks for the layer's tar",
        |scene| drop(scene.place.store.content.of_tar(NS, &scene.layer).expect("it is there")),
        1,
    ),
    (
        "a container has a snapshot on the chain",
        |scene| {
            let store = &scene.place.store;
            let mounts =
                store.named_snapshots.prepare(&scene.scope, "c", &scene.chain.to_string(), &Labels::new());
            mounts.expect("an active one");
        },
        1,
    ),
    (
        "the lease ends, and another of its name holds the layer",
        |scene| {
            scene.lease("content", &scene.manifest);
            scene.place.store.leases.delete(NS, "lease").expect("it ends");
            scene.place.store.leases.create(NS, "lease", &Labels::new()).expect("a lease");
            scene.lease("content", &scene.layer);
        },
        4,
    ),
];

#[test]
fn what_is_leased_named_or_found_after_the_look_stays_whole() {
    for (name, meanwhile, left) in CASES {
        let scene = scene();
        assert_eq!(scene.round(meanwhile), *left, "{name}");
        let store = &scene.place.store;
        if store.content.info(NS, &scene.manifest).is_ok() {
            for blob in [scene.manifest, scene.config, scene.layer] {
                assert!(store.content.open_blob(&blob).is_ok(), "{name}: {blob}");
            }
            assert!(store.snapshots.by_chain_id(&scene.chain).expect("a look").is_some(), "{name}");
        }
    }
}

#[test]
fn who_holds_a_stack_or_saves_a_result_after_the_look_keeps_it() {
    let scene = scene();
    let store = &scene.place.store;
    let hold = store.snapshots.by_chain_id(&scene.chain).expect("a look").expect("it is there");
    scene.round(|_| {});
    assert_eq!(scene.place.layers(), 1, "it is held");
    let watch = store.db.watch().expect("notes");
    let mut sweep =
        Sweep { store, watch: &watch, marking: Marking::of(Graph::new()), now: SystemTime::now() };
    let unneeded = store.db.view("look", |c| Unneeded::find(c, |_| false)).expect("stacks");
    assert_eq!((unneeded.stacks.len(), unneeded.layers.len()), (1, 1));
    let above = store.snapshots.active(Some(hold.id())).expect("a mount").commit().expect("a layer");
    drop(hold);
    sweep.stacks(&unneeded.stacks).expect("a batch");
    assert!(sweep.layers(&unneeded.layers).expect("a batch").is_empty(), "another stands on it");
    assert_eq!(store.snapshots.layers(above.id()).expect("its layers").len(), 2);
}

#[test]
fn notes_end_with_their_watch_and_more_than_a_batch_of_them_is_taken_up() {
    let scene = scene();
    let watched = || {
        let sql = "SELECT count(*) FROM sqlite_temp_master WHERE type = 'trigger'";
        scene.place.store.db.write("look", |tx| tx.query_row(sql, [], |row| row.get::<_, usize>(0)))
    };
    let left = scene.round(|scene| {
        assert!(watched().expect("a count") > 0);
        for n in 0..2 * BATCH {
            let other = Digest::of(n.to_string().as_bytes());
            scene.lease("content", &other);
        }
        scene.lease("content", &scene.manifest);
    });
    assert_eq!(left, 4);
    assert_eq!(watched().expect("a count"), 0);
}
