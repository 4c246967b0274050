//! What is repeated of a server that refuses.

use super::*;

#[test]
fn what_a_server_says_is_kept_short_and_plain() {
    let errors = |text: &str| {
        let found = server_errors(text.as_bytes());
        found.iter().map(|error| format!("{}|{}", error.code, error.message)).collect::<Vec<_>>()
    };
    assert_eq!(errors(r#"{"errors":[{"code":"DENIED","message":"no","detail":{"a":1}}]}"#), ["DENIED|no"]);
    assert_eq!(errors(r#"{"errors":[{"code":"A"},{"message":"b\u001b[31m\n"}]}"#), ["A|", "|b[31m"]);
    let many = format!(r#"{{"errors":[{}]}}"#, vec![r#"{"code":"A"}"#; 100].join(","));
    assert_eq!(errors(&many).len(), MAX_ERRORS);
    let long = format!(r#"{{"errors":[{{"code":"A","message":"{}"}}]}}"#, "x".repeat(10_000));
    assert_eq!(errors(&long)[0].len(), MAX_MESSAGE + 2);
    for text in ["", "<html>", "{}", r#"{"errors":7}"#, r#"{"errors":[{"code":{}}]}"#, "[[[[[["] {
        assert!(errors(text).is_empty(), "{text}");
    }
}
