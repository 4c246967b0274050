//! A tree received whole, and what a hostile sender may not do.
use super::*;
use crate::file_sync::{data, end_of_entries, end_of_file, entry, failure, fin};

fn stat(path: &str, mode: u32, link: &str) -> Stat {
    Stat { path: path.into(), mode, linkname: link.into(), ..Stat::default() }
}

fn listed(stats: &[(&str, u32, &str)]) -> Result<Receiver, Error> {
    let mut receiver = Receiver::default();
    for (path, mode, link) in stats {
        receiver.receive(entry(stat(path, *mode, link)))?;
    }
    Ok(receiver)
}

const DIR: u32 = 1 << 31 | 0o755;
const SOFT: u32 = 1 << 27 | 0o777;

#[test]
fn a_tree_arrives() {
    let mut receiver =
        listed(&[("d", DIR, ""), ("d/f", 0o644, ""), ("e", 0, "d/f"), ("g", 0, "")]).expect("good");
    assert_eq!(receiver.request(1).expect("a file").id, 1);
    assert!(!receiver.is_complete());
    assert_eq!(receiver.receive(end_of_entries()), Ok(Received::EndOfEntries));
    assert_eq!(receiver.receive(data(1, vec![7])), Ok(Received::Data { id: 1, data: vec![7] }));
    assert!(!receiver.is_complete());
    assert_eq!(receiver.receive(fin()), Err(Error::Unexpected { kind: 3 }), "not before the file's end");
    assert_eq!(receiver.receive(end_of_file(1)), Ok(Received::EndOfFile { id: 1 }));
    assert!(receiver.is_complete());
    assert_eq!(receiver.receive(fin()), Ok(Received::Finished));
}

#[test]
fn only_files_can_be_requested_and_once() {
    let mut receiver =
        listed(&[("d", DIR, ""), ("d/f", 0, ""), ("e", 0, "d/f"), ("s", SOFT, "d")]).expect("good");
    for id in [0, 2, 3, 4] {
        assert!(receiver.request(id).is_err(), "{id}");
    }
    assert!(receiver.request(1).is_ok());
    assert!(receiver.request(1).is_err());
}

#[test]
fn hostile_entries_are_refused() {
    let refused = |stats: &[(&str, u32, &str)]| listed(stats).expect_err("hostile");
    assert!(matches!(refused(&[("../x", 0, "")]), Error::BadPath { .. }));
    assert!(matches!(refused(&[("b", 0, ""), ("a", 0, "")]), Error::OutOfOrder { .. }));
    assert!(matches!(refused(&[("s", SOFT, "/etc"), ("s/passwd", 0, "")]), Error::NoParent { .. }));
    assert!(matches!(refused(&[("a", 1 << 30, "")]), Error::BadMode { .. }));
    assert!(matches!(refused(&[("a", 0, "../etc/shadow")]), Error::BadLink { .. }));
    assert!(matches!(refused(&[("d", DIR, ""), ("e", 0, "d")]), Error::BadLink { .. }));
    assert!(matches!(refused(&[("s", SOFT, "")]), Error::BadStat { .. }));
    let mut receiver = Receiver::default();
    let negative = Stat { size: -1, ..stat("a", 0, "") };
    assert!(matches!(receiver.receive(entry(negative)), Err(Error::BadStat { what: "size", .. })));
}

#[test]
fn data_must_have_been_asked_for() {
    let mut receiver = listed(&[("f", 0, "")]).expect("good");
    assert!(matches!(receiver.receive(data(0, vec![1])), Err(Error::BadId { .. })));
    receiver.request(0).expect("a file");
    receiver.receive(end_of_file(0)).expect("the end of an empty file");
    assert!(matches!(receiver.receive(data(0, vec![1])), Err(Error::BadId { .. })));
    receiver.receive(end_of_entries()).expect("the end");
    assert!(matches!(receiver.receive(end_of_entries()), Err(Error::Unexpected { kind: 0 })));
    assert!(matches!(receiver.receive(failure("x")), Err(Error::Remote { .. })));
    let unknown = Packet { r#type: 9, ..Packet::default() };
    assert_eq!(receiver.receive(unknown), Err(Error::Unexpected { kind: 9 }));
}

#[test]
fn random_packets_are_taken_or_refused_and_lead_nowhere() {
    let mut numbers = crate::random::Random::new();
    let mut random = move |below: usize| numbers.below(below);
    let names = ["a", "b", "a/b", "a/..", "../a", "/a", ".", "", "a//b", "b/a", "c", "a\\b", "d/\0"];
    let modes = [0o644, DIR, SOFT, 1 << 30, u32::MAX];
    for _ in 0..20_000 * crate::random::times() {
        let mut receiver = Receiver::default();
        for _ in 0..random(12) {
            let packet = match random(8) {
                0..5 => entry(stat(
                    names[random(names.len())],
                    modes[random(modes.len())],
                    names[random(names.len())],
                )),
                5 => data(u32::try_from(random(4)).expect("small"), vec![7; random(3)]),
                6 => end_of_file(u32::try_from(random(4)).expect("small")),
                _ => end_of_entries(),
            };
            if let Ok(Received::Entry { stat, .. }) = receiver.receive(packet) {
                let clean = |path: &str| path.split('/').all(|part| !matches!(part, "" | "." | ".."));
                assert!(clean(&stat.path) && !stat.path.contains('\0'), "{stat:?}");
            }
            let _ = receiver.request(u32::try_from(random(4)).expect("small"));
        }
    }
}
