//! What a sender announces and which requests it refuses.
use super::*;
use crate::file_sync::{failure, fin};

fn stat(path: &str, mode: u32, link: &str) -> Stat {
    Stat { path: path.into(), mode, linkname: link.into(), ..Stat::default() }
}

fn request(id: u32) -> Packet {
    Packet { r#type: PacketType::PacketReq as i32, id, ..Packet::default() }
}

fn sender() -> Sender {
    let mut sender = Sender::default();
    for (path, mode, link) in
        [("d", 1 << 31 | 0o755, ""), ("d/file", 0o644, ""), ("hard", 0o644, "d/file"), ("soft", 1 << 27, "d")]
    {
        let packet = sender.announce(stat(path, mode, link)).expect("in order");
        assert_eq!(packet.stat.expect("a stat").path, path);
    }
    sender
}

#[test]
fn a_file_may_be_asked_for_once() {
    let mut sender = sender();
    assert_eq!(sender.receive(&request(1)), Ok(Requested::File(1)));
    assert!(matches!(sender.receive(&request(1)), Err(Error::BadId { id: 1, .. })));
    assert_eq!(sender.receive(&fin()), Ok(Requested::Finish));
}

#[test]
fn all_else_may_not() {
    for id in [0, 2, 3, 4, u32::MAX] {
        assert!(matches!(sender().receive(&request(id)), Err(Error::BadId { .. })), "{id}");
    }
    assert!(matches!(sender().receive(&end_of_entries()), Err(Error::Unexpected { kind: 0 })));
    assert_eq!(sender().receive(&failure("no space")), Err(Error::Remote { message: "no space".into() }));
}
