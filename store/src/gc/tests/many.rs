//! A round beside others where there is very much: nobody waits for more than a batch of it.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use super::*;

/// Images that stay and images that go, each with three blobs; stacks that stay and that go; results that keep stacks.
const IMAGES: usize = 15_000;
const STACKS: usize = 8_000;
/// No call takes so long, even on a machine that does very much else besides: a round there takes half a minute.
const DEADLINE: Duration = Duration::from_secs(10);

/// Rows without files: half of them are needed.
fn fill(place: &Place) {
    let sql = format!(
        r#"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {IMAGES})
           INSERT INTO blobs SELECT 'ns', printf('sha256:%s%063x', kind, i), 1,
               CASE kind WHEN 'a' THEN printf('{{"containerd.io/gc.ref.content.0":"sha256:b%063x","containerd.io/gc.ref.content.1":"sha256:c%063x"}}', i, i)
               ELSE '{{}}' END, 1, 1
           FROM n, (SELECT 'a' AS kind UNION SELECT 'b' UNION SELECT 'c');
           INSERT INTO images SELECT ns, digest, json_object('digest', digest), '{{}}', 1, 1 FROM blobs
               WHERE digest LIKE 'sha256:a%' AND substr(digest, -1) IN ('0', '2', '4', '6', '8', 'a', 'c', 'e');
           WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {STACKS})
           INSERT INTO layers (id, size, boot, durable) SELECT i, 1, 'b', 1 FROM n;
           INSERT INTO snapshots (id, parent, layer, boot, durable, created)
               SELECT id, CASE WHEN id > 2 AND id % 20 > 1 THEN id - 2 END, id, 'b', 1, 1 FROM layers;
           INSERT INTO results (key, exec, snapshot, description, created, used) SELECT id, id, id, '', 1, 1 FROM snapshots WHERE id % 2 = 0;
           INSERT INTO contents SELECT id, 'x', 'y' FROM results;
           WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {IMAGES})
           INSERT INTO leases SELECT 'ns', i, '{{"containerd.io/gc.expire":"2001-01-01T00:00:00Z"}}', 1 FROM n;
           INSERT INTO lease_resources SELECT ns, id, 'content', id FROM leases;"#
    );
    place.store.db.write("fill the tables", |tx| tx.execute_batch(&sql)).expect("rows");
    for layer in 1..=STACKS {
        fs::File::create(place.dir.path().join(format!("layers/{layer}"))).expect("a layer");
    }
}

fn rows(place: &Place) -> usize {
    let tables =
        ["blobs", "images", "layers", "snapshots", "results", "contents", "leases", "lease_resources"];
    let sql = tables.map(|table| format!("(SELECT count(*) FROM {table})")).join(" + ");
    let count = |c: &rusqlite::Connection| c.query_row(&format!("SELECT {sql}"), [], |row| row.get(0));
    place.store.db.read("count", count).expect("a count")
}

/// What clients and builds do all the time.
fn call(place: &Place, n: usize) {
    let store = &place.store;
    match n % 6 {
        0 => drop(store.images.get(NS, "none").expect_err("there is none")),
        1 => drop(store.leases.create(NS, &format!("new {n}"), &Labels::new()).expect("a lease")),
        2 => place.image(&format!("new {n}"), place.blob(&format!("{n}"), &[]), &Labels::new()),
        3 => drop(store.snapshots.pin(store.snapshots.by_number(2).expect("a look").expect("a stack"))),
        4 => drop(store.gc_guard()),
        _ => drop(store.content.info(NS, &Digest::of(b"none")).expect_err("there is none")),
    }
}

#[test]
fn f_21_no_call_waits_for_a_round_over_very_many_records() {
    let place = place();
    fill(&place);
    assert!(rows(&place) > 100_000, "{}", rows(&place));
    let (done, mut waits) = (AtomicBool::new(false), Vec::new());
    let (took, collected) = std::thread::scope(|scope| {
        let round = scope.spawn(|| {
            let began = Instant::now();
            let collected = collect(&place.store).expect("a round");
            done.store(true, Ordering::Relaxed);
            (began.elapsed(), collected)
        });
        for n in 0.. {
            if done.load(Ordering::Relaxed) {
                break;
            }
            let began = Instant::now();
            call(&place, n);
            waits.push(began.elapsed());
        }
        round.join().expect("no panic")
    });
    waits.sort();
    let (longest, middle) = (waits[waits.len() - 1], waits[waits.len() / 2]);
    let seen = format!("{} calls beside a round of {took:?}: {middle:?}, at most {longest:?}", waits.len());
    assert!(longest < DEADLINE && waits.len() > 100, "{seen}");
    assert_eq!((collected.blobs.len(), collected.layers.len()), (IMAGES / 2 * 3, STACKS / 2));
    assert!(collect(&place.store).expect("a round").blobs.is_empty(), "nothing is left to do");
    let named = place.store.images.list(NS).expect("a list");
    assert!(named.iter().all(|image| place.store.content.info(NS, &image.target.digest).is_ok()));
}
