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
    ops::ControlFlow,
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
    let mut entries = Vec::new();
    walk_each(root, options, &mut |entry| {
        entries.push(entry);
        ControlFlow::Continue(())
    })?;
    Ok(entries)
}

/// Gives every entry below `root` that the options let through to `take`, as it is found, until `take` wants no more.
pub fn walk_each(
    root: &Path,
    options: &WalkOptions,
    take: &mut dyn FnMut(WalkEntry) -> ControlFlow<()>,
) -> Result<(), WalkError> {
    let mut include = options.include.clone();
    if !options.follow.is_empty() {
        include.extend(follow_links(root, &options.follow));
    }
    let everything = include.iter().any(|pattern| pattern.is_empty() || pattern == "." || pattern == "/");
    let include = if everything { Patterns::default() } else { Patterns::from_list(&include)? };
    let exclude = Patterns::from_list(&options.exclude)?;
    let mut walk = Walk { root, include, exclude, pending: Vec::new(), take };
    match walk.folder("", 0) {
        Ok(()) | Err(Stop::Enough) => Ok(()),
        Err(Stop::Failed(error)) => Err(error),
    }
}

struct Walk<'a> {
    root: &'a Path,
    include: Patterns,
    exclude: Patterns,
    /// Folders on the way down that nothing below was given of yet.
    pending: Vec<WalkEntry>,
    take: &'a mut dyn FnMut(WalkEntry) -> ControlFlow<()>,
}

/// Why a walk ends before its end.
enum Stop {
    Enough,
    Failed(WalkError),
}

impl From<WalkError> for Stop {
    fn from(error: WalkError) -> Self {
        Self::Failed(error)
    }
}

impl Walk<'_> {
    fn folder(&mut self, path: &str, depth: usize) -> Result<(), Stop> {
        let full = self.root.join(path);
        if depth > MAX_DEPTH {
            return Err(WalkError::Depth { path: full }.into());
        }
        for (name, meta) in listed(&full)? {
            let child = if path.is_empty() { name } else { format!("{path}/{name}") };
            self.entry(child, meta, depth)?;
        }
        Ok(())
    }

    fn entry(&mut self, path: String, meta: fs::Metadata, depth: usize) -> Result<(), Stop> {
        let excluded = self.exclude.matches(&path);
        if excluded && !(meta.is_dir() && self.exclude.has_exclusions()) {
            return Ok(());
        }
        let included = self.include.is_empty() || self.include.matches(&path);
        let folder = meta.is_dir();
        if !folder && !included {
            return Ok(());
        }
        let link = if meta.is_symlink() { Some(target(self.root.join(&path))?) } else { None };
        let below = folder.then(|| path.clone());
        let entry = WalkEntry { path, meta, link };
        if included && !excluded {
            for above in self.pending.drain(..) {
                give(self.take, above)?;
            }
            give(self.take, entry)?;
        } else if folder {
            self.pending.push(entry);
        }
        let Some(path) = below else { return Ok(()) };
        if included || self.include.may_match_below(&path) {
            self.folder(&path, depth + 1)?;
        }
        if self.pending.last().is_some_and(|last| last.path == path) {
            self.pending.pop();
        }
        Ok(())
    }
}

fn give(take: &mut dyn FnMut(WalkEntry) -> ControlFlow<()>, entry: WalkEntry) -> Result<(), Stop> {
    match take(entry) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Stop::Enough),
    }
}

/// What is in a folder, sorted. The folder is closed again before anything below it is opened.
fn listed(folder: &Path) -> Result<Vec<(String, fs::Metadata)>, WalkError> {
    let fail = |path: &Path| {
        let path = path.to_owned();
        move |source| WalkError::Read { path, source }
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(fail(folder))? {
        let entry = entry.map_err(fail(folder))?;
        let meta = match entry.metadata() {
            Ok(meta) => meta,
            // Deleted since the folder was read: it is not part of the tree.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(fail(&entry.path())(error)),
        };
        let name = entry.file_name().into_string();
        found.push((name.map_err(|name| WalkError::Name { path: folder.join(name) })?, meta));
    }
    found.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    Ok(found)
}

fn target(link: PathBuf) -> Result<String, WalkError> {
    match fs::read_link(&link) {
        Ok(target) => target.into_os_string().into_string().map_err(|_| WalkError::Name { path: link }),
        Err(source) => Err(WalkError::Read { path: link, source }),
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
