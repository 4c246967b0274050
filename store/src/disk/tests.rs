//! Faults of the disk, F-01 to F-09 of the specification: every step fails once, and the power is cut at every step.

use std::{
    fs, io,
    os::unix::fs::FileExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use buildd_oci::{
    ErrorKind,
    descriptor::Descriptor,
    digest::{Digest, Digester},
};
use rusqlite::Connection;

use super::{
    Step,
    replay::Record,
    watch::{Watch, watch},
};
use crate::{
    fsck::Fsck,
    gc::collect,
    label::Labels,
    layer::{LARGE, LayerFormat, LayerId, open_tar, tests::one_file},
    meta::lease::Resource,
    root::Store,
    snapshot::{named::Scope, tests::external::with_external_data},
};

mod full;

const NS: &str = "default";
/// In memory, so that a thousand states take seconds. What counts is what is recorded, not what this file system does. Layers are folders
/// there, for the kernel mounts no layer file of it.
const MEMORY: &str = "/dev/shm";

fn place(form: LayerFormat) -> tempfile::TempDir {
    let place = if form == LayerFormat::File { std::env::temp_dir() } else { MEMORY.into() };
    tempfile::tempdir_in(place).expect("a folder")
}

fn open(root: &Path) -> Arc<Store> {
    Store::open(root).expect("a store")
}

fn descriptor(digest: Digest) -> Descriptor {
    Descriptor::new("application/octet-stream", digest, 1)
}

fn rooted() -> Labels {
    Labels::from([("containerd.io/gc.root".to_owned(), "1".to_owned())])
}

fn root(labels: &mut Labels) -> crate::error::Result<()> {
    *labels = rooted();
    Ok(())
}

/// Whether something that was acknowledged is there.
type Holds = Box<dyn Fn(&Store) -> bool>;
/// Something that was acknowledged, and holds from one moment to another.
type Promise = (usize, usize, &'static str, Holds);

/// A piece of work: what it promises it tells through `acknowledged`, what it takes back through `withdrawn`.
struct Work {
    form: LayerFormat,
    record: Record,
    promises: Vec<Promise>,
}

impl Work {
    fn acknowledged(&mut self, what: &'static str, holds: impl Fn(&Store) -> bool + 'static) {
        self.promises.push((self.record.now(), usize::MAX, what, Box::new(holds)));
    }

    fn withdrawn(&mut self, what: &str) {
        let now = self.record.now();
        let taken = self.promises.iter_mut().find(|promise| promise.2 == what).expect("a promise");
        taken.1 = now;
    }

    /// Cuts the power at every moment, in every way, and looks at what a start makes of it.
    fn check(&self) {
        let place = place(self.form);
        let mut states = 0;
        self.record.cuts(place.path(), |cut| {
            states += 1;
            rebooted(cut.dir.path());
            let store = Store::open_with(cut.dir.path(), self.form)
                .unwrap_or_else(|error| panic!("{}: {error:?}", cut.shown));
            for (from, to, what, holds) in &self.promises {
                assert!(!(*from..*to).contains(&cut.at) || holds(&store), "{}: lost: {what}", cut.shown);
            }
            drop(store);
            let found = Fsck::open(cut.dir.path()).and_then(|fsck| fsck.check());
            let found = found.unwrap_or_else(|error| panic!("{}: {error:?}", cut.shown));
            assert!(found.is_empty(), "{}: {found:#?}", cut.shown);
        });
        assert!(states > 50, "{states} states");
    }
}

/// Lets the rows be of an earlier run of the machine.
fn rebooted(root: &Path) {
    let connection = Connection::open(root.join("buildd.db")).expect("the database");
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema WHERE name IN ('layers', 'snapshots')", [], |row| {
            row.get(0)
        })
        .expect("a count");
    if tables == 2 {
        let sql = "UPDATE layers SET boot = 'earlier'; UPDATE snapshots SET boot = 'earlier'";
        connection.execute_batch(sql).expect("an earlier boot");
    }
}

/// Cuts the power all through `work` on a fresh store.
fn cut_through(form: LayerFormat, work: impl FnOnce(&Store, &mut Work)) {
    let dir = place(form);
    let store = Store::open_with(dir.path(), form).expect("a store");
    let mut all = Work { form, record: Record::begin(dir.path()), promises: Vec::new() };
    work(&store, &mut all);
    all.check();
}

fn has_blob(digest: Digest) -> impl Fn(&Store) -> bool {
    move |store| {
        let Ok(mut blob) = store.content.open_blob(&digest) else { return false };
        let mut digester = digest.algorithm().digester();
        io::copy(&mut blob, &mut digester).is_ok()
            && digester.finish() == digest
            && store.content.info(NS, &digest).is_ok()
    }
}

#[test]
fn f_03_a_power_cut_takes_nothing_that_a_layer_borrows() {
    cut_through(LayerFormat::File, |store, work| {
        let (tree, copy) = with_external_data(&store.snapshots, &vec![7; LARGE as usize]);
        let layer = store.snapshots.layers(copy.id()).expect("layers").pop().expect("one");
        let diff_id = layer.diff_id.expect("known");
        store.snapshots.make_durable(copy.id()).expect("a sync");
        let id = copy.id().number();
        let whole = move |store: &Store| {
            let kept = store.snapshots.by_number(id).ok().flatten().is_some();
            let mut digester = Digester::default();
            let tar = open_tar(&store.snapshots.stored(layer.id)).ok().flatten();
            kept && tar.is_some_and(|mut tar| io::copy(&mut tar, &mut digester).is_ok())
                && digester.finish() == diff_id
        };
        work.acknowledged("a layer that borrows", whole);
        let gone = store.snapshots.layers(tree.id()).expect("layers").pop().expect("one").id;
        let sql = format!("DELETE FROM snapshots WHERE id = {}", tree.id().number());
        store.db.write_durable("forget the client's", |tx| tx.execute_batch(&sql)).expect("rows");
        store.snapshots.remove_layers(&[gone]).expect("removed");
        drop((tree, copy));
    });
}

#[test]
fn f_03_a_power_cut_takes_no_blob_image_or_lease_that_was_acknowledged() {
    cut_through(LayerFormat::Directory, |store, work| {
        let first = store.content.put(NS, &mut &b"first"[..], &Labels::new()).expect("a blob").0;
        work.acknowledged("a blob", has_blob(first));
        store.images.put(NS, "image", &descriptor(first), &Labels::new()).expect("an image");
        work.acknowledged("an image", |store| store.images.get(NS, "image").is_ok());
        let mut writer = store.content.writer(NS, "upload", 6, None).expect("an ingest");
        writer.write(b"sec").expect("bytes");
        drop(writer);
        let mut writer = store.content.writer(NS, "upload", 6, None).expect("it is resumed");
        writer.write(b"ond").expect("bytes");
        let second = writer.commit(6, None, &Labels::new()).expect("a blob");
        work.acknowledged("a resumed blob", has_blob(second));
        store.leases.create(NS, "lease", &Labels::new()).expect("a lease");
        work.acknowledged("a lease", |store| store.leases.list(NS).is_ok_and(|all| all.len() == 1));
        store.images.put(NS, "image", &descriptor(second), &Labels::new()).expect("it moves");
        work.acknowledged("a moved tag", move |store| {
            store.images.get(NS, "image").is_ok_and(|image| image.target.digest == second)
        });
    });
}

#[test]
fn f_04_between_data_rename_and_row_there_is_a_blob_or_none() {
    cut_through(LayerFormat::Directory, |store, work| {
        let adopted = store.content.put("other", &mut &b"shared"[..], &Labels::new()).expect("a blob").0;
        store.content.adopt(NS, &adopted, 6, &Labels::new()).expect("a row");
        work.acknowledged("an adopted blob", has_blob(adopted));
        store.content.delete("other", &adopted).expect("deleted elsewhere");
        work.withdrawn("an adopted blob");
        store.content.delete(NS, &adopted).expect("deleted");
        work.acknowledged("its deletion", move |store| store.content.open_blob(&adopted).is_err());
        work.withdrawn("its deletion");
        store.content.put(NS, &mut &b"shared"[..], &Labels::new()).expect("it comes again");
        work.acknowledged("the same bytes again", has_blob(adopted));
    });
}

#[test]
fn f_03_a_committed_snapshot_is_never_hollow() {
    cut_through(LayerFormat::File, |store, work| {
        let (low_tar, snapshots) = (one_file("low"), &store.snapshots);
        let low = store.content.put(NS, &mut low_tar.as_slice(), &rooted()).expect("a blob").0;
        let (first, _) = snapshots.apply(None, &mut low_tar.as_slice(), Some(low)).expect("a layer");
        let chain = low;
        snapshots.set_chain_id(first.id(), &chain).expect("a name");
        let step = snapshots.active(Some(first.id())).expect("a mount");
        std::fs::write(step.path().join("made"), "by a step").expect("a file");
        let step = step.commit().expect("a layer");
        snapshots.make_durable(first.id()).expect("a sync of files");
        work.acknowledged("an unpacked layer", move |store| {
            store.snapshots.by_chain_id(&chain).is_ok_and(|found| found.is_some())
        });
        store.content.leave_to_layer(&low, LayerId::of_row(1)).expect("one copy");
        work.acknowledged("the only copy of a blob", has_blob(low));
        snapshots.make_durable(step.id()).expect("a sync of all");
        let id = step.id();
        work.acknowledged("a step", move |store| {
            let Ok(view) = store.snapshots.view(Some(id)) else { return false };
            let read = |name: &str| std::fs::read_to_string(view.path().join(name)).unwrap_or_default();
            read("made") == "by a step" && read("low") == "low"
        });
    });
}

#[test]
fn f_03_a_clients_snapshot_is_whole_once_it_is_committed() {
    cut_through(LayerFormat::Directory, |store, work| {
        let scope = Scope::new(NS, "overlayfs").expect("a scope");
        let names = &store.named_snapshots;
        let mounts = names.prepare(&scope, "work", "", &rooted()).expect("an active one");
        std::fs::write(Path::new(&mounts[0].source).join("file"), "bytes").expect("a file");
        names.commit(&scope, "committed", "work", &rooted()).expect("a commit");
        let there = scope.clone();
        work.acknowledged("a committed snapshot", move |store| {
            let Ok(view) = store.named_snapshots.view(&there, "look", "committed", &Labels::new()) else {
                return false;
            };
            std::fs::read_to_string(Path::new(&view[0].source).join("file")).is_ok_and(|text| text == "bytes")
        });
        names.prepare(&scope, "more", "", &rooted()).expect("an active one");
        names.remove(&scope, "more").expect("it goes");
        work.withdrawn("a committed snapshot");
        names.remove(&scope, "committed").expect("it goes");
        work.acknowledged("its removal", move |store| {
            store.named_snapshots.list(&scope).is_ok_and(|all| all.is_empty())
        });
    });
}

#[test]
fn f_04_a_collection_that_is_cut_off_takes_only_what_nothing_needs() {
    cut_through(LayerFormat::Directory, |store, work| {
        let [kept, leased, lost] = ["kept", "leased", "lost"]
            .map(|text| store.content.put(NS, &mut text.as_bytes(), &Labels::new()).expect("a blob").0);
        store.images.put(NS, "image", &descriptor(kept), &Labels::new()).expect("an image");
        store.leases.create(NS, "lease", &Labels::new()).expect("a lease");
        let held = Resource { kind: "content".to_owned(), id: leased.to_string() };
        store.leases.add(NS, "lease", &held).expect("held");
        drop(store.snapshots.apply(None, &mut one_file("nobody's").as_slice(), None).expect("a layer"));
        work.acknowledged("a blob of an image", has_blob(kept));
        collect(store).expect("a round");
        work.acknowledged("a leased blob", has_blob(leased));
        work.acknowledged("what was collected", move |store| store.content.open_blob(&lost).is_err());
        store.images.delete(NS, "image", None).expect("it goes");
        work.withdrawn("a blob of an image");
        collect(store).expect("a round");
    });
}

/// Lets one step fail, as a broken disk does.
struct Fail {
    /// How many more steps of the kind are done before.
    left: AtomicUsize,
    only: Option<Step>,
}

impl Fail {
    fn at(number: usize, only: Option<Step>) -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(number), only })
    }

    fn failed(&self) -> bool {
        self.left.load(Ordering::SeqCst) == usize::MAX
    }
}

impl Watch for Fail {
    fn before(&self, step: Step, _path: &Path) -> io::Result<()> {
        if self.failed() || self.only.is_some_and(|only| only != step) {
            return Ok(());
        }
        match self.left.fetch_sub(1, Ordering::SeqCst) {
            0 => Err(io::Error::from_raw_os_error(libc::EIO)),
            _ => Ok(()),
        }
    }
}

/// Some of everything; what succeeded is promised.
fn mixed_work(store: &Store) -> Vec<(&'static str, Holds)> {
    let mut promises: Vec<(&'static str, Holds)> = Vec::new();
    if let Ok((digest, _)) = store.content.put(NS, &mut &b"blob"[..], &rooted()) {
        promises.push(("a blob", Box::new(has_blob(digest))));
        if store.images.put(NS, "image", &descriptor(digest), &Labels::new()).is_ok() {
            promises.push(("an image", Box::new(|store| store.images.get(NS, "image").is_ok())));
        }
    }
    if store.leases.create(NS, "lease", &Labels::new()).is_ok() {
        promises.push(("a lease", Box::new(|store| store.leases.list(NS).is_ok_and(|all| all.len() == 1))));
    }
    let (chain, bytes) = (Digest::of(&one_file("layer")), one_file("layer"));
    let layer = store.snapshots.apply(None, &mut bytes.as_slice(), None).and_then(|(held, _)| {
        store.snapshots.set_chain_id(held.id(), &chain)?;
        store.snapshots.make_durable(held.id())
    });
    let scope = Scope::new(NS, "overlayfs").expect("a scope");
    if layer.is_ok() && store.named_snapshots.update_labels(&scope, &chain.to_string(), root).is_ok() {
        promises.push((
            "a layer",
            Box::new(move |store| {
                store
                    .named_snapshots
                    .list(&scope)
                    .is_ok_and(|all| all.iter().any(|one| one.name == chain.to_string()))
            }),
        ));
    }
    let scope = Scope::new(NS, "overlayfs").expect("a scope");
    let named = store
        .named_snapshots
        .prepare(&scope, "work", "", &Labels::new())
        .and_then(|_| store.named_snapshots.commit(&scope, "done", "work", &rooted()));
    if named.is_ok() {
        promises.push((
            "a snapshot",
            Box::new(move |store| {
                store.named_snapshots.list(&scope).is_ok_and(|all| all.iter().any(|one| one.name == "done"))
            }),
        ));
    }
    let _ = collect(store);
    promises
}

#[test]
fn f_01_every_step_fails_once_and_nothing_acknowledged_is_lost() {
    for number in 0.. {
        let dir = place(LayerFormat::Directory);
        let store = open(dir.path());
        let fail = Fail::at(number, None);
        let watching = watch(dir.path(), fail.clone());
        let promises = mixed_work(&store);
        drop(watching);
        drop(store);
        // As after a kill: whatever the failure left is found by the next daemon.
        let store = open(dir.path());
        for (what, holds) in &promises {
            assert!(holds(&store), "step {number} failed: lost: {what}");
        }
        drop(store);
        let found = Fsck::open(dir.path()).expect("a root").check().expect("a check");
        assert!(found.is_empty(), "step {number} failed: {found:#?}");
        if !fail.failed() {
            assert!(number > 30, "only {number} steps");
            assert_eq!(promises.len(), 5, "with no failure all of it is done");
            return;
        }
    }
}

#[test]
fn f_07_a_sync_that_failed_is_never_taken_for_done_by_a_second_one() {
    let dir = place(LayerFormat::Directory);
    let store = open(dir.path());
    let failing = |step| watch(dir.path(), Fail::at(0, Some(step)));
    let mut writer = store.content.writer(NS, "upload", 5, None).expect("an ingest");
    writer.write(b"bytes").expect("written");
    let watching = failing(Step::SyncFile);
    let refused = writer.commit(5, None, &Labels::new()).expect_err("the disk fails");
    drop(watching);
    assert!(refused.to_string().starts_with("sync "), "{refused}");
    let again = store.content.writer(NS, "upload", 5, None).expect("an ingest");
    assert_eq!(again.offset(), 0, "these bytes are not gone on with");
    drop(again);
    let watching = failing(Step::SyncFolder);
    store.content.put(NS, &mut &b"other"[..], &Labels::new()).expect_err("the disk fails");
    drop(watching);
    assert!(store.content.open_blob(&Digest::of(b"other")).is_err(), "a name that may not last is not kept");
    let step = |name: &str| {
        let active = store.snapshots.active(None).expect("a mount");
        fs::write(active.path().join(name), name).expect("a file");
        active.commit().expect("a layer")
    };
    let first = step("first");
    let watching = failing(Step::SyncAll);
    store.snapshots.make_durable(first.id()).expect_err("the disk fails");
    drop(watching);
    assert!(store.snapshots.by_number(first.id().number()).expect("a look").is_none(), "its row went");
    let second = step("second");
    store.snapshots.make_durable(second.id()).expect("the next one is synced");
}

#[test]
fn f_06_bytes_that_a_lying_disk_lost_are_noticed_and_come_again() {
    let dir = place(LayerFormat::Directory);
    let store = open(dir.path());
    let bytes = b"a document";
    let digest = store.content.put(NS, &mut &bytes[..], &Labels::new()).expect("a blob").0;
    let target = Descriptor::new("", digest, bytes.len() as u64);
    store.images.put(NS, "image", &target, &Labels::new()).expect("an image");
    fs::write(dir.path().join("content/blobs/sha256").join(digest.hex()), "").expect("lost");
    let read = buildd_oci::blob::read_document(&store.content.in_namespace(NS), &target);
    assert!(read.expect_err("never wrong bytes").to_string().contains(&digest.to_string()));
    drop(store);
    let fsck = Fsck::open(dir.path()).expect("a root");
    let found: Vec<_> = fsck.repair().expect("a repair").iter().map(|finding| finding.what).collect();
    assert_eq!(found, ["blob", "image"]);
    drop(fsck);
    let store = open(dir.path());
    assert_eq!(store.content.put(NS, &mut &bytes[..], &Labels::new()).expect("it comes again").0, digest);
}

#[test]
fn f_08_a_torn_log_loses_its_end_and_a_damaged_page_resets_nothing() {
    let dir = place(LayerFormat::Directory);
    let store = open(dir.path());
    let digest = store.content.put(NS, &mut &b"blob"[..], &rooted()).expect("a blob").0;
    store.db.checkpoint().expect("all of it is in the file");
    store
        .db
        .write("not durable", |tx| tx.execute("INSERT INTO namespaces VALUES ('late', '{}')", []))
        .expect("a row");
    let copy = place(LayerFormat::Directory);
    for name in ["buildd.db", "buildd.db-wal"] {
        fs::copy(dir.path().join(name), copy.path().join(name)).expect("a copy");
    }
    let log = fs::File::options().write(true).open(copy.path().join("buildd.db-wal")).expect("the log");
    let end = log.metadata().expect("its size").len();
    log.write_all_at(&[0; 100], end - 100).expect("a torn write");
    fs::create_dir_all(copy.path().join("content/blobs/sha256")).expect("a folder");
    fs::write(copy.path().join("content/blobs/sha256").join(digest.hex()), "blob").expect("the blob");
    let torn = open(copy.path());
    assert!(has_blob(digest)(&torn), "what was durable is there");
    assert!(
        torn.namespaces.list().expect("a list").iter().all(|(name, _)| name != "late"),
        "the torn end is not"
    );
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'blobs'";
    let page: i64 = torn.db.read("find a page", |c| c.query_row(sql, [], |row| row.get(0))).expect("a page");
    torn.db.checkpoint().expect("all of it is in the file");
    drop(torn);
    let file = fs::File::options().write(true).open(copy.path().join("buildd.db")).expect("the database");
    file.write_all_at(&[0; 4096], (page.unsigned_abs() - 1) * 4096).expect("a zeroed page");
    let refused = Store::open(copy.path()).expect_err("a damaged database");
    assert_eq!(refused.kind(), ErrorKind::DataLoss, "{refused:?}");
    assert!(refused.hint().is_some_and(|hint| hint.contains("fsck")));
    assert!(copy.path().join("content/blobs/sha256").join(digest.hex()).exists(), "nothing is removed");
}

#[test]
fn f_09_a_database_that_is_gone_empty_or_newer_is_refused_and_nothing_removed() {
    let dir = place(LayerFormat::Directory);
    let store = open(dir.path());
    let digest = store.content.put(NS, &mut &b"blob"[..], &rooted()).expect("a blob").0;
    store.db.checkpoint().expect("all of it is in the file");
    drop(store);
    let (database, kept) = (dir.path().join("buildd.db"), dir.path().join("kept"));
    fs::rename(&database, &kept).expect("moved");
    for empty in [false, true] {
        if empty {
            fs::write(&database, "").expect("an empty file");
        }
        let refused = Store::open(dir.path()).expect_err("no database").to_string();
        assert!(refused.contains("buildd.db") && refused.contains("put it back"), "{refused}");
    }
    fs::rename(&kept, &database).expect("put back");
    assert!(has_blob(digest)(&open(dir.path())));
    Connection::open(&database).expect("it").pragma_update(None, "user_version", 99).expect("newer");
    let refused = Store::open(dir.path()).expect_err("a newer schema version").to_string();
    assert!(refused.contains("schema version 99") && refused.contains("newer buildd"), "{refused}");
    Connection::open(&database).expect("it").pragma_update(None, "user_version", 5).expect("as it was");
    assert!(has_blob(digest)(&open(dir.path())), "the blob was not touched");
}
