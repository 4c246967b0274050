//! A client that does not read, and one that does.

use futures::FutureExt as _;
use prost_types::Any;
use tokio::sync::mpsc;
use tonic::Status;

use super::{super::super::streaming::open, *};

type Messages = mpsc::Receiver<Result<Any, Status>>;

/// How long what must happen may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// A report to a client with room for so many messages, which are waited for so long at the end.
fn report(room: usize, last_messages: Duration) -> (Report, Messages, mpsc::Sender<Any>) {
    let (client, incoming) = mpsc::channel(1);
    let (outgoing, messages) = mpsc::channel(room);
    (Report::within(Stream::of(incoming, outgoing), last_messages), messages, client)
}

/// Everything up to the end of the stream.
async fn read(mut messages: Messages) -> Vec<(String, String, i64)> {
    let mut all = Vec::new();
    while let Some(message) = messages.recv().await {
        let message = message.expect("no failure");
        let progress: Progress = open(&message).expect("a message").expect("progress");
        all.push((progress.event, progress.name, progress.progress));
    }
    all
}

fn part(number: usize, done: i64) -> Progress {
    Progress {
        event: "downloading".to_owned(),
        name: format!("layer{number}"),
        progress: done,
        ..Progress::default()
    }
}

#[tokio::test]
async fn work_goes_on_for_a_client_that_does_not_read_and_it_gets_the_last_states() {
    let (report, messages, _client) = report(2, DEADLINE);
    let board = Arc::clone(&report.0.as_ref().expect("somebody wants it").board);
    let work = async {
        for done in 1..=100 {
            for number in 0..8 {
                board.part(part(number, done));
            }
            report.event("look", "");
            // The task that sends fills what room there is.
            tokio::task::yield_now().await;
        }
        Ok(())
    };
    // It is ready as soon as it has yielded so often: nothing waits for the client.
    tokio::time::timeout(DEADLINE, report.follow(&Watch::default(), "", work))
        .await
        .expect("the work ends")
        .expect("and well");
    let (read, ()) = tokio::join!(read(messages), report.finish());
    let parts: Vec<_> = read.iter().filter(|(event, ..)| event == "downloading").collect();
    assert!(parts.len() < 100, "{} states of 800 went", parts.len());
    for number in 0..8 {
        let last = parts.iter().rfind(|(_, name, _)| *name == format!("layer{number}"));
        assert_eq!(last.map(|(.., done)| *done), Some(100), "of part {number}");
    }
    assert_eq!(read.iter().filter(|(event, ..)| event == "look").count(), 100, "no event is lost");
}

#[tokio::test]
async fn an_end_waits_for_a_client_that_does_not_read_but_not_for_ever() {
    let (report, mut messages, _client) = report(1, Duration::from_millis(50));
    for n in 0..MAX_EVENTS + 10 {
        report.event("saved", &n.to_string());
    }
    tokio::time::timeout(DEADLINE, report.finish()).await.expect("it ends");
    // The oldest were dropped, and the stream has ended.
    let message = messages.recv().await.expect("one had room").expect("no failure");
    let progress: Progress = open(&message).expect("a message").expect("progress");
    assert_eq!(progress.name, "10");
    assert!(messages.recv().await.is_none());
}

#[tokio::test]
async fn a_client_that_left_is_waited_for_no_more() {
    let (report, messages, _client) = report(1, 2 * DEADLINE);
    report.event("one", "");
    report.event("two", "");
    tokio::task::yield_now().await;
    drop(messages);
    let ended = tokio::time::timeout(DEADLINE, report.finish()).await;
    assert!(ended.is_ok(), "it ends at once");
    assert!(Report::none().finish().now_or_never().is_some());
}
