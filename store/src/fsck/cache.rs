//! Cache: what the build cache remembers. A row that is dropped here costs a step, and nothing else.

use std::collections::BTreeMap;

use buildd_oci::digest::Digest;
use rusqlite::types::Value;

use super::{
    Check, Class, Fix,
    rows::{each, key, number, text},
};
use crate::{db::Db, error::Result};

/// The words for results.
const KINDS: [&str; 2] = ["regular", "source.local"];

fn is_digest(text: &str) -> bool {
    text.parse::<Digest>().is_ok()
}

impl Check<'_> {
    /// Every row of the build cache.
    pub(super) fn cache(&mut self, db: &Db) -> Result<()> {
        let kept = self.results(db)?;
        let contents = db.read("read the contents of results", |c| {
            each(c, "SELECT result, selector, digest FROM contents", |row| {
                Ok((key(row, 2)?, number(row, 0)?, text(row, 1)?, text(row, 2)?))
            })
        })?;
        for (key, result, selector, digest) in contents {
            let found = match result.and_then(|result| kept.get(&result)) {
                None => Some((Class::Damage, "its result has no row".to_owned())),
                Some(_) if !is_digest(&digest) => Some((Class::Damage, "its digest is none".to_owned())),
                Some(Some(class)) => Some((class.above(), "its result goes".to_owned())),
                Some(None) => None,
            };
            if let Some((class, detail)) = found {
                let fix = Fix::Row("DELETE FROM contents WHERE result = ? AND selector = ?", key);
                let subject = format!("{} {selector:?}", result.unwrap_or_default());
                self.report(class, "content digest", subject, detail, vec![fix]);
            }
        }
        self.memory(db)
    }

    /// The results, and the class of those that go.
    fn results(&mut self, db: &Db) -> Result<BTreeMap<i64, Option<Class>>> {
        let rows = db.read("read the results", |c| {
            each(c, "SELECT id, key, exec, snapshot, kind, uses FROM results", |row| {
                let digests = is_digest(&text(row, 1)?) && is_digest(&text(row, 2)?);
                let sound = digests && KINDS.contains(&text(row, 4)?.as_str()) && number(row, 5)? >= Some(0);
                Ok((row.get::<_, i64>(0)?, sound, number(row, 3)?))
            })
        })?;
        let mut all = BTreeMap::new();
        for (id, sound, snapshot) in rows {
            // 0 is the empty tree.
            let snapshot = snapshot.filter(|snapshot| *snapshot != 0);
            let found = match snapshot {
                _ if !sound => Some((Class::Damage, "its key, its kind or its uses are none".to_owned())),
                Some(id) if !self.rows.snapshots.contains_key(&id) => {
                    Some((Class::Damage, format!("its snapshot {id} has no row")))
                }
                Some(id) => {
                    self.gone.snapshots.get(&id).map(|class| (*class, format!("it is snapshot {id}")))
                }
                None => None,
            };
            all.insert(id, found.as_ref().map(|(class, _)| *class));
            if let Some((class, detail)) = found {
                let fix = Fix::Row("DELETE FROM results WHERE id = ?", vec![Value::Integer(id)]);
                self.report(class, "result", id.to_string(), detail, vec![fix]);
            }
        }
        Ok(all)
    }

    /// Aliases, records, cache mounts, remote files.
    fn memory(&mut self, db: &Db) -> Result<()> {
        let tables = [
            ("alias", "SELECT key, canonical, key FROM aliases", "DELETE FROM aliases WHERE key = ?"),
            ("record", "SELECT key, record, key FROM records", "DELETE FROM records WHERE key = ?"),
            (
                "cache mount",
                "SELECT folder, uses, name FROM cache_mounts",
                "DELETE FROM cache_mounts WHERE folder = ?",
            ),
            (
                "remote file",
                "SELECT request, digest, name FROM remote_files",
                "DELETE FROM remote_files WHERE request = ?",
            ),
        ];
        for (what, read, delete) in tables {
            let rows = db.read("read what the cache remembers", |c| {
                each(c, read, |row| {
                    let (id, value) = (text(row, 0)?, text(row, 1)?);
                    let wrong = match what {
                        "alias" => (!is_digest(&id) || !is_digest(&value)).then_some("it is no digest"),
                        "record" => serde_json::from_str::<serde_json::Value>(&value)
                            .is_err()
                            .then_some("it cannot be read"),
                        "cache mount" => {
                            let name = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
                            (!name || number(row, 1)? < Some(0)).then_some("its folder or its uses are none")
                        }
                        _ => (!is_digest(&value)).then_some("its digest is none"),
                    };
                    let found = key(row, 1)?;
                    Ok(wrong.map(|wrong| (found, id, wrong)))
                })
            })?;
            for (key, id, wrong) in rows.into_iter().flatten() {
                self.report(Class::Damage, what, id, wrong, vec![Fix::Row(delete, key)]);
            }
        }
        Ok(())
    }
}
