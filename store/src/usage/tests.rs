//! Records in, what a policy forgets out.

use std::time::UNIX_EPOCH;

use super::*;

/// `id used size [parent] [flags]`: flags are `u` in use, `s` shared, `m` a cache mount.
fn record(line: &str) -> Record {
    let mut words = line.split_whitespace();
    let mut next = || words.next().expect("id, used and size");
    let (id, used, size) = (next().to_owned(), next(), next());
    let used = UNIX_EPOCH + Duration::from_secs(used.parse().expect("seconds"));
    let mut record = Record {
        kind: "regular".to_owned(),
        description: String::new(),
        created: used,
        used,
        uses: 1,
        in_use: false,
        shared: false,
        mutable: false,
        parent: None,
        size: size.parse().expect("bytes"),
        subject: Subject::Mount(id.clone()),
        id,
    };
    for word in words {
        match word.split_once('=') {
            Some(("on", parent)) => record.parent = Some(parent.to_owned()),
            _ => {
                record.in_use = word.contains('u');
                record.shared = word.contains('s');
                if word.contains('m') {
                    record.kind = CACHE_MOUNT.to_owned();
                }
            }
        }
    }
    record
}

fn forgotten(lines: &[&str], policy: Policy, free: u64) -> Vec<String> {
    let records = lines.iter().map(|line| record(line)).collect();
    let now = UNIX_EPOCH + Duration::from_secs(100);
    choose(records, &policy, free, now, &|record| record.kind != CACHE_MOUNT)
        .into_iter()
        .map(|record| record.id)
        .collect()
}

#[test]
fn policies() {
    let none = Policy::default();
    let all = Policy { all: true, ..none };
    let max = |bytes| Policy { max_used: Some(bytes), ..none };
    let chain = ["a 1 10", "b 2 10 on=a", "c 3 10 on=b"];
    let cases: &[(&[&str], Policy, u64, &[&str])] = &[
        // Leaves first, whatever their age.
        (&chain, none, 0, &["c", "b", "a"]),
        (&["a 9 10", "b 1 10 on=a"], none, 0, &["b", "a"]),
        (&["old 1 10", "new 9 10"], max(10), 0, &["old"]),
        (&["old 1 10", "new 9 10"], max(20), 0, &[]),
        // What is used or shared keeps what it stands on.
        (&["a 1 10", "b 2 10 on=a", "c 3 10 on=b u"], none, 0, &[]),
        (&["a 1 10 s", "b 2 10 on=a"], none, 0, &["b"]),
        (&["a 1 10 s", "b 2 10 on=a"], all, 0, &["b", "a"]),
        (&["a 1 10", "m 2 10 m"], none, 0, &["a"]),
        (&["a 10 1", "b 60 1"], Policy { keep_duration: Some(Duration::from_secs(50)), ..none }, 0, &["a"]),
        // From the future: the clock was set back, and it is not old.
        (&["a 200 1"], Policy { keep_duration: Some(Duration::from_secs(1)), ..none }, 0, &[]),
        // A reserve alone is what is left; beside others, it is their lower bound.
        (&["a 1 10", "b 2 10", "c 3 10"], Policy { reserved: Some(15), ..none }, 0, &["a", "b"]),
        (&["a 1 10", "b 2 10"], Policy { reserved: Some(20), ..max(5) }, 0, &[]),
        (&["a 1 10", "b 2 10"], Policy { min_free: Some(100), ..none }, 95, &["a"]),
        (&["a 1 10", "b 2 10"], Policy { min_free: Some(100), ..none }, 100, &[]),
        (&["a 1 10", "b 2 10"], Policy { min_free: Some(100), reserved: Some(20), ..none }, 0, &[]),
    ];
    for (lines, policy, free, expected) in cases {
        assert_eq!(forgotten(lines, *policy, *free), *expected, "{lines:?} {policy:?} {free}");
    }
}

#[test]
fn a_cache_mount_stays_while_a_step_has_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(dir.path()).expect("a store");
    let held = store.cache_mounts.enter("/root/.cache\0private 0").expect("a row");
    let path = store.cache_mounts.path("/root/.cache\0private 0");
    std::fs::create_dir(&path).expect("the folder");
    std::fs::write(path.join("file"), [1; 100_000]).expect("a file");
    let only = || list(&store).expect("records").remove(0);
    let (kind, size, in_use) = (only().kind, only().size, only().in_use);
    assert!(kind == CACHE_MOUNT && (100_000..200_000).contains(&size) && in_use, "{:?}", only());
    assert_eq!(only().description, "cached mount /root/.cache from exec");
    assert!(prune(&store, &Policy::default(), &|_| true).expect("a pruning").is_empty());
    drop(held);
    drop(store.cache_mounts.enter("/root/.cache\0private 0").expect("a row"));
    assert_eq!((only().uses, only().in_use), (2, false));
    assert_eq!(prune(&store, &Policy::default(), &|_| true).expect("a pruning").len(), 1);
    assert!(!path.exists() && list(&store).expect("records").is_empty());
    let trash = std::fs::read_dir(dir.path().join("trash")).expect("the folder").count();
    assert_eq!(trash, 0);
}

#[test]
fn folders_that_no_row_names_go_at_start() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(dir.path()).expect("a store");
    let kept = store.cache_mounts.path("kept");
    drop(store.cache_mounts.enter("kept").expect("a row"));
    std::fs::create_dir(&kept).expect("the folder");
    std::fs::create_dir(dir.path().join("cache-mounts/half.made")).expect("the folder");
    drop(store);
    let store = Store::open(dir.path()).expect("a store");
    assert!(kept.exists());
    assert_eq!(std::fs::read_dir(dir.path().join("cache-mounts")).expect("the folder").count(), 1);
    drop(store);
}
