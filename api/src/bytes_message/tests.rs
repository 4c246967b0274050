//! The same on the wire as what is generated.

use prost::Message as _;

use super::*;
use crate::buildkit::moby::{buildkit::v1::BytesMessage, filesync::v1::BytesMessage as Piece};

#[test]
fn it_is_what_the_generated_messages_are() {
    for data in [&b""[..], b"some", &[7; 70_000]] {
        let shared = SharedBytes { data: Bytes::copy_from_slice(data) }.encode_to_vec();
        assert_eq!(shared, BytesMessage { data: data.to_vec() }.encode_to_vec());
        assert_eq!(shared, Piece { data: data.to_vec() }.encode_to_vec());
        let wire = Bytes::from(shared);
        let read = SharedBytes::decode(wire.clone()).expect("a message");
        assert_eq!(read.data, data);
        assert!(data.is_empty() || wire.as_ptr_range().contains(&read.data.as_ptr()), "nothing is copied");
    }
}
