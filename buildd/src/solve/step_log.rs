//! Step log: what a step prints, as far as its watchers can read it, and all of it in a file where it is more than that.
//!
//! Watchers see the first [`HEAD`] bytes as they come and the last [`TAIL`] when the step ends; between them stand the file that has the whole,
//! and how much was left out. A step that prints less has no file.
//!
//! # On disk
//! ```text
//! <root>/logs/<build>/<n>.log    <build> is a hash of the client's id, <n> counts the steps of a build that were clipped
//! ```
//! The folders of the last [`KEPT_BUILDS`] builds are kept, as far as they have no more than [`KEPT_BYTES`] together. A log is a comfort: one that
//! cannot be written is told in its place and fails no build.

use std::{
    collections::{HashMap, VecDeque},
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use buildd_api::buildkit::moby::buildkit::v1::{StatusResponse, VertexLog};
use buildd_oci::digest::Digest;

/// Bytes of a step that are shown as they come: BuildKit's figure.
const HEAD: usize = 2 << 20;
/// Bytes of a step that are shown when it ends.
const TAIL: usize = 256 << 10;
/// Bytes of one build that are written: stops `RUN yes` from filling the disk.
const MAX_WRITTEN: u64 = 1 << 30;
/// Builds whose files are kept.
const KEPT_BUILDS: usize = 64;
/// Bytes that all files may have together; those of the newest build are kept in any case.
const KEPT_BYTES: u64 = 4 << 30;
/// The folder of all logs.
const FOLDER: &str = "logs";

/// What the steps of one build print.
#[derive(Debug)]
pub(super) struct StepLogs {
    logs: PathBuf,
    folder: PathBuf,
    steps: HashMap<String, StepLog>,
    clipped: usize,
    written: u64,
}

/// What one step prints.
#[derive(Debug)]
enum StepLog {
    /// All of it is shown.
    Short(Vec<u8>),
    /// Only its ends are.
    Long(Long),
}

#[derive(Debug)]
struct Long {
    /// None: it cannot be written, or no more of it.
    file: Option<File>,
    path: PathBuf,
    tail: VecDeque<VertexLog>,
    tail_bytes: usize,
    left_out: u64,
}

impl StepLogs {
    /// Those of the build `id`, with files below the daemon's root.
    pub(super) fn new(root: &Path, id: &str) -> Self {
        let logs = root.join(FOLDER);
        let folder = logs.join(&Digest::of(id.as_bytes()).hex()[..16]);
        Self { logs, folder, steps: HashMap::new(), clipped: 0, written: 0 }
    }

    /// What watchers see of a message; blocks where there is something to write.
    pub(super) fn pass(&mut self, mut message: StatusResponse) -> Vec<StatusResponse> {
        let logs = std::mem::take(&mut message.logs);
        message.logs = logs.into_iter().filter_map(|log| self.log(log)).collect();
        let mut messages = Vec::new();
        for vertex in message.vertexes.iter().filter(|vertex| vertex.completed.is_some()) {
            if let Some(StepLog::Long(long)) = self.steps.remove(&vertex.digest) {
                messages.push(StatusResponse { logs: long.end(), ..StatusResponse::default() });
            }
        }
        messages.push(message);
        messages
    }

    /// Whether passing a message on would write.
    pub(super) fn blocks(&self, message: &StatusResponse) -> bool {
        message.logs.iter().any(|log| match self.steps.get(&log.vertex) {
            None => log.msg.len() > HEAD,
            Some(StepLog::Short(shown)) => shown.len() + log.msg.len() > HEAD,
            Some(StepLog::Long(_)) => true,
        })
    }

    fn log(&mut self, log: VertexLog) -> Option<VertexLog> {
        let step = self.steps.entry(log.vertex.clone()).or_insert_with(|| StepLog::Short(Vec::new()));
        match step {
            StepLog::Short(shown) if shown.len() + log.msg.len() <= HEAD => {
                shown.extend(&log.msg);
                Some(log)
            }
            StepLog::Short(shown) => {
                let shown = std::mem::take(shown);
                let (long, word) = self.open(&shown, log);
                self.steps.insert(word.vertex.clone(), StepLog::Long(long));
                Some(word)
            }
            StepLog::Long(long) => long.take(log, &mut self.written),
        }
    }

    /// Begins the file of a step; the word about it that is shown in place of what no longer is.
    fn open(&mut self, shown: &[u8], log: VertexLog) -> (Long, VertexLog) {
        self.clipped += 1;
        let path = self.folder.join(format!("{}.log", self.clipped));
        let opened = self.create(&path).and_then(|mut file| {
            file.write_all(shown)?;
            Ok(file)
        });
        let mebibytes = HEAD >> 20;
        let whole = match &opened {
            Ok(_) => format!("all of it is in {} where buildd runs", path.display()),
            Err(error) => format!("the rest is lost, {} cannot be written: {error}", path.display()),
        };
        let word = format!(
            "\n[the output is longer than {mebibytes} MiB: its end follows when the step ends; {whole}]\n"
        );
        let word = VertexLog { msg: word.into_bytes(), ..log.clone() };
        self.written += shown.len() as u64;
        let mut long = Long { file: opened.ok(), path, tail: VecDeque::new(), tail_bytes: 0, left_out: 0 };
        long.take(log, &mut self.written);
        (long, word)
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        fs::create_dir_all(&self.folder)?;
        prune(&self.logs, &self.folder)?;
        File::create(path)
    }
}

impl Long {
    /// Takes what is not shown now; a word for the watchers if it cannot be written any more.
    fn take(&mut self, log: VertexLog, written: &mut u64) -> Option<VertexLog> {
        let mut word = None;
        if let Some(file) = &mut self.file {
            *written += log.msg.len() as u64;
            let failed = match *written > MAX_WRITTEN {
                true => Some(format!("the output of this build is longer than {} MiB", MAX_WRITTEN >> 20)),
                false => file.write_all(&log.msg).err().map(|error| error.to_string()),
            };
            if let Some(reason) = failed {
                self.file = None;
                let path = self.path.display();
                let text = format!("\n[no more is written to {path}: {reason}]\n");
                word = Some(VertexLog { msg: text.into_bytes(), ..log.clone() });
            }
        }
        self.tail_bytes += log.msg.len();
        self.tail.push_back(log);
        while let Some(first) = self.tail.front()
            && self.tail_bytes - first.msg.len() >= TAIL
        {
            self.tail_bytes -= first.msg.len();
            self.left_out += first.msg.len() as u64;
            self.tail.pop_front();
        }
        word
    }

    /// The end of the output, after a word about what is missing before it.
    fn end(mut self) -> Vec<VertexLog> {
        let mut logs = Vec::new();
        if let Some(first) = self.tail.front()
            && self.left_out > 0
        {
            let (bytes, path) = (self.left_out, self.path.display());
            let text = match self.file.is_some() {
                true => format!("\n[{bytes} bytes are not shown; they are in {path} where buildd runs]\n"),
                false => {
                    format!("\n[{bytes} bytes are not shown; as many as could be written are in {path}]\n")
                }
            };
            logs.push(VertexLog { msg: text.into_bytes(), ..first.clone() });
        }
        logs.extend(self.tail.drain(..));
        logs
    }
}

/// Removes the folders of older builds, beyond what is kept.
fn prune(logs: &Path, newest: &Path) -> io::Result<()> {
    let mut folders: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in fs::read_dir(logs)? {
        let entry = entry?;
        if entry.path() != newest {
            folders.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    folders.sort();
    let (mut kept, mut bytes) = (1, 0);
    for (_, folder) in folders.into_iter().rev() {
        let size = size(&folder)?;
        if kept >= KEPT_BUILDS || bytes + size > KEPT_BYTES {
            fs::remove_dir_all(&folder)?;
        } else {
            (kept, bytes) = (kept + 1, bytes + size);
        }
    }
    Ok(())
}

fn size(folder: &Path) -> io::Result<u64> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.metadata()?.len())).sum()
}

#[cfg(test)]
mod tests;
