//! Streams: the ends of a process's named pipes that its shim holds.
//!
//! Output goes from the process straight into its pipe. The shim keeps a reading end open, so that a client who leaves does not end the
//! process by SIGPIPE and one who comes later finds the pipe. Input is copied, because its end must be told apart from a client that leaves:
//! it ends when the client says so (`CloseStdin`), after what is in the pipe.
//!
//! # Concurrency
//! Opening starts no thread (a container is made by forking); `Input::start` and `terminal` do.
//!
//! # Sources
//! containerd `pkg/process/io.go`, for what a path means.

use std::{
    convert::Infallible,
    fs::{File, OpenOptions},
    io::{self, PipeReader, PipeWriter, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{FileTypeExt, OpenOptionsExt},
    },
    path::Path,
    sync::mpsc::{self, Receiver},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::OFlags,
};

use super::super::protocol::Streams;
use crate::console;

const CHUNK: usize = 32 << 10;

/// The process's ends, and what the shim keeps.
pub(super) struct Opened {
    pub(super) stdin: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    pub(super) kept: Kept,
}

/// What a shim keeps of a process's streams as long as the process is known.
#[derive(Default)]
pub(super) struct Kept {
    input: Option<Input>,
    /// Reading ends of the process's output, which nobody reads here.
    outputs: Vec<File>,
}

/// An input that is copied.
struct Input {
    from: File,
    to: Option<OwnedFd>,
    ended: Option<(PipeReader, PipeWriter)>,
    closing: Option<PipeWriter>,
}

/// Opens the streams of a process without terminal that runs as `uid`.
pub(super) fn open(streams: &Streams, uid: u32) -> io::Result<Opened> {
    let mut kept = Kept::default();
    let stdin = match input(&streams.stdin)? {
        None => File::open("/dev/null")?.into(),
        Some(from) => {
            let (reader, writer) = io::pipe()?;
            kept.input = Some(Input::new(from, Some(writer.into()))?);
            reader.into()
        }
    };
    let stdout = output(&streams.stdout, uid, &mut kept)?;
    let stderr = output(&streams.stderr, uid, &mut kept)?;
    Ok(Opened { stdin, stdout: stdout.into(), stderr: stderr.into(), kept })
}

/// The pipe that a client writes to; open for writing too, so that it does not end when the client leaves.
fn input(path: &str) -> io::Result<Option<File>> {
    if path.is_empty() {
        return Ok(None);
    }
    named(path, opening(OFlags::NONBLOCK).read(true).write(true).open(path)).map(Some)
}

/// How a client's path is opened: what it names itself, never what a link there leads to (API-15).
fn opening(flags: OFlags) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.custom_flags((flags | OFlags::NOFOLLOW).bits().cast_signed());
    options
}

fn output(path: &str, uid: u32, kept: &mut Kept) -> io::Result<File> {
    if path.is_empty() {
        return OpenOptions::new().write(true).open("/dev/null");
    }
    if let Some(path) = path.strip_prefix("file://") {
        return named(path, opening(OFlags::empty()).append(true).create(true).open(path));
    }
    if let Some((scheme, _)) = path.split_once("://") {
        let reason = format!("{path}: no output goes to {scheme}:// here, only to named pipes and file://");
        return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
    }
    if !named(path, std::fs::symlink_metadata(path))?.file_type().is_fifo() {
        return named(path, opening(OFlags::NONBLOCK).append(true).open(path));
    }
    // The reading end comes first: without one, opening to write would wait for the client.
    kept.outputs.push(named(path, opening(OFlags::NONBLOCK).read(true).open(path))?);
    let file = named(path, opening(OFlags::empty()).write(true).open(path))?;
    if uid != 0 {
        // So that a process that is not root can open /dev/stdout again, as runc does.
        let owner = rustix::fs::Uid::from_raw(uid);
        named(path, rustix::fs::fchown(&file, Some(owner), None).map_err(Into::into))?;
    }
    Ok(file)
}

fn named<T>(path: &str, done: io::Result<T>) -> io::Result<T> {
    done.map_err(|error| io::Error::new(error.kind(), format!("open {}: {error}", Path::new(path).display())))
}

impl Input {
    fn new(from: File, to: Option<OwnedFd>) -> io::Result<Self> {
        Ok(Self { from, to, ended: Some(io::pipe()?), closing: None })
    }

    /// Starts copying, to the pipe it was made with or to a terminal.
    fn start(&mut self, terminal: Option<OwnedFd>) -> io::Result<()> {
        let (from, to) = (self.from.try_clone()?, self.to.take().or(terminal));
        let (Some(to), Some((ended, closing))) = (to, self.ended.take()) else {
            return Ok(());
        };
        self.closing = Some(closing);
        std::thread::spawn(move || {
            // A process that no longer reads is no failure: its input just goes nowhere.
            let _ = feed(from, File::from(to), &ended);
        });
        Ok(())
    }
}

impl Kept {
    /// Starts copying input to the process, if there is any.
    pub(super) fn start(&mut self) -> io::Result<()> {
        self.input.as_mut().map_or(Ok(()), |input| input.start(None))
    }

    /// Ends the input, after what is in the pipe.
    pub(super) fn close_input(&mut self) {
        if let Some(input) = &mut self.input {
            input.closing = None;
        }
    }

    /// Gives up the reading ends: what nobody else reads holds up no writer any more.
    pub(super) fn close_outputs(&mut self) {
        self.outputs.clear();
    }
}

/// Copies until `ended` ends and nothing is left.
fn feed(mut from: File, mut to: File, ended: &PipeReader) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let mut ready = [
            PollFd::from_borrowed_fd(from.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(ended.as_fd(), PollFlags::IN),
        ];
        match poll(&mut ready, None) {
            Err(rustix::io::Errno::INTR) => continue,
            polled => polled?,
        };
        let closing = !ready[1].revents().is_empty();
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => to.write_all(&buffer[..n])?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && closing => return Ok(()),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Connects a terminal with the client's pipes; the thread ends with the last process that has the terminal open, and what is returned with it.
pub(super) fn terminal(streams: &Streams, master: &OwnedFd) -> io::Result<(Kept, Receiver<Infallible>)> {
    let mut kept = Kept::default();
    let out = output(&streams.stdout, 0, &mut kept)?;
    if let Some(from) = input(&streams.stdin)? {
        let mut copied = Input::new(from, None)?;
        copied.start(Some(master.try_clone()?))?;
        kept.input = Some(copied);
    }
    let from = File::from(master.try_clone()?);
    let (copying, copied) = mpsc::channel();
    std::thread::spawn(move || {
        console::copy(from, out);
        drop(copying);
    });
    Ok((kept, copied))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn api_15_a_link_in_the_place_of_a_pipe_is_not_followed() {
        let dir = tempfile::tempdir().expect("a folder");
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        std::fs::write(&file, "precious").expect("a file");
        symlink(&file, &link).expect("a link");
        let path = link.to_str().expect("ASCII");
        let mut kept = Kept::default();
        assert!(input(path).is_err() && output(path, 0, &mut kept).is_err());
        assert!(output(&format!("file://{path}"), 0, &mut kept).is_err());
        assert!(output("binary:///bin/sh", 0, &mut kept).is_err(), "no program of the host is started");
        assert_eq!(std::fs::read_to_string(&file).expect("it"), "precious");
    }
}
