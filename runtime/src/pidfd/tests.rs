//! Signals go to the process that is meant, whoever has its number since.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
};

use super::*;

/// The last number that was given out.
const LAST: &str = "/proc/sys/kernel/ns_last_pid";
/// Others start processes meanwhile: how often to try.
const TRIES: usize = 1000;

fn cat() -> Child {
    let mut command = Command::new("cat");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("start cat")
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

/// Ends and reaps a process: its number is free.
fn end(mut child: Child) {
    child.kill().and_then(|()| child.wait()).expect("end our own child");
}

#[test]
fn a_process_gets_the_signal_and_one_that_ended_is_no_error() {
    let mut child = cat();
    let process = Pidfd::open(pid(&child)).expect("it lives");
    process.send(Signal::SIGKILL).expect("it lives");
    let status = child.wait().expect("our child");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    process.send(Signal::SIGKILL).expect("it is reaped, which is no error");
    assert!(Pidfd::open(Pid::from_raw(i32::MAX)).is_err(), "no process has this number");
}

#[test]
fn who_got_the_number_of_a_process_that_ended_is_not_signalled() {
    let first = cat();
    let number = pid(&first);
    let process = Pidfd::open(number).expect("it lives");
    end(first);
    let again = (0..TRIES).find_map(|_| {
        fs::write(LAST, (number.as_raw() - 1).to_string()).expect("this test needs root");
        let other = cat();
        if pid(&other) == number {
            return Some(other);
        }
        end(other);
        None
    });
    let mut again = again.expect("another process gets the number");
    process.send(Signal::SIGKILL).expect("whom it meant has ended");
    let (mut say, hear) = (again.stdin.take().expect("piped"), again.stdout.take().expect("piped"));
    say.write_all(b"alive\n").expect("it reads");
    let mut line = String::new();
    BufReader::new(hear).read_line(&mut line).expect("it writes");
    assert_eq!(line, "alive\n", "a stranger was killed");
    end(again);
}
