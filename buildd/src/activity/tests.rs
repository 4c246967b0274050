//! When a call is over.

use std::{convert::Infallible, sync::Mutex};

use futures::FutureExt as _;
use tokio::sync::mpsc;
use tower::service_fn;

use super::*;

/// A body that stays open as long as the sender is there.
fn open_body() -> (mpsc::Sender<()>, Body) {
    struct Open(mpsc::Receiver<()>);
    impl HttpBody for Open {
        type Data = Bytes;
        type Error = Status;
        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            self.0.poll_recv(cx).map(|piece| piece.map(|()| Ok(Frame::data(Bytes::from_static(b"piece")))))
        }
    }
    let (sender, receiver) = mpsc::channel(1);
    (sender, Body::new(Open(receiver)))
}

fn request(path: &str, body: Body) -> http::Request<Body> {
    http::Request::builder().uri(path).body(body).expect("a request")
}

#[tokio::test]
async fn a_call_lasts_as_long_as_its_bodies() {
    for keeps_request in [false, true] {
        let activity = Activity::default();
        let (requests, mut taken) = mpsc::channel(1);
        let (answering, answer) = open_body();
        let answer = Mutex::new(Some(answer));
        let mut service = activity.layer(service_fn(|request: http::Request<Body>| {
            // As a service whose handler reads on after the headers of its answer.
            let sent = keeps_request.then(|| requests.try_send(request.into_body()));
            assert!(sent.is_none_or(|sent| sent.is_ok()));
            let body = answer.lock().expect("no panic").take().expect("one call");
            async move { Ok::<_, Infallible>(http::Response::new(body)) }
        }));
        assert!(activity.idle().is_some());
        let (_asking, asked) = open_body();
        let answered = service.call(request("/containerd.services.content.v1.Content/Write", asked)).await;
        let mut body = answered.expect("an answer").into_body();
        assert_eq!(activity.idle(), None, "the answer still streams");
        answering.try_send(()).expect("room");
        let piece = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        let data = piece.and_then(Result::ok).and_then(|frame| frame.into_data().ok());
        assert_eq!(data.as_deref(), Some(&b"piece"[..]), "frames go through");
        assert_eq!(activity.idle(), None, "and goes on");
        drop(body);
        let request = taken.try_recv().ok();
        assert_eq!(activity.idle().is_none(), keeps_request, "what the client sends is still read");
        drop(request);
        assert!(activity.idle().is_some());
    }
}

#[tokio::test]
async fn health_checks_and_calls_that_are_dropped_do_not_count() {
    let activity = Activity::default();
    let mut service =
        activity.layer(service_fn(|_| std::future::pending::<Result<http::Response<Body>, Infallible>>()));
    let mut check = service.call(request("/grpc.health.v1.Health/Watch", Body::empty()));
    assert!(check.as_mut().now_or_never().is_none());
    assert!(activity.idle().is_some());
    let call = service.call(request("/containerd.services.version.v1.Version/Version", Body::empty()));
    assert_eq!(activity.idle(), None);
    drop(call);
    assert!(activity.idle().is_some());
}
