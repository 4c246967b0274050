//! The life of named snapshots, as containerd's clients lead it.

use std::{fs, sync::atomic::AtomicUsize};

use super::*;
use crate::{
    Error,
    disk::{
        Step,
        watch::{Watch, watch},
    },
    layer::{Entry, ExportOptions, LayerFormat, TarWriter},
    root::Store,
};

struct Place {
    _dir: tempfile::TempDir,
    store: Arc<Store>,
    scope: Scope,
}

fn place() -> Place {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(dir.path()).expect("a store");
    Place { _dir: dir, store, scope: Scope::new("ns", "overlayfs").expect("a snapshotter") }
}

impl Place {
    fn names(&self) -> &NamedSnapshots {
        &self.store.named_snapshots
    }

    /// Writes one file into an active snapshot and commits it.
    fn commit(&self, parent: &str, file: &str, name: &str) {
        let key = format!("extract {name}");
        self.names().prepare(&self.scope, &key, parent, &Labels::new()).expect("prepare");
        let upper = self.names().stat(&self.scope, &key).expect("stat").upper.expect("an upper");
        fs::write(self.names().folder.join(upper.to_string()).join("fs").join(file), file).expect("write");
        self.names().commit(&self.scope, name, &key, &Labels::new()).expect("commit");
    }
}

fn kinds(error: &Error) -> buildd_oci::ErrorKind {
    error.kind()
}

#[test]
fn mounts_are_plain_folders_in_containerds_form() {
    let place = place();
    let (names, scope) = (place.names(), &place.scope);
    let first = names.prepare(scope, "a", "", &Labels::new()).expect("prepare");
    assert_eq!(
        (first[0].kind.as_str(), first[0].options.as_slice()),
        ("bind", &["rw".into(), "rbind".into()][..])
    );
    place.commit("", "one", "c1");
    place.commit("c1", "two", "c2");
    let view = names.view(scope, "v1", "c1", &Labels::new()).expect("view");
    assert_eq!(view[0].options, ["ro", "rbind"]);
    assert_eq!(fs::read_to_string(Path::new(&view[0].source).join("one")).expect("the layer"), "one");
    let view = names.view(scope, "v2", "c2", &Labels::new()).expect("view");
    let lowers = view[0].options.iter().find_map(|option| option.strip_prefix("lowerdir=")).expect("lowers");
    let lowers: Vec<&str> = lowers.split(':').collect();
    assert!(Path::new(lowers[0]).join("two").exists() && Path::new(lowers[1]).join("one").exists());
    let active = names.prepare(scope, "b", "c2", &Labels::new()).expect("prepare");
    let has = |start: &str| active[0].options.iter().any(|option| option.starts_with(start));
    assert!(active[0].kind == "overlay" && has("upperdir=") && has("workdir=") && has("lowerdir="));
    assert_eq!(names.mounts(scope, "b").expect("again")[0].options, active[0].options);
}

#[test]
fn wrong_orders_are_refused_by_class() {
    use buildd_oci::ErrorKind::{AlreadyExists, FailedPrecondition, InvalidArgument, NotFound};
    let place = place();
    let (names, scope, none) = (place.names(), &place.scope, &Labels::new());
    place.commit("", "one", "c1");
    names.view(scope, "v", "c1", none).expect("view");
    names.prepare(scope, "a", "c1", none).expect("prepare");
    let refused = |done: Result<()>| kinds(&done.expect_err("refused"));
    assert_eq!(refused(names.prepare(scope, "a", "c1", none).map(drop)), AlreadyExists);
    assert_eq!(refused(names.prepare(scope, "x", "nothing", none).map(drop)), NotFound);
    assert_eq!(refused(names.prepare(scope, "x", "a", none).map(drop)), InvalidArgument);
    assert_eq!(refused(names.commit(scope, "c2", "v", none)), FailedPrecondition);
    assert_eq!(refused(names.commit(scope, "c1", "a", none)), AlreadyExists);
    assert_eq!(refused(names.remove(scope, "c1")), FailedPrecondition);
    assert_eq!(refused(names.remove(scope, "nothing")), NotFound);
    assert_eq!(refused(names.mounts(scope, "c1").map(drop)), FailedPrecondition);
    assert_eq!(refused(Scope::new("ns", "zfs").map(drop)), InvalidArgument);
    let elsewhere = Scope::new("other", "overlayfs").expect("a scope");
    assert_eq!(refused(names.stat(&elsewhere, "c1").map(drop)), NotFound);
    names.remove(scope, "v").expect("remove");
    names.remove(scope, "a").expect("remove");
    names.remove(scope, "c1").expect("remove");
    assert!(names.list(scope).expect("list").is_empty());
}

#[test]
fn a_chain_id_that_the_store_holds_is_a_name_everywhere() {
    let place = place();
    let tar = {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(4);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        archive.append_data(&mut header, "file", &b"text"[..]).expect("an entry");
        archive.into_inner().expect("an archive")
    };
    let (id, applied) = place.store.snapshots.apply(None, &mut tar.as_slice(), None).expect("apply");
    place.store.snapshots.set_chain_id(id.id(), &applied.diff_id).expect("a chain id");
    let name = applied.diff_id.to_string();
    for snapshotter in SNAPSHOTTERS {
        let scope = Scope::new("any", snapshotter).expect("a scope");
        assert_eq!(place.names().stat(&scope, &name).expect("found").kind, Kind::Committed);
        place.names().prepare(&scope, "c", &name, &Labels::new()).expect("prepare");
        assert_eq!(place.names().list(&scope).expect("list").len(), 2);
    }
}

#[test]
fn an_active_snapshot_survives_a_restart_and_a_removed_one_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let scope = Scope::new("ns", "overlayfs").expect("a scope");
    let store = Store::open(dir.path()).expect("a store");
    store.named_snapshots.prepare(&scope, "kept", "", &Labels::new()).expect("prepare");
    store.named_snapshots.prepare(&scope, "gone", "", &Labels::new()).expect("prepare");
    store.named_snapshots.remove(&scope, "gone").expect("remove");
    let source = store.named_snapshots.mounts(&scope, "kept").expect("mounts")[0].source.clone();
    fs::write(Path::new(&source).join("file"), "text").expect("write");
    drop(store);
    let store = Store::open(dir.path()).expect("again");
    assert_eq!(fs::read_to_string(Path::new(&source).join("file")).expect("kept"), "text");
    assert_eq!(fs::read_dir(dir.path().join("named")).expect("list").count(), 1);
    assert!(store.named_snapshots.usage(&scope, "kept").expect("usage").1 >= 2);
}

#[test]
fn a_layer_file_lies_at_a_path_while_a_client_has_a_tree_of_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let scope = Scope::new("ns", "overlayfs").expect("a scope");
    let mut tar = Vec::new();
    let mut writer = TarWriter::new(&mut tar, ExportOptions::default());
    writer.entry(&Entry::directory("folder".into()), &mut std::io::empty()).expect("an entry");
    writer.finish().expect("an end");
    let attached = |store: &Store| {
        crate::gc::collect(store).expect("a round");
        let table = fs::read_to_string("/proc/self/mountinfo").expect("the table");
        table.lines().filter(|line| line.contains(dir.path().to_str().expect("UTF-8"))).count()
    };
    let store = Store::open_with(dir.path(), LayerFormat::File).expect("a store");
    let (held, applied) = store.snapshots.apply(None, &mut tar.as_slice(), None).expect("a layer");
    store.snapshots.set_chain_id(held.id(), &applied.diff_id).expect("a chain id");
    let name = applied.diff_id.to_string();
    let kept = Labels::from([("containerd.io/gc.root".to_owned(), "now".to_owned())]);
    let prepared = store.named_snapshots.prepare(&scope, "a", &name, &kept).expect("prepare");
    let view = store.named_snapshots.view(&scope, "v", &name, &kept).expect("view");
    assert_eq!((prepared[0].kind.as_str(), view[0].kind.as_str()), ("overlay", "bind"));
    assert!(Path::new(&view[0].source).join("folder").is_dir());
    store.named_snapshots.remove(&scope, "a").expect("remove");
    drop(held);
    assert_eq!(attached(&store), 1, "the view needs it");
    drop(store);
    let store = Store::open_with(dir.path(), LayerFormat::Directory).expect("again");
    assert!(
        Path::new(&view[0].source).join("folder").is_dir(),
        "an end of the daemon is none of the client's"
    );
    assert_eq!(attached(&store), 1, "the next daemon knows of it");
    store.named_snapshots.remove(&scope, "v").expect("remove");
    assert_eq!(attached(&store), 0, "nobody needs it");
}

/// Lets the disk fail at one step, and tells whether it came to that.
struct FailAt(AtomicUsize);

impl Watch for FailAt {
    fn before(&self, _step: Step, _path: &Path) -> std::io::Result<()> {
        match self.0.fetch_sub(1, Ordering::Relaxed) {
            0 => Err(std::io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }
}

#[test]
fn a_commit_that_fails_leaves_the_active_snapshot_as_it_was() {
    for restarted in [false, true] {
        for step in 0.. {
            let dir = tempfile::tempdir().expect("a folder");
            let scope = Scope::new("ns", "overlayfs").expect("a scope");
            let mut store = Store::open(dir.path()).expect("a store");
            let source = store.named_snapshots.prepare(&scope, "a", "", &Labels::new()).expect("prepare")[0]
                .source
                .clone();
            fs::write(Path::new(&source).join("file"), "text").expect("write");
            let left = Arc::new(FailAt(AtomicUsize::new(step)));
            let watching = watch(dir.path(), left.clone());
            let committed = match restarted {
                false => store.named_snapshots.commit(&scope, "c", "a", &Labels::new()),
                // As a daemon does that is killed: nothing is given back before the next start.
                true => {
                    let names = &store.named_snapshots;
                    let found = names.stat(&scope, "a").expect("it is there");
                    let upper = found.upper.expect("an upper");
                    names.commit_upper(&scope, "c", "a", &Labels::new(), &found, upper)
                }
            };
            drop(watching);
            if restarted {
                drop(store);
                store = Store::open(dir.path()).expect("again");
            }
            let names = &store.named_snapshots;
            if names.stat(&scope, "c").is_ok() {
                assert!(step > 3, "it failed at {step} steps");
                break;
            }
            committed.expect_err("it is not there");
            assert_eq!(
                fs::read_to_string(Path::new(&source).join("file")).expect("the upper"),
                "text",
                "step {step}"
            );
            names.commit(&scope, "c", "a", &Labels::new()).expect("now it can be");
            assert_eq!(names.stat(&scope, "c").expect("it is there").kind, Kind::Committed);
            assert_eq!(fs::read_dir(dir.path().join("layers")).expect("layers").count(), 1, "step {step}");
        }
    }
}
