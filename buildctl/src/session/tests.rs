//! A session served over a pipe in memory, with the daemon's end of each service played by the test.

use std::{collections::BTreeMap, fs, path::Path, sync::Mutex};

use buildd_api::{
    buildkit::moby::{
        buildkit::secrets::v1::{GetSecretRequest, secrets_client::SecretsClient},
        filesync::{
            packet::file_send_client::FileSendClient as TreeSendClient,
            v1::{
                BytesMessage as Chunk, file_send_client::FileSendClient as ArchiveSendClient,
                file_sync_client::FileSyncClient,
            },
        },
    },
    file_sync::{self, Packet, Received, Receiver, Requested, Sender, Stat},
};
use futures::StreamExt as _;
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;

use super::*;

async fn daemon_end(options: SessionOptions) -> Channel {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let (read, write) = tokio::io::split(ours);
    tokio::spawn(serve(Pipe { read: Box::new(read), write: Box::new(write) }, options));
    let once = Mutex::new(Some(TokioIo::new(theirs)));
    let connector = tower::service_fn(move |_| {
        let io = once.lock().expect("not poisoned").take();
        async move { io.ok_or_else(|| io::Error::other("gone")) }
    });
    Endpoint::from_static("http://localhost").connect_with_connector(connector).await.expect("HTTP/2")
}

fn with<S>(stream: S, headers: &[(&'static str, &str)]) -> Request<S> {
    let mut request = Request::new(stream);
    for (key, value) in headers {
        request.metadata_mut().append(*key, value.parse().expect("ASCII"));
    }
    request
}

/// Fetches everything that the filters leave; paths with their contents, folders without.
async fn fetch(channel: Channel, headers: &[(&'static str, &str)]) -> BTreeMap<String, Option<Vec<u8>>> {
    let (packets, stream) = mpsc::channel(1024);
    let mut incoming = FileSyncClient::new(channel)
        .diff_copy(with(ReceiverStream::new(stream), headers))
        .await
        .expect("a stream")
        .into_inner();
    let mut receiver = Receiver::default();
    let (mut names, mut found) = (BTreeMap::new(), BTreeMap::new());
    let mut finishing = false;
    while let Some(packet) = incoming.message().await.expect("a packet") {
        match receiver.receive(packet).expect("good manners") {
            Received::Entry { id, kind, stat } => {
                assert_eq!((stat.uid, stat.gid), (0, 0));
                let file = kind == file_sync::Kind::File;
                found.insert(stat.path.clone(), file.then(Vec::new));
                names.insert(id, stat.path);
                if file {
                    packets.send(receiver.request(id).expect("a file")).await.expect("sent");
                }
            }
            Received::Data { id, data } => {
                found.get_mut(&names[&id]).and_then(Option::as_mut).expect("announced").extend(data);
            }
            Received::Finished => return found,
            Received::EndOfEntries | Received::EndOfFile { .. } => {}
        }
        if receiver.is_complete() && !finishing {
            finishing = true;
            packets.send(file_sync::fin()).await.expect("sent");
        }
    }
    panic!("no end")
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_are_sent_filtered() {
    let dir = tempfile::tempdir().expect("a folder");
    let large = vec![7; 100_000];
    fs::create_dir(dir.path().join("sub")).expect("a folder");
    fs::write(dir.path().join("sub/large"), &large).expect("a file");
    fs::write(dir.path().join("empty"), "").expect("a file");
    fs::write(dir.path().join("x.log"), "x").expect("a file");
    let locals = BTreeMap::from([("context".to_owned(), dir.path().to_owned())]);
    let channel = daemon_end(SessionOptions { locals, ..SessionOptions::default() }).await;
    let found = fetch(channel.clone(), &[("dir-name", "context"), ("exclude-patterns", "*.log")]).await;
    let expected = [
        ("empty".to_owned(), Some(Vec::new())),
        ("sub".to_owned(), None),
        ("sub/large".to_owned(), Some(large)),
    ];
    assert!(found == BTreeMap::from(expected), "{:?}", found.keys());
    let found = fetch(channel.clone(), &[("dir-name", "context"), ("include-patterns", "x.log")]).await;
    assert_eq!(found.into_keys().collect::<Vec<_>>(), ["x.log"]);
    let (_packets, stream) = mpsc::channel(1);
    let unknown = FileSyncClient::new(channel)
        .diff_copy(with(ReceiverStream::new(stream), &[("dir-name", "other")]))
        .await;
    assert_eq!(unknown.expect_err("no such folder").code(), tonic::Code::NotFound);
}

/// Sends one folder with one file, as the daemon does for `type=local`.
async fn send_tree(channel: Channel, text: &[u8]) -> Result<(), tonic::Status> {
    let (packets, stream) = mpsc::channel(64);
    let mut sender = Sender::default();
    let stat =
        |path: &str, mode: u32| Stat { path: path.into(), mode, mod_time: 5_000_000_000, ..Stat::default() };
    for stat in [stat("d", 1 << 31 | 0o755), stat("d/f", 0o640)] {
        packets.send(sender.announce(stat).expect("in order")).await.expect("sent");
    }
    packets.send(sender.end()).await.expect("sent");
    let headers = [("buildkit-attachable-exporter-id", "0")];
    let mut incoming = TreeSendClient::new(channel)
        .diff_copy(with(ReceiverStream::new(stream), &headers))
        .await?
        .into_inner();
    while let Some(packet) = incoming.message().await? {
        let packet: Packet = packet;
        match sender.receive(&packet).map_err(|e| tonic::Status::internal(e.to_string()))? {
            Requested::File(id) => {
                packets.send(file_sync::data(id, text.to_vec())).await.expect("sent");
                packets.send(file_sync::end_of_file(id)).await.expect("sent");
            }
            Requested::Finish => packets.send(file_sync::fin()).await.expect("sent"),
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_is_received_and_never_through_a_link() {
    use std::os::unix::fs::{MetadataExt as _, symlink};
    let (dir, outside) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    symlink(outside.path(), dir.path().join("d")).expect("a link in the way");
    let targets = vec![Some(Target::Directory(dir.path().to_owned()))];
    let channel = daemon_end(SessionOptions { targets, ..SessionOptions::default() }).await;
    send_tree(channel, b"hello").await.expect("received");
    let file = dir.path().join("d/f");
    assert_eq!(fs::read(&file).expect("a file"), b"hello");
    let metadata = fs::symlink_metadata(&file).expect("a file");
    assert_eq!((metadata.mode() & 0o7777, metadata.mtime()), (0o640, 5));
    assert_eq!(fs::read_dir(outside.path()).expect("a folder").count(), 0);
}

async fn send_archive(target: &Path, whole: bool) -> Result<(), tonic::Status> {
    let targets = vec![None, Some(Target::File(target.to_owned()))];
    let channel = daemon_end(SessionOptions { targets, ..SessionOptions::default() }).await;
    let chunks = futures::stream::iter([Chunk { data: b"part".to_vec() }]);
    let headers = [("buildkit-attachable-exporter-id", "1")];
    let mut client = ArchiveSendClient::new(channel);
    if whole {
        let mut answers = client.diff_copy(with(chunks, &headers)).await?.into_inner();
        while answers.message().await?.is_some() {}
        return Ok(());
    }
    // The call is dropped when its first piece is here, before its end, which is never declared.
    let call = client.diff_copy(with(chunks.chain(futures::stream::pending()), &headers));
    let folder = target.parent().expect("a folder");
    tokio::select! {
        _ = call => unreachable!("an answer before the end"),
        () = until(|| names(folder).len() == 1) => {}
    }
    // Its temporary file goes away, or becomes the target.
    until(|| names(folder).iter().all(|name| folder.join(name) == target)).await;
    Ok(())
}

fn names(folder: &Path) -> Vec<std::ffi::OsString> {
    fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name()).collect()
}

/// Looks until it is so.
async fn until(holds: impl Fn() -> bool) {
    let looking = async {
        while !holds() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), looking).await.expect("in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_is_there_whole_or_not_at_all() {
    let dir = tempfile::tempdir().expect("a folder");
    let target = dir.path().join("x.tar");
    send_archive(&target, false).await.expect("dropped");
    assert!(!target.exists());
    send_archive(&target, true).await.expect("received");
    assert_eq!(fs::read(&target).expect("a file"), b"part");
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_given_by_id() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), "s3cret").expect("written");
    let (id, secret) = Secret::parse(&format!("id=a,src={}", file.path().display())).expect("good");
    let secrets = BTreeMap::from([(id, secret)]);
    let channel = daemon_end(SessionOptions { secrets, ..SessionOptions::default() }).await;
    let mut client = SecretsClient::new(channel);
    let ask = |id: &str| GetSecretRequest { id: id.to_owned(), ..GetSecretRequest::default() };
    assert_eq!(client.get_secret(ask("a")).await.expect("given").into_inner().data, b"s3cret");
    assert_eq!(client.get_secret(ask("b")).await.expect_err("not given").code(), tonic::Code::NotFound);
}
