//! Clients that say nothing.

use super::*;

/// Short, so that the test need not wait: what is tested is that there is an end, and how it is called.
const SHORT: Duration = Duration::from_millis(50);

#[tokio::test(flavor = "multi_thread")]
async fn an_import_and_an_export_end_when_their_client_is_silent() {
    let stream = || {
        let (client, incoming) = mpsc::channel(QUEUE);
        let (outgoing, messages) = mpsc::channel(QUEUE);
        (Stream { incoming, outgoing }, client, messages)
    };
    let (import, client, mut messages) = stream();
    let data = envelope(&Data { data: b"half".to_vec() });
    client.send(data).await.expect("room");
    let mut reader = import.into_reader_within(SHORT);
    let reading = std::thread::spawn(move || {
        let mut read = Vec::new();
        (reader.read_to_end(&mut read), read)
    });
    let (ended, read) =
        tokio::task::spawn_blocking(|| reading.join().expect("no panic")).await.expect("an end");
    assert_eq!(read, b"half", "what came before is read");
    let error = ended.expect_err("the client sends nothing more, and does not end");
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(error.to_string().starts_with("the client has sent nothing for"), "{error}");
    let credit = messages.recv().await.expect("credit").expect("no failure");
    assert!(open::<WindowUpdate>(&credit).expect("a message").is_some());
    assert!(messages.recv().await.is_none(), "the call has ended");

    let (export, _client, _messages) = stream();
    let mut writer = Writer { pipe: Pipe::new(export, SHORT), credit: 0 };
    let writing = std::thread::spawn(move || writer.write_all(b"bytes"));
    let ended = tokio::task::spawn_blocking(|| writing.join().expect("no panic")).await.expect("an end");
    let error = ended.expect_err("no credit comes");
    assert!(error.to_string().starts_with("the client has read nothing for"), "{error}");
}
