//! Readers: connections that read beside the one that writes, and never wait for it.
//!
//! A look takes one that is idle, opens one if there are fewer than `MOST`, and else waits for one: looks are short. What a transaction committed
//! before a look began is seen by it.

use std::{
    path::{Path, PathBuf},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use rusqlite::{Connection, OpenFlags};

use super::BUSY;

/// Readers of one database.
const MOST: usize = 4;

/// The readers of one database.
#[derive(Debug)]
pub(super) struct Readers {
    path: PathBuf,
    state: Mutex<State>,
    returned: Condvar,
}

#[derive(Debug, Default)]
struct State {
    idle: Vec<Connection>,
    open: usize,
}

impl Readers {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), state: Mutex::default(), returned: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks in one consistent view.
    pub(super) fn look<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let mut reader = self.take()?;
        let connection = reader.connection.as_mut().expect("it is given back when dropped");
        let tx = connection.transaction()?;
        let found = work(&tx)?;
        tx.commit()?;
        Ok(found)
    }

    fn take(&self) -> rusqlite::Result<Reader<'_>> {
        let mut state = self.lock();
        loop {
            if let Some(idle) = state.idle.pop() {
                return Ok(Reader { readers: self, connection: Some(idle) });
            }
            if state.open < MOST {
                state.open += 1;
                drop(state);
                // If it cannot be opened, its place goes back.
                let mut reader = Reader { readers: self, connection: None };
                reader.connection = Some(open(&self.path)?);
                return Ok(reader);
            }
            state = self.returned.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A connection that only reads.
pub(super) fn open(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    Ok(connection)
}

/// A reader that somebody looks through.
struct Reader<'a> {
    readers: &'a Readers,
    connection: Option<Connection>,
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        let mut state = self.readers.lock();
        match self.connection.take() {
            Some(connection) => state.idle.push(connection),
            None => state.open -= 1,
        }
        self.readers.returned.notify_one();
    }
}
