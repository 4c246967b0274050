//! Path order: the rule that a list of entries names each path once, parents first, by components.
//!
//! The receiver checks what it is told with it, the sender what it is about to say.
//!
//! # Invariants
//!
//! `a`, `a/b`, `a.b` is the order: a slash sorts before every other byte, as comparing component by component does.

use super::Error;

/// Longest path in bytes, PATH_MAX of Linux: stops one entry from filling memory.
pub const PATH_BYTES: usize = 4096;

/// Remembers the last path and the folders it lies in.
#[derive(Debug, Default)]
pub struct PathOrder {
    previous: Option<String>,
    /// Announced folders that enclose the previous path, outermost first.
    folders: Vec<String>,
}

impl PathOrder {
    /// Accepts the next path, or says why it may not come now.
    pub fn next(&mut self, path: &str, is_directory: bool) -> Result<(), Error> {
        check_path(path)?;
        if let Some(previous) = &self.previous
            && !previous.split('/').lt(path.split('/'))
        {
            return Err(Error::OutOfOrder { path: path.into(), previous: previous.clone() });
        }
        while self.folders.last().is_some_and(|folder| !inside(path, folder)) {
            self.folders.pop();
        }
        let parent = path.rsplit_once('/').map(|(parent, _)| parent);
        if parent != self.folders.last().map(String::as_str) {
            return Err(Error::NoParent { path: path.into() });
        }
        if is_directory {
            self.folders.push(path.into());
        }
        self.previous = Some(path.into());
        Ok(())
    }
}

fn inside(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

/// Whether a path is relative, clean and of bearable length.
pub fn check_path(path: &str) -> Result<(), Error> {
    /// What is kept of a bad path for the message.
    const SHOWN: usize = 200;
    let clean = path.len() <= PATH_BYTES
        && !path.contains('\0')
        && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    if clean { Ok(()) } else { Err(Error::BadPath { path: path.chars().take(SHOWN).collect() }) }
}

#[cfg(test)]
mod tests;
