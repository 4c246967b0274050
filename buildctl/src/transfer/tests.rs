//! Envelopes.
use super::*;

#[test]
fn envelopes() {
    let update = WindowUpdate { update: 5 };
    let mut envelope = any(&update);
    assert_eq!(envelope.type_url, "containerd.types.transfer.WindowUpdate");
    assert_eq!(from_any::<WindowUpdate>(&envelope).expect("whole"), Some(update));
    assert_eq!(from_any::<Data>(&envelope).expect("another"), None);
    envelope.type_url = "type.googleapis.com/containerd.types.transfer.WindowUpdate".to_owned();
    assert!(from_any::<WindowUpdate>(&envelope).expect("whole").is_some());
    envelope.value = vec![0xff];
    assert!(from_any::<WindowUpdate>(&envelope).is_err());
}
