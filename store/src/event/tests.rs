//! Who hears what.

use buildd_api::containerd::containerd::events::NamespaceCreate;

use super::*;

fn event(namespace: &str, topic: &str, bytes: usize) -> Event {
    Event {
        at: SystemTime::UNIX_EPOCH,
        namespace: namespace.to_owned(),
        topic: topic.to_owned(),
        type_url: "x".to_owned(),
        value: vec![0; bytes],
    }
}

#[test]
fn only_paths_of_words_are_topics() {
    event("ns", "/images/create", MAX_EVENT).check().expect("an event");
    event("ns", "/a", 0).check().expect("an event");
    let long = format!("/{}", "a/".repeat(MAX_TOPIC));
    for topic in ["", "/", "images/create", "/images/", "//create", "/a b", "/../x", long.as_str()] {
        assert!(event("ns", topic, 0).check().is_err(), "{topic}");
    }
    assert!(event("", "/a", 0).check().is_err());
    assert!(event("ns", "/a", MAX_EVENT + 1).check().is_err());
}

#[test]
fn a_listener_hears_what_comes_after_it_and_learns_what_it_missed() {
    let events = Events::default();
    events.forward(event("ns", "/before", 0));
    let mut heard = events.listen();
    let message = NamespaceCreate { name: "team".to_owned(), ..NamespaceCreate::default() };
    events.publish("team", "/namespaces/create", &message);
    let first = heard.try_recv().expect("an event");
    assert_eq!(
        (first.topic.as_str(), first.type_url.as_str()),
        ("/namespaces/create", "containerd.events.NamespaceCreate")
    );
    assert_eq!(NamespaceCreate::decode(first.value.as_slice()).expect("a message"), message);
    for _ in 0..WAITING + 7 {
        events.forward(event("ns", "/many", 0));
    }
    assert_eq!(heard.try_recv(), Err(broadcast::error::TryRecvError::Lagged(7)));
    assert_eq!(heard.try_recv().expect("the rest").topic, "/many");
}
