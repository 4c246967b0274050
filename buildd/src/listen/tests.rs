//! Where sockets are made, with which mode, and what is left alone.

use std::os::unix::fs::symlink;

use super::*;

fn address(path: &Path) -> String {
    format!("unix://{}", path.display())
}

#[tokio::test]
async fn api_01_a_socket_takes_no_place_but_its_own() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("sock");
    let (listener, socket) = listen(&address(&path)).expect("a socket");
    assert_eq!(fs::symlink_metadata(&path).expect("it").mode() & 0o7777, SOCKET_MODE);
    assert!(matches!(listen(&address(&path)), Err(ListenError::Busy { .. })));
    drop(listener);
    let (_again, _held) = listen(&address(&path)).expect("nobody answers on the old one");
    drop(socket);
    assert!(UnixStream::connect(&path).is_ok(), "the first one does not remove the second one's");
    let file = dir.path().join("file");
    fs::write(&file, "precious").expect("a file");
    symlink(&file, dir.path().join("link")).expect("a link");
    symlink(dir.path().join("nowhere"), dir.path().join("dangling")).expect("a link");
    for name in ["file", "link", "dangling"] {
        let refused = listen(&address(&dir.path().join(name)));
        assert!(matches!(refused, Err(ListenError::Taken { .. })), "{name}");
    }
    assert_eq!(fs::read_to_string(&file).expect("it"), "precious");
    let names = fs::read_dir(dir.path()).expect("it").count();
    assert_eq!(names, 4, "nothing else is left");
}

#[tokio::test]
async fn api_01_a_socket_of_another_user_stays() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("sock");
    drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket"));
    std::os::unix::fs::lchown(&path, Some(12_345), None).expect("the tests need root");
    assert!(matches!(listen(&address(&path)), Err(ListenError::Taken { .. })));
}

#[tokio::test]
async fn a_path_as_long_as_an_address_may_be_is_listened_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let room = 107 - dir.path().as_os_str().len() - 1;
    let path = dir.path().join("s".repeat(room));
    let (_listener, _socket) = listen(&address(&path)).expect("a socket");
    assert!(UnixStream::connect(&path).is_ok());
}
