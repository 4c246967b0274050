//! Words of `--call`, and the exit codes of its answers.

use super::*;

#[test]
fn calls_are_parsed() {
    for (text, wanted) in [
        ("check", Some(("frontend.lint", false, false))),
        ("outline,format=json", Some(("frontend.outline", true, false))),
        ("check,ignorestatus", Some(("frontend.lint", false, true))),
        ("targets,format=text,ignorestatus=true", Some(("frontend.targets", false, true))),
        ("describe", Some(("frontend.subrequests.describe", false, false))),
        ("build", None),
        ("", None),
    ] {
        let call = Call::parse(text).expect(text);
        assert_eq!(call.map(|call| (call.method, call.json, call.ignore_status)), wanted, "{text}");
    }
    for text in ["chek", "check,format=xml", "check,x"] {
        assert!(Call::parse(text).is_err(), "{text}");
    }
}

#[test]
fn the_exit_code_is_that_of_the_answer() {
    let answer = |code: &str| {
        let pairs = [("result.json", "{\"warnings\": []}"), ("result.statuscode", code), ("result.txt", "")];
        pairs.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect::<HashMap<_, _>>()
    };
    let code = |text: &str, code: &str| {
        let call = Call::parse(text).expect(text).expect("a call");
        format!("{:?}", call.show(&answer(code)).expect("shown"))
    };
    assert_eq!(code("check,format=json", "1"), format!("{:?}", ExitCode::from(1)));
    assert_eq!(code("check,format=json,ignorestatus", "1"), format!("{:?}", ExitCode::SUCCESS));
    assert!(Call::check().show(&HashMap::new()).is_err());
    let broken = "{\"warnings\": [], \"buildError\": {\"message\": \"broken\", \"location\": {}}}";
    let answer = HashMap::from([("result.json".to_owned(), broken.to_owned())]);
    assert!(Call::check().show(&answer).expect_err("broken").to_string().starts_with("broken\n"));
}
