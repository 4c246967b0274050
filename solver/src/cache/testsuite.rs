//! Conformance: what every `CacheStore` must do, as code that its tests call.

use std::any::Any;

use buildd_oci::digest::Digest;

use super::{CacheStore, NewResult};
use crate::{
    explain::{Record, RecordOf},
    result::{OpResult, ResultHandle},
};

/// A result that is a number.
#[derive(Debug)]
pub struct Number(pub u64);

impl ResultHandle for Number {
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A result for stores that take any.
pub fn number(n: u64) -> OpResult {
    std::sync::Arc::new(Number(n))
}

/// Runs the suite on an empty store; `make` gives results that it can hold. Panics where the store is wrong.
pub async fn run(store: &dyn CacheStore, make: &(dyn Fn(u64) -> OpResult + Sync)) {
    let key = |n: u8| Digest::of(&[n]);
    let new = |n: u8, value| NewResult {
        key: key(n),
        exec: key(n),
        record: Record {
            name: format!("step {n}"),
            op: key(n),
            inputs: vec![key(n + 1)],
            parts: Default::default(),
        },
        result: make(value),
    };
    assert!(store.results(&key(1)).await.expect("a look").is_empty());
    let first = store.save(vec![new(1, 10), new(2, 20)]).await.expect("a save");
    let second = store.save(vec![new(1, 11)]).await.expect("a save");
    assert_eq!(store.results(&key(1)).await.expect("a look"), [second[0], first[0]], "newest first");
    assert!(store.load(second[0]).await.expect("a load").is_some());
    assert_eq!(store.content(first[0], "a").await.expect("a look"), None);
    store.set_content(first[0], "a", &key(7)).await.expect("a write");
    assert_eq!(store.content(first[0], "a").await.expect("a look"), Some(key(7)));
    assert_eq!(store.content(first[0], "b").await.expect("a look"), None);
    store.set_content(second[0], "a", &key(7)).await.expect("a write");
    store.forget(second[0]).await.expect("a removal");
    assert_eq!(store.content(second[0], "a").await.expect("a look"), None, "a memo goes with its result");
    let third = store.save(vec![new(3, 30)]).await.expect("a save");
    assert!(third[0] > second[0], "a number is never used again");
    assert_eq!(store.results(&key(1)).await.expect("a look"), [first[0]]);
    assert!(store.load(second[0]).await.expect("a load").is_none());
    assert_eq!(store.canonical(&key(8)).await.expect("a look"), None);
    store.set_alias(&key(8), &key(1)).await.expect("a write");
    assert_eq!(store.canonical(&key(8)).await.expect("a look"), Some(key(1)));
    let named = |n: u8| RecordOf::Name(format!("step {n}"));
    assert_eq!(store.record(&named(9)).await.expect("a look"), None);
    let record = store.record(&named(2)).await.expect("a look").expect("it was saved");
    assert_eq!((record.op, &record.inputs), (key(2), &vec![key(3)]));
    assert_eq!(store.record(&RecordOf::Op(key(2))).await.expect("a look"), Some(record));
    let again = NewResult { record: Record { inputs: vec![key(5)], ..new(2, 0).record }, ..new(2, 21) };
    store.save(vec![again]).await.expect("a save");
    let newest = store.record(&RecordOf::Op(key(2))).await.expect("a look").expect("it was saved");
    assert_eq!(newest.inputs, [key(5)], "the newest");
}
