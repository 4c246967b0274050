//! What a build hears of a frontend, whatever its program does.

use buildd_oci::ErrorKind;

use super::*;

#[test]
fn its_own_error_comes_first_and_a_result_needs_a_good_end() {
    let own = || Some(Err(Status::invalid_argument("its own words")));
    let good = || Some(Ok(FrontendResult::default()));
    let died = || Some(Err(OpError::new(ErrorKind::Unknown, std::io::Error::other("it died"))));
    let left = || Some(Ok(()));
    for (returned, ended, told) in [
        (own(), left(), Err("its own words")),
        (own(), died(), Err("its own words")),
        (own(), None, Err("its own words")),
        (good(), left(), Ok(())),
        (good(), None, Ok(())),
        (good(), died(), Err("it died")),
        (None, died(), Err("it died")),
        (None, left(), Err("ended without a result")),
        (None, None, Err("closed its connection")),
    ] {
        let found = outcome(returned, ended).and_then(|returned| returned.map(drop));
        match (&found, told) {
            (Ok(()), Ok(())) => {}
            (Err(status), Err(words)) => assert!(status.message().contains(words), "{status}"),
            _ => panic!("{found:?} instead of {told:?}"),
        }
    }
}

#[test]
fn last_words_are_few() {
    let talk = Talk { stage: Stage::begin(&Default::default(), "x"), last: Mutex::default() };
    talk.hear(&vec![b'a'; 10 * LAST_WORDS]);
    talk.hear(b"the end\n");
    let status = talk.explain("example.test/x", &Status::unknown("exit code: 1"));
    assert!(status.message().starts_with("frontend example.test/x: exit code: 1\n"), "{status}");
    assert!(status.message().ends_with("the end") && status.message().len() < 2 * LAST_WORDS, "{status}");
}
