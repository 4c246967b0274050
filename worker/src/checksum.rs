//! Checksum: the digest of what a step reads of a tree.
//!
//! Names, kinds, modes, owners, link targets, device numbers, the attributes that images carry and the bytes count;
//! times do not. Names are relative to what was selected: the same files copied from elsewhere have the same digest.
//!
//! Bytes enter by their BLAKE3, which takes a fifth of a sha256's time where the processor has wide vectors. No client sees it.
//!
//! # Sources
//! design cache-model.md; spec solver 2.2, "contenthash".

use std::{
    fs,
    path::{Path, PathBuf},
};

use buildd_fs::{
    path::{Follow, resolve},
    pattern::Patterns,
};
use buildd_oci::digest::{Digest, Digester};
use buildd_solver::op::{Parts, fingerprint};
use buildd_store::layer::{Entry, EntryKind, describe};
use serde::{Deserialize, Serialize};

use crate::{
    content_digest::header,
    error::{Error, Result},
    listing::{ListedEntry, Listing},
};

/// Entries whose changes are told one by one: each is read once more whenever its step runs.
const MAX_PRINTS: usize = 500;
/// Bytes of a file that is read once more to tell whether it changed.
const MAX_PRINTED: u64 = 64 << 10;

/// Paths that a step reads; its JSON is the selector of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Selection {
    /// The path, which may have wildcards if `wildcard`.
    pub path: String,
    /// Whether `*`, `?` and classes mean something.
    pub wildcard: bool,
    /// Whether a link at the end is followed.
    pub follow: bool,
    /// Only what matches.
    pub include: Vec<String>,
    /// Not what matches.
    pub exclude: Vec<String>,
}

/// Digest of a whole tree.
pub(crate) fn tree(root: &Path) -> Result<Digest> {
    let (mut digester, all) = (Digester::default(), Patterns::default());
    Listing::folder(root).below(Path::new(""), &all, &all, &mut |found| one(found, &mut digester))?;
    Ok(digester.finish())
}

/// Digest of what the selections find in a tree. What is missing has a digest too: that it is missing.
pub(crate) fn selected(tree: &Listing, selections: &[Selection]) -> Result<Digest> {
    let root = tree.path();
    let mut digester = Digester::default();
    for selection in selections {
        let (include, exclude) = (patterns(&selection.include)?, patterns(&selection.exclude)?);
        for path in find(&root, selection)? {
            digester.update(b"selected");
            let mut is_folder = false;
            tree.one(&path, &mut |found| {
                is_folder = found.is_folder();
                one(found, &mut digester)
            })?;
            if is_folder {
                tree.below(&path, &include, &exclude, &mut |found| one(found, &mut digester))?;
            }
        }
        digester.update(b"end");
    }
    Ok(digester.finish())
}

/// What the selections find below `root`, entry by entry, by the names that it has there; nothing if it is very much.
pub(crate) fn prints(root: &Path, selections: &[Selection]) -> Result<Parts> {
    let mut parts = Parts::new();
    for path in few(root, selections)? {
        let full = root.join(&path);
        if let Some((entry, _)) = describe(&full, PathBuf::new())? {
            parts.insert(format!("file /{}", path.display()), print(&full, &entry)?);
        }
    }
    Ok(parts)
}

/// The paths that the selections find, folders with what is in them; none if more than [`MAX_PRINTS`] have to be looked at.
fn few(root: &Path, selections: &[Selection]) -> Result<Vec<PathBuf>> {
    let (mut paths, mut looked_at) = (Vec::new(), 0);
    for selection in selections {
        let (include, exclude) = (patterns(&selection.include)?, patterns(&selection.exclude)?);
        for found in find(root, selection)? {
            let mut open = vec![found.clone()];
            while let Some(path) = open.pop() {
                looked_at += 1;
                if looked_at + open.len() > MAX_PRINTS {
                    return Ok(Vec::new());
                }
                let full = root.join(&path);
                if fs::symlink_metadata(&full).is_ok_and(|meta| meta.is_dir()) {
                    let list = fs::read_dir(&full).map_err(Error::file("list", &full))?;
                    open.extend(list.flatten().map(|entry| path.join(entry.file_name())));
                }
                let text = path.strip_prefix(&found).unwrap_or(&path).to_string_lossy();
                let wanted = (include.is_empty() || include.matches(&text)) && !exclude.matches(&text);
                if wanted || text.is_empty() {
                    paths.push(path);
                }
            }
        }
    }
    Ok(paths)
}

/// The fingerprint of one entry; of a large file its size stands for its bytes.
fn print(full: &Path, entry: &Entry) -> Result<u64> {
    let mut digester = Digester::default();
    match &entry.kind {
        EntryKind::File { size } if *size > MAX_PRINTED => {
            header(entry, &mut digester);
            digester.update(&size.to_le_bytes());
        }
        _ => Listing::folder(full).one(Path::new(""), &mut |found| one(found, &mut digester))?,
    }
    Ok(fingerprint(digester.finish().as_bytes()))
}

/// The paths below `root` that a selection means, links on the way resolved; sorted.
pub(crate) fn find(root: &Path, selection: &Selection) -> Result<Vec<PathBuf>> {
    let follow = if selection.follow { Follow::All } else { Follow::Parents };
    let cleaned = buildd_fs::path::clean(Path::new(&selection.path));
    let text = cleaned.to_string_lossy().into_owned();
    if !selection.wildcard || !text.contains(['*', '?', '[', '\\']) {
        let found = resolve(root, &cleaned, follow).map_err(Error::file("resolve", &cleaned))?;
        return Ok(if root.join(&found).symlink_metadata().is_ok() { vec![found] } else { Vec::new() });
    }
    let mut found = vec![PathBuf::new()];
    for part in text.split('/') {
        let pattern = patterns(&[part.to_owned()])?;
        let mut next = Vec::new();
        for folder in found {
            let real = resolve(root, &folder, Follow::All).map_err(Error::file("resolve", &folder))?;
            let Ok(entries) = fs::read_dir(root.join(&real)) else { continue };
            for entry in entries.flatten() {
                let name = entry.file_name();
                if pattern.matches(&name.to_string_lossy()) {
                    next.push(folder.join(name));
                }
            }
        }
        next.sort();
        found = next;
    }
    found
        .into_iter()
        .map(|path| resolve(root, &path, follow).map_err(Error::file("resolve", &path)))
        .collect()
}

/// Patterns of an op; a broken one is the client's mistake.
pub(crate) fn patterns(list: &[String]) -> Result<Patterns> {
    Patterns::from_list(list).map_err(|error| Error::Invalid {
        what: "pattern",
        name: error.pattern.clone(),
        reason: error.reason.to_owned(),
    })
}

fn one(found: ListedEntry<'_>, digester: &mut Digester) -> Result<()> {
    header(&found.entry, digester);
    if let Some(content) = found.digest()? {
        digester.update(content.as_bytes());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
