//! Every kind of damage, planted in a copy of one store that has a bit of everything: what is found, what goes, and that the rest stays.

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
};

use buildd_api::containerd::containerd::services::containers::v1::Container;
use buildd_oci::{
    config::chain_ids,
    descriptor::Descriptor,
    digest::Digest,
    manifest::{Index, Manifest},
    media_type,
};
use prost::Message;
use rusqlite::Connection;

use super::{Class, Finding, Fsck};
use crate::{
    label::Labels,
    layer::{LARGE, LayerFormat, LayerId, tests::one_file},
    meta::lease::Resource,
    root::Store,
    snapshot::{named::Scope, tests::external::with_external_data},
};

mod external;

const NS: &str = "default";

/// What the store has in it, by the names that the table uses.
struct Known {
    dir: tempfile::TempDir,
    /// The blob whose only copy is layer 1, the blob of the second layer, config, manifest.
    low: Digest,
    high: Digest,
    config: Digest,
    manifest: Digest,
    chain: Vec<Digest>,
    ingest: String,
}

/// An image of two layer files, unpacked and named; a step's folder above them in the build cache; a bit of everything else.
fn known() -> Known {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open_with(dir.path(), LayerFormat::File).expect("a store");
    let put = |bytes: &[u8]| store.content.put(NS, &mut &*bytes, &Labels::new()).expect("a blob").0;
    let (low_tar, high_tar) = (one_file("low"), one_file("high"));
    let (low, high) = (put(&low_tar), put(b"the second layer, compressed"));
    let diff_ids = [low, Digest::of(&high_tar)];
    let chain = chain_ids(&diff_ids);
    let (first, _) = store.snapshots.apply(None, &mut low_tar.as_slice(), Some(low)).expect("a layer");
    let (second, _) =
        store.snapshots.apply(Some(first.id()), &mut high_tar.as_slice(), None).expect("a layer");
    store.snapshots.set_chain_id(first.id(), &chain[0]).expect("a name");
    store.snapshots.set_chain_id(second.id(), &chain[1]).expect("a name");
    let step = store.snapshots.active(Some(second.id())).expect("a mount");
    fs::write(step.path().join("made"), vec![7; 9000]).expect("a file");
    let step = step.commit().expect("a layer");
    store.snapshots.layer_size(LayerId::of_row(3)).expect("a size");
    store.snapshots.make_durable(step.id()).expect("a sync");
    store.content.leave_to_layer(&low, LayerId::of_row(1)).expect("one copy");
    let descriptor = |kind: &str, digest, size: usize| Descriptor::new(kind, digest, size as u64);
    let config = put(b"{}");
    let layers = vec![
        descriptor(media_type::OCI_LAYER, low, low_tar.len()),
        descriptor(media_type::OCI_LAYER, high, 28),
    ];
    let document =
        Manifest::new(media_type::OCI_MANIFEST, descriptor(media_type::OCI_CONFIG, config, 2), layers)
            .to_bytes();
    let manifest = put(&document);
    // Another platform, which never came.
    let absent = descriptor(media_type::OCI_MANIFEST, Digest::of(b"another platform"), 5);
    let index =
        Index::new(vec![absent, descriptor(media_type::OCI_MANIFEST, manifest, document.len())]).to_bytes();
    let target = descriptor(media_type::OCI_INDEX, put(&index), index.len());
    store.images.put(NS, "image", &target, &Labels::new()).expect("an image");
    let other = put(b"not a document");
    store.images.put(NS, "other", &descriptor("", other, 14), &Labels::new()).expect("an image");
    let scope = Scope::new(NS, "overlayfs").expect("a scope");
    store.named_snapshots.adopt(&scope, second.id()).expect("names");
    store.named_snapshots.prepare(&scope, "work", "", &Labels::new()).expect("an active one");
    store.leases.create(NS, "lease", &Labels::new()).expect("a lease");
    let held = Resource { kind: "content".to_owned(), id: other.to_string() };
    store.leases.add(NS, "lease", &held).expect("held");
    store.namespaces.create(NS, &Labels::new()).expect("a namespace");
    let record = Container { id: "container".to_owned(), ..Container::default() }.encode_to_vec();
    store.containers.create(NS, "container", &record).expect("a container");
    drop(store.cache_mounts.enter("mount").expect("a cache mount"));
    fs::create_dir_all(store.cache_mounts.path("mount")).expect("its folder");
    drop(store.content.writer(NS, "partial", 9, None).expect("an ingest"));
    let key = Digest::of(b"key");
    let remember = format!(
        "INSERT INTO results (key, exec, snapshot, description, created, used) VALUES ('{key}', '{key}', 3, 'RUN', 1, 1);
         INSERT INTO results (key, exec, snapshot, description, created, used) VALUES ('{key}', '{key}', 0, 'empty', 1, 1);
         INSERT INTO results (key, exec, snapshot, description, created, used) VALUES ('{key}', '{key}', NULL, 'memo', 1, 1);
         INSERT INTO contents VALUES (1, '/', '{key}');
         INSERT INTO aliases VALUES ('{key}', '{key}');
         INSERT INTO records VALUES ('{key}', '{{}}');
         INSERT INTO remote_files VALUES ('url', '', '', '', '{key}', 1);"
    );
    store.db.write("remember", |tx| tx.execute_batch(&remember)).expect("rows");
    let (tree, copy) = with_external_data(&store.snapshots, &vec![7; LARGE as usize]);
    store.snapshots.make_durable(copy.id()).expect("a sync");
    drop((first, second, step, tree, copy));
    Known { dir, low, high, config, manifest, chain, ingest: Digest::of(b"partial").hex() }
}

impl Known {
    fn copy(&self) -> tempfile::TempDir {
        let copy = tempfile::tempdir().expect("a folder");
        let from = format!("{}/.", self.dir.path().display());
        let copied = Command::new("cp").args(["-a", &from]).arg(copy.path()).status().expect("cp");
        assert!(copied.success());
        copy
    }

    /// The names of the table in place of digests.
    fn shown(&self, text: &str) -> String {
        let names = [
            (self.low, "LOW"),
            (self.high, "HIGH"),
            (self.config, "CONFIG"),
            (self.manifest, "MANIFEST"),
            (self.chain[1], "CHAIN2"),
            (Digest::of(b"key"), "KEY"),
        ];
        let text = text.replace(&self.ingest, "INGEST");
        names.iter().fold(text, |text, (digest, name)| text.replace(&digest.to_string(), name))
    }

    fn subjects(&self, findings: &[Finding]) -> Vec<String> {
        let mut all: Vec<String> = findings
            .iter()
            .map(|finding| {
                format!("{} {} {}", finding.class.word(), finding.what, self.shown(&finding.subject))
            })
            .collect();
        all.sort();
        all
    }
}

fn sql(root: &Path, text: &str) {
    let connection = Connection::open(root.join("buildd.db")).expect("the database");
    connection.execute_batch(&format!("PRAGMA foreign_keys = OFF; {text}")).expect("planted");
}

fn flip(path: &Path, at: u64) {
    let file = fs::File::options().read(true).write(true).open(path).expect("a file");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("a byte");
    file.write_all_at(&[byte[0] ^ 1], at).expect("a flipped byte");
}

fn blob(root: &Path, digest: &Digest) -> PathBuf {
    root.join("content/blobs/sha256").join(digest.hex())
}

/// Plants in a copy; what must be found, and nothing else; after a repair it must be clean, open, and still have the rest.
#[track_caller]
fn planted(known: &Known, name: &str, plant: impl Fn(&Path), expected: &[&str]) {
    let copy = known.copy();
    let root = copy.path();
    plant(root);
    let fsck = Fsck::open(root).expect(name);
    let mut expected: Vec<String> = expected.iter().map(|text| (*text).to_owned()).collect();
    expected.sort();
    let found = fsck.check().expect(name);
    assert_eq!(known.subjects(&found), expected, "{name}: {found:#?}");
    let mended = fsck.repair().expect(name);
    let mut more = known.subjects(&mended);
    expected.iter().for_each(|text| drop(more.remove(more.iter().position(|one| one == text).expect(text))));
    // What nothing has any more, once that is gone.
    assert!(more.iter().all(|text| text.starts_with("leftover")), "{name}: also mended: {more:?}");
    assert_eq!(
        known.subjects(&fsck.check().expect(name)),
        Vec::<String>::new(),
        "{name}: a second run is clean"
    );
    drop(fsck);
    let store = Store::open(root).expect(name);
    assert!(store.images.get(NS, "other").is_ok(), "{name}: what is not damaged stays");
    assert_eq!(
        store.images.get(NS, "image").is_ok(),
        !expected.iter().any(|text| text.contains(" image ")),
        "{name}"
    );
    drop(store);
    let after = Fsck::open(root).expect(name).check().expect(name);
    assert_eq!(known.subjects(&after), Vec::<String>::new(), "{name}: a start changes nothing");
}

/// All that stands on layer `from` and above.
const STACK: [&str; 9] = [
    "follows snapshot 1",
    "follows named snapshot default overlayfs LOW",
    "follows blob LOW",
    "follows image default image",
    "follows snapshot 2",
    "follows named snapshot default overlayfs CHAIN2",
    "follows snapshot 3",
    "follows result 1",
    "follows content digest 1 \"/\"",
];

#[test]
fn an_undamaged_store_has_no_finding() {
    let known = known();
    assert_eq!(
        known.subjects(&Fsck::open(known.dir.path()).expect("a root").check().expect("a check")),
        Vec::<String>::new()
    );
}

#[test]
fn damaged_blobs_and_images_are_found_and_go_with_what_needs_them() {
    let known = &known();
    let image = "follows image default image";
    let blobs = [(known.high, "HIGH"), (known.config, "CONFIG"), (known.manifest, "MANIFEST")];
    for (digest, name) in blobs {
        let found = [format!("damage blob {name}"), image.to_owned()];
        let found: Vec<&str> = found.iter().map(String::as_str).collect();
        planted(known, "a flipped bit", |root| flip(&blob(root, &digest), 1), &found);
        planted(known, "a missing file", |root| fs::remove_file(blob(root, &digest)).expect("gone"), &found);
        let cut = |root: &Path| fs::write(blob(root, &digest), "").expect("cut off");
        planted(known, "an empty file", cut, &found);
    }
    let row = format!("damage blob default {}", "HIGH");
    let update = |set: &str| format!("UPDATE blobs SET {set} WHERE digest = '{}'", known.high);
    planted(known, "a wrong size", |root| sql(root, &update("size = 3")), &[&row, image]);
    planted(known, "a size of text", |root| sql(root, &update("size = 'x'")), &[&row, image]);
    planted(known, "wrong labels", |root| sql(root, &update("labels = '[1]'")), &[&row, image]);
    let bad = "INSERT INTO blobs VALUES ('default', 'md5:1', 1, '{}', 1, 1)";
    planted(known, "no digest", |root| sql(root, bad), &["damage blob default md5:1"]);
    let gone = format!("DELETE FROM blobs WHERE digest = '{}'", Digest::of(b"not a document"));
    let images = [
        ("a broken target", "UPDATE images SET target = '{' WHERE name = 'image'"),
        ("broken labels", "UPDATE images SET labels = '' WHERE name = 'image'"),
    ];
    for (name, text) in images {
        planted(known, name, |root| sql(root, text), &["damage image default image"]);
    }
    let copy = known.copy();
    sql(copy.path(), &gone);
    let found = Fsck::open(copy.path()).expect("a root").check().expect("a check");
    let stray = format!("leftover file content/blobs/sha256/{}", Digest::of(b"not a document").hex());
    assert_eq!(known.subjects(&found), ["damage image default other".to_owned(), stray]);
}

#[test]
fn damaged_layers_take_all_above_them_along() {
    let known = &known();
    let mut all = vec!["damage layer 1"];
    all.extend(STACK);
    let layer = |number: u8| move |root: &Path| root.join("layers").join(number.to_string());
    let low = layer(1);
    planted(known, "a flipped bit in its tar", |root| flip(&low(root), 4096 + 513), &all);
    planted(
        known,
        "a flipped bit in its index",
        |root| {
            let end = fs::metadata(low(root)).expect("a layer").len();
            flip(&low(root), end - 20);
        },
        &all,
    );
    planted(known, "a flipped bit in its superblock", |root| flip(&low(root), 1030), &all);
    planted(known, "a flipped bit in its head", |root| flip(&low(root), 2), &all);
    planted(known, "it is gone", |root| fs::remove_file(low(root)).expect("gone"), &all);
    planted(known, "it is hollow", |root| fs::write(low(root), "").expect("cut off"), &all);
    planted(known, "no digest", |root| sql(root, "UPDATE layers SET diff_id = 'x' WHERE id = 1"), &{
        let mut all = all.clone();
        all.retain(|text| *text != "follows blob LOW");
        all.push("damage blob LOW");
        all
    });
    let top = ["damage layer 3", "follows snapshot 3", "follows result 1", "follows content digest 1 \"/\""];
    let folder = layer(3);
    planted(known, "a folder is gone", |root| fs::remove_dir_all(folder(root)).expect("gone"), &top);
    planted(
        known,
        "a folder is hollow",
        |root| fs::remove_file(folder(root).join("made")).expect("gone"),
        &top,
    );
    for (name, set) in
        [("flags", "durable = 7"), ("boot", "boot = ''"), ("size", "size = -1"), ("blob", "blob = 1")]
    {
        let text = format!("UPDATE layers SET {set} WHERE id = 3");
        planted(known, name, |root| sql(root, &text), &top);
    }
    planted(
        known,
        "a copy that is not durable",
        |root| sql(root, "UPDATE layers SET durable = 0 WHERE id = 1"),
        &{
            let mut all = STACK.to_vec();
            all.retain(|text| !["follows snapshot 1", "follows blob LOW"].contains(text));
            all.extend(["damage snapshot 1", "damage blob LOW"]);
            all
        },
    );
}

#[test]
fn damaged_snapshots_and_names_are_found() {
    let known = &known();
    let top = ["damage snapshot 3", "follows result 1", "follows content digest 1 \"/\""];
    for (name, set) in [
        ("no parent", "parent = 77"),
        ("a circle", "parent = 3"),
        ("no layer", "layer = 77"),
        ("a layer of text", "layer = 'x'"),
        ("no chain id", "chain_id = 'x'"),
        ("flags", "durable = NULL"),
    ] {
        let text = format!("UPDATE snapshots SET {set} WHERE id = 3");
        // What nothing has any more goes too.
        let layer = matches!(name, "no layer" | "a layer of text");
        let expected: Vec<&str> = top.into_iter().chain(layer.then_some("leftover layer 3")).collect();
        let text = if name == "flags" { "UPDATE snapshots SET durable = 7 WHERE id = 3" } else { &text };
        planted(known, name, |root| sql(root, text), &expected);
    }
    let wrong = format!("UPDATE snapshots SET chain_id = '{}' WHERE id = 2", Digest::of(b"x"));
    let above =
        ["damage snapshot 2", "follows named snapshot default overlayfs CHAIN2", "follows snapshot 3"];
    let above: Vec<&str> = above.into_iter().chain(top[1..].iter().copied()).collect();
    planted(known, "a wrong chain id", |root| sql(root, &wrong), &above);
    let first = |set: &str| format!("UPDATE named_snapshots SET {set} WHERE name = '{}'", known.chain[0]);
    let both =
        ["damage named snapshot default overlayfs LOW", "follows named snapshot default overlayfs CHAIN2"];
    for set in ["kind = 'x'", "snapshot = NULL", "snapshot = 77", "labels = 'x'"] {
        planted(known, set, |root| sql(root, &first(set)), &both);
    }
    let child = "damage named snapshot default overlayfs CHAIN2";
    let gone = format!("DELETE FROM named_snapshots WHERE name = '{}'", known.chain[0]);
    planted(known, "a parent without a name", |root| sql(root, &gone), &[child]);
    let work = "damage named snapshot default overlayfs work";
    let folder = |root: &Path| fs::remove_dir_all(root.join("named/1/fs")).expect("gone");
    planted(known, "an upper without a folder", folder, &["leftover named snapshot default overlayfs work"]);
    let twice = "INSERT INTO named_snapshots SELECT ns, 'native', name, kind, parent, snapshot, upper, labels, created, updated
        FROM named_snapshots WHERE name = 'work'";
    let both = [work, "damage named snapshot default native work"];
    planted(known, "one folder of two", |root| sql(root, twice), &both);
    planted(
        known,
        "a snapshotter that is none",
        |root| {
            sql(root, "UPDATE named_snapshots SET snapshotter = 'zfs' WHERE name = 'work'");
        },
        &["damage named snapshot default zfs work"],
    );
}

#[test]
fn damaged_memory_of_the_cache_is_found() {
    let known = &known();
    let cases = [
        ("UPDATE results SET key = 'x' WHERE id = 2", vec!["damage result 2"]),
        ("UPDATE results SET kind = 'x' WHERE id = 3", vec!["damage result 3"]),
        ("UPDATE results SET uses = -1 WHERE id = 3", vec!["damage result 3"]),
        (
            "UPDATE results SET snapshot = 77 WHERE id = 1",
            vec!["damage result 1", "follows content digest 1 \"/\""],
        ),
        ("UPDATE contents SET digest = 'x'", vec!["damage content digest 1 \"/\""]),
        ("INSERT INTO contents SELECT 99, '/', digest FROM contents", vec!["damage content digest 99 \"/\""]),
        ("UPDATE aliases SET canonical = 'x'", vec!["damage alias KEY"]),
        ("UPDATE records SET record = '{'", vec!["damage record KEY"]),
        ("UPDATE remote_files SET digest = ''", vec!["damage remote file url"]),
        ("INSERT INTO cache_mounts VALUES ('../x', 'x', 1, 1, 1)", vec!["damage cache mount ../x"]),
        ("UPDATE leases SET labels = 'x'", vec!["damage lease default lease"]),
        ("UPDATE containers SET record = 'x'", vec!["damage container default container"]),
        ("UPDATE namespaces SET labels = 'x'", vec!["damage namespace default"]),
        ("INSERT INTO namespaces VALUES ('../x', '{}')", vec!["damage namespace ../x"]),
        (
            "INSERT INTO lease_resources VALUES ('default', 'none', 'content', 'x')",
            vec!["damage leased thing default x"],
        ),
        ("UPDATE sqlite_sequence SET seq = 1 WHERE name = 'layers'", vec!["damage counter layers"]),
        ("DELETE FROM sqlite_sequence WHERE name = 'snapshots'", vec!["damage counter snapshots"]),
    ];
    for (text, expected) in cases {
        planted(known, text, |root| sql(root, text), &expected);
    }
}

#[test]
fn strays_and_broken_ingests_are_found() {
    let known = &known();
    for stray in [
        "layers/77",
        "layers/x",
        "layers/77.data",
        "layers/1.data",
        "named/77",
        "cache-mounts/x",
        "content/x",
        "content/blobs/md5",
        "content/blobs/sha256/x",
        "content/ingest/.x",
    ] {
        let expected = format!("leftover file {stray}");
        planted(known, stray, |root| fs::write(root.join(stray), "x").expect("a file"), &[&expected]);
        planted(
            known,
            stray,
            |root| fs::create_dir_all(root.join(stray).join("below")).expect("a folder"),
            &[&expected],
        );
    }
    let ingest = |root: &Path| root.join("content/ingest/default").join(&known.ingest);
    let broken = ["leftover ingest content/ingest/default/INGEST"];
    for (name, text) in
        [("empty", ""), ("no size", "x\npartial"), ("another's", "9\nother"), ("cut off", "9")]
    {
        planted(known, name, |root| fs::write(ingest(root).join("ref"), text).expect("a ref"), &broken);
    }
    planted(known, "no ref", |root| fs::remove_file(ingest(root).join("ref")).expect("gone"), &broken);
    planted(known, "no data", |root| fs::remove_file(ingest(root).join("data")).expect("gone"), &broken);
    planted(
        known,
        "too long",
        |root| fs::write(ingest(root).join("data"), "0123456789").expect("data"),
        &["damage ingest content/ingest/default/INGEST"],
    );
}

#[test]
fn what_a_crash_may_leave_is_no_damage() {
    let known = &known();
    let reserved = "INSERT INTO layers (size, boot, durable) VALUES (0, 'b', 0)";
    planted(known, "a layer that was reserved", |root| sql(root, reserved), &["leftover layer 6"]);
    let rebooted = "UPDATE snapshots SET boot = 'earlier', durable = 0 WHERE id = 3; UPDATE layers SET durable = 0 WHERE id = 3";
    let left =
        ["leftover snapshot 3", "leftover layer 3", "leftover result 1", "leftover content digest 1 \"/\""];
    planted(known, "a step that was not synced", |root| sql(root, rebooted), &left);
}

#[test]
fn a_damaged_database_gives_what_can_be_read() {
    let known = known();
    let copy = known.copy();
    let root = copy.path();
    sql(root, "PRAGMA wal_checkpoint(TRUNCATE)");
    let page: u64 = {
        let connection = Connection::open(root.join("buildd.db")).expect("the database");
        let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'aliases'";
        connection.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("a page").unsigned_abs()
    };
    let file = fs::File::options().write(true).open(root.join("buildd.db")).expect("the database");
    file.write_all_at(&[0; 4096], (page - 1) * 4096).expect("a zeroed page");
    let fsck = Fsck::open(root).expect("a root");
    let found = fsck.check().expect("a check");
    assert_eq!(
        found.iter().map(|finding| (finding.class, finding.what)).collect::<Vec<_>>(),
        [(Class::Damage, "database")]
    );
    fsck.repair().expect("a repair");
    assert!(fsck.check().expect("a check").is_empty());
    drop(fsck);
    let store = Store::open(root).expect("a store");
    assert!(store.images.get(NS, "image").is_ok(), "what could be read is there");
    assert!(root.join("buildd.db.damaged").exists(), "and the damaged file is kept");
}

#[test]
fn a_root_without_a_database_or_with_a_daemon_is_left_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let missing = Fsck::open(dir.path()).expect_err("no root");
    assert!(missing.to_string().contains("buildd.db"), "{missing}");
    assert!(Fsck::open(&dir.path().join("none")).is_err());
    assert_eq!(fs::read_dir(dir.path()).expect("the folder").count(), 0, "nothing is made");
    let store = Store::open(dir.path()).expect("a store");
    let used = Fsck::open(dir.path()).expect_err("in use");
    assert!(used.to_string().contains(&format!("process {}", std::process::id())), "{used}");
    drop(store);
    sql(dir.path(), "PRAGMA user_version = 3");
    let older = Fsck::open(dir.path()).expect("a root").check().expect_err("an older schema version");
    assert!(older.to_string().contains("start buildd on it once"), "{older}");
}
