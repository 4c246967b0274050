//! Files: what lies in the folders of the store, against the rows: ingests that nobody can resume, and what nothing needs.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use buildd_oci::digest::Digest;

use super::{
    Check, Class, Fix,
    rows::{each, text},
};
use crate::{
    content::PUTS,
    db::Db,
    error::{Error, Result},
    identifier,
    layer::{data_file, layer_of_data_file},
};

/// Longest first part of a `ref` that is read: a number, a line's end, and the longest ref that an API takes.
const MAX_REF: u64 = 64 << 10;

/// The entries of a folder, sorted; none if it is not there.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let list = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        list => list.map_err(Error::file("list", folder))?,
    };
    let mut all = Vec::new();
    for entry in list {
        let entry = entry.map_err(Error::file("list", folder))?;
        all.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
    }
    all.sort();
    Ok(all)
}

impl Check<'_> {
    /// Every folder of the store.
    pub(super) fn files(&mut self, db: &Db) -> Result<()> {
        let digests: BTreeSet<String> = self.rows.blobs.iter().map(|row| row.digest.clone()).collect();
        for algorithm in ["sha256", "sha512"] {
            let folder = Path::new("content/blobs").join(algorithm);
            self.strays(&folder, |name| digests.contains(&format!("{algorithm}:{name}")))?;
        }
        let layers: BTreeSet<String> = self.rows.layers.keys().map(i64::to_string).collect();
        let root = self.root.join("layers");
        let lends = |name: &str| {
            let layer = layer_of_data_file(name).filter(|layer| layers.contains(*layer));
            layer.is_some_and(|layer| matches!(data_file(&root.join(layer)), Ok(Some(_))))
        };
        self.strays(Path::new("layers"), |name| layers.contains(name) || lends(name))?;
        let uppers: BTreeSet<String> =
            self.rows.named.iter().filter_map(|row| row.upper).map(|upper| upper.to_string()).collect();
        self.strays(Path::new("named"), |name| uppers.contains(name))?;
        let mounts: BTreeSet<String> = db
            .read("list cache mounts", |c| each(c, "SELECT folder FROM cache_mounts", |row| text(row, 0)))?
            .into_iter()
            .collect();
        self.strays(Path::new("cache-mounts"), |name| mounts.contains(name))?;
        self.strays(Path::new("content"), |name| ["blobs", "ingest", PUTS].contains(&name))?;
        self.strays(&Path::new("content").join(PUTS), |_| false)?;
        self.strays(Path::new("content/blobs"), |name| ["sha256", "sha512"].contains(&name))?;
        self.strays(Path::new("content/ingest"), |name| identifier::check(name).is_ok())?;
        self.ingests()
    }

    /// What lies in a folder and has no row.
    fn strays(&mut self, folder: &Path, known: impl Fn(&str) -> bool) -> Result<()> {
        for (name, path) in entries(&self.root.join(folder))? {
            if !known(&name) {
                let subject = self.shown(&path);
                self.report(Class::Leftover, "file", subject, "nothing names it", vec![Fix::Remove(path)]);
            }
        }
        Ok(())
    }

    /// Partial blobs: each can be resumed; or a crash came when it was begun, or had become a blob; or it is damaged.
    fn ingests(&mut self) -> Result<()> {
        for (ns, folder) in entries(&self.root.join("content/ingest"))? {
            if identifier::check(&ns).is_err() {
                continue;
            }
            for (name, path) in entries(&folder)? {
                if let Some((class, wrong)) = wrong_ingest(&name, &path) {
                    let subject = self.shown(&path);
                    self.report(class, "ingest", subject, wrong, vec![Fix::Remove(path)]);
                }
            }
        }
        Ok(())
    }
}

fn wrong_ingest(name: &str, path: &Path) -> Option<(Class, &'static str)> {
    let (left, damaged) = (|wrong| Some((Class::Leftover, wrong)), |wrong| Some((Class::Damage, wrong)));
    let file = path.join("ref");
    if fs::symlink_metadata(&file).is_ok_and(|meta| !meta.is_file() || meta.len() > MAX_REF) {
        return damaged("its ref is none");
    }
    let Ok(text) = fs::read_to_string(&file) else { return left("it has no ref") };
    let Some((total, id)) = text.split_once('\n') else { return left("its ref is cut off") };
    let Ok(total) = total.parse::<u64>() else { return left("its ref has no size") };
    if Digest::of(id.as_bytes()).hex() != name {
        return left("its ref is that of another one");
    }
    match fs::symlink_metadata(path.join("data")) {
        Ok(meta) if !meta.is_file() => damaged("its data is no file"),
        Ok(meta) if total != 0 && meta.len() > total => damaged("it has more bytes than were announced"),
        Ok(_) => None,
        Err(_) => left("it has no data"),
    }
}
