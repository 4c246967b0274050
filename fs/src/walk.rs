//! Walk: a tree's entries in the order of the file-sync protocol, filtered.
//!
//! Folders come before what they hold, names in byte order component by component: `a`, `a/b`, `a.c`. A folder that only
//! leads to an included path is given when the first such path is.
//!
//! # Sources
//! fsutil `walker.go`, `filter.go`, `followlinks.go`.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use crate::pattern::{PatternError, Patterns};

/// Deepest tree that is walked.
const MAX_DEPTH: usize = 2000;
/// Most links that are followed for one path.
const MAX_LINKS: usize = 255;

/// What to leave out.
#[derive(Clone, Debug, Default)]
pub struct WalkOptions {
    /// Give only what matches; all, if empty.
    pub include: Vec<String>,
    /// Leave out what matches.
    pub exclude: Vec<String>,
    /// Give only these paths (wildcards allowed), and what links on their way point at; all, if empty.
    pub follow: Vec<String>,
}

/// One file, folder, link or device.
#[derive(Clone, Debug)]
pub struct WalkEntry {
    /// Relative path with slashes.
    pub path: String,
    /// Its metadata, links not followed.
    pub meta: fs::Metadata,
    /// Where a symbolic link points.
    pub link: Option<String>,
}

/// A tree that cannot be walked.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// A pattern cannot be read.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// A file or folder cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A name is not UTF-8, which the protocol cannot carry.
    #[error("{}: the name is not UTF-8", path.display())]
    Name {
        /// Which.
        path: PathBuf,
    },
    /// The tree is deeper than any sane one.
    #[error("{}: nested deeper than {MAX_DEPTH} folders", path.display())]
    Depth {
        /// Where.
        path: PathBuf,
    },
}

/// Every entry below `root` that the options let through.
pub fn walk(root: &Path, options: &WalkOptions) -> Result<Vec<WalkEntry>, WalkError> {
    let mut include = options.include.clone();
    if !options.follow.is_empty() {
        include.extend(follow_links(root, &options.follow));
    }
    let everything = include.iter().any(|pattern| pattern.is_empty() || pattern == "." || pattern == "/");
    let include = if everything { Patterns::default() } else { Patterns::from_list(&include)? };
    let exclude = Patterns::from_list(&options.exclude)?;
    let mut walk = Walk { root, include, exclude, pending: Vec::new(), entries: Vec::new() };
    walk.folder("", 0)?;
    Ok(walk.entries)
}

struct Walk<'a> {
    root: &'a Path,
    include: Patterns,
    exclude: Patterns,
    /// Folders on the way down that nothing below was given of yet.
    pending: Vec<WalkEntry>,
    entries: Vec<WalkEntry>,
}

impl Walk<'_> {
    fn folder(&mut self, path: &str, depth: usize) -> Result<(), WalkError> {
        let full = self.root.join(path);
        if depth > MAX_DEPTH {
            return Err(WalkError::Depth { path: full });
        }
        let fail = |source| WalkError::Read { path: full.clone(), source };
        let mut names = Vec::new();
        for entry in fs::read_dir(&full).map_err(fail)? {
            let name = entry.map_err(fail)?.file_name();
            names.push(name.into_string().map_err(|name| WalkError::Name { path: full.join(name) })?);
        }
        names.sort_unstable();
        for name in names {
            let child = if path.is_empty() { name } else { format!("{path}/{name}") };
            self.entry(child, depth)?;
        }
        Ok(())
    }

    fn entry(&mut self, path: String, depth: usize) -> Result<(), WalkError> {
        let full = self.root.join(&path);
        let fail = |source| WalkError::Read { path: full.clone(), source };
        let excluded = self.exclude.matches(&path);
        let meta = match fs::symlink_metadata(&full) {
            Ok(meta) => meta,
            // Deleted since the folder was read: it is not part of the tree.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(fail(error)),
        };
        if excluded && !(meta.is_dir() && self.exclude.has_exclusions()) {
            return Ok(());
        }
        let included = self.include.is_empty() || self.include.matches(&path);
        if !meta.is_dir() && !included {
            return Ok(());
        }
        let link = if meta.is_symlink() {
            let target = fs::read_link(&full).map_err(fail)?;
            Some(target.into_os_string().into_string().map_err(|_| WalkError::Name { path: full.clone() })?)
        } else {
            None
        };
        let folder = meta.is_dir();
        let entry = WalkEntry { path: path.clone(), meta, link };
        if included && !excluded {
            self.entries.append(&mut self.pending);
            self.entries.push(entry);
        } else if folder {
            self.pending.push(entry);
        }
        if folder && (included || self.include.may_match_below(&path)) {
            self.folder(&path, depth + 1)?;
        }
        if folder && self.pending.last().is_some_and(|last| last.path == path) {
            self.pending.pop();
        }
        Ok(())
    }
}

/// The paths that reading `follow` touches: links on the way and what they point at, as include patterns.
pub fn follow_links(root: &Path, follow: &[String]) -> Vec<String> {
    let mut found = BTreeSet::new();
    for path in follow {
        let parts: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        follow_one(root, Vec::new(), parts, &mut found, 0);
    }
    found.into_iter().collect()
}

fn follow_one(
    root: &Path,
    mut done: Vec<String>,
    rest: Vec<String>,
    found: &mut BTreeSet<String>,
    links: usize,
) {
    let mut rest = std::collections::VecDeque::from(rest);
    while let Some(part) = rest.pop_front() {
        match part.as_str() {
            "." => continue,
            ".." => {
                done.pop();
                continue;
            }
            _ => {}
        }
        if part.contains(['*', '?', '[']) {
            for name in children(root, &done, &part) {
                let more = std::iter::once(name).chain(rest.iter().cloned()).collect();
                follow_one(root, done.clone(), more, found, links);
            }
            done.push(part);
            done.extend(rest);
            found.insert(done.join("/"));
            return;
        }
        done.push(part);
        let Ok(target) = fs::read_link(root.join(done.join("/"))) else { continue };
        if links >= MAX_LINKS {
            return;
        }
        found.insert(done.join("/"));
        done.pop();
        let Some(target) = target.to_str() else { return };
        let base = if target.starts_with('/') { Vec::new() } else { done };
        let more = target.split('/').filter(|p| !p.is_empty()).map(str::to_owned).chain(rest).collect();
        return follow_one(root, base, more, found, links + 1);
    }
    found.insert(done.join("/"));
}

fn children(root: &Path, folder: &[String], pattern: &str) -> Vec<String> {
    let Ok(patterns) = Patterns::from_list(&[pattern]) else { return Vec::new() };
    let Ok(entries) = fs::read_dir(root.join(folder.join("/"))) else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|e| e.file_name().into_string().ok())
        .filter(|name| patterns.matches(name))
        .collect()
}

#[cfg(test)]
mod tests;
