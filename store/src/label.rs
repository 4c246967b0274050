//! Label: free notes on a blob, an image, a snapshot and others, and how a row has them.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension, Transaction};

/// Free notes by name.
pub type Labels = BTreeMap<String, String>;

/// Labels as the database holds them.
pub fn labels_text(labels: &Labels) -> String {
    serde_json::to_string(labels).expect("strings have a JSON form")
}

/// The labels of a row.
pub fn labels_of(text: &str) -> Labels {
    serde_json::from_str(text).unwrap_or_default()
}

/// Changes the labels of one row; `key` is bound to both statements, `SELECT labels …` and what writes them (its last parameter). None if there
/// is no such row; the inner error is that of `change`, and then nothing is written.
///
/// All of it happens in the transaction, so no other writer's change is lost in between: a lost `gc.ref` label would let a collection remove what
/// is in use.
pub(crate) fn update<E, const KEY: usize>(
    tx: &Transaction<'_>,
    [select, write]: [&str; 2],
    key: [&str; KEY],
    change: impl FnOnce(&mut Labels) -> Result<(), E>,
) -> rusqlite::Result<Option<Result<Labels, E>>> {
    let text: Option<String> =
        tx.query_row(select, rusqlite::params_from_iter(key), |row| row.get(0)).optional()?;
    let Some(text) = text else { return Ok(None) };
    let before = labels_of(&text);
    let mut labels = before.clone();
    if let Err(refused) = change(&mut labels) {
        return Ok(Some(Err(refused)));
    }
    if labels != before {
        let text = labels_text(&labels);
        tx.execute(write, rusqlite::params_from_iter(key.into_iter().chain([text.as_str()])))?;
    }
    Ok(Some(Ok(labels)))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use buildd_oci::{descriptor::Descriptor, digest::Digest};

    use super::Labels;
    use crate::root::Store;

    const NS: &str = "default";
    /// Changes of each writer.
    const CHANGES: usize = 50;

    fn add(name: String) -> impl FnOnce(&mut Labels) -> Result<(), Infallible> {
        move |labels| {
            labels.insert(name, "1".to_owned());
            Ok(())
        }
    }

    /// Two writers at once, each with labels of its own; afterwards all of them must be there.
    fn two_writers(change: impl Fn(String) + Sync, labels: impl Fn() -> Labels) {
        std::thread::scope(|scope| {
            for writer in 0..2 {
                let change = &change;
                scope.spawn(move || (0..CHANGES).for_each(|number| change(format!("{writer}-{number}"))));
            }
        });
        assert_eq!(labels().len(), 2 * CHANGES);
    }

    #[test]
    fn no_change_of_two_writers_is_lost() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(dir.path()).expect("a store");
        let (digest, size) = store.content.put(NS, &mut b"{}".as_slice(), &Labels::new()).expect("a blob");
        two_writers(
            |name| drop(store.content.update_labels(NS, &digest, add(name)).expect("a blob's labels")),
            || store.content.info(NS, &digest).expect("the blob").labels,
        );
        let target = Descriptor::new("application/vnd.oci.image.manifest.v1+json", digest, size);
        store.images.create(NS, "image", &target, &Labels::new()).expect("an image");
        two_writers(
            |name| {
                drop(
                    store.images.update(NS, "image", |image| add(name)(&mut image.labels)).expect("an image"),
                )
            },
            || store.images.get(NS, "image").expect("the image").labels,
        );
        two_writers(
            |name| drop(store.namespaces.update_labels("other", add(name)).expect("a namespace")),
            || store.namespaces.labels("other").expect("its labels"),
        );
        store.containers.create(NS, "container", b"").expect("a container");
        let append = |name: String| {
            let change = |container: &mut crate::meta::container::Container| -> Result<(), Infallible> {
                container.record.extend(format!("{name}\n").as_bytes());
                Ok(())
            };
            drop(store.containers.update(NS, "container", change).expect("a container"));
        };
        two_writers(append, || {
            let record = store.containers.get(NS, "container").expect("the container").record;
            let text = String::from_utf8(record).expect("text");
            text.lines().map(|name| (name.to_owned(), String::new())).collect()
        });
    }

    #[test]
    fn what_is_refused_changes_nothing_and_a_name_that_points_elsewhere_stays() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(dir.path()).expect("a store");
        let labels = Labels::from([("a".to_owned(), "1".to_owned())]);
        let (digest, size) = store.content.put(NS, &mut b"{}".as_slice(), &labels).expect("a blob");
        let refuse = |labels: &mut Labels| {
            labels.clear();
            Err("no")
        };
        let refused = store.content.update_labels(NS, &digest, refuse).expect("a blob");
        assert_eq!(refused.expect_err("refused"), "no");
        assert_eq!(store.content.info(NS, &digest).expect("the blob").labels, labels);
        let target = Descriptor::new("application/vnd.oci.image.manifest.v1+json", digest, size);
        store.images.create(NS, "image", &target, &labels).expect("an image");
        let other = Digest::of(b"other");
        store.images.delete(NS, "image", Some(&other)).expect_err("it points elsewhere");
        store.images.delete(NS, "image", Some(&digest)).expect("it is the one");
        store.images.get(NS, "image").expect_err("it is gone");
    }
}
