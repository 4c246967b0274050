//! The syntax directive: where it may stand, and which names are the built-in language.

use std::collections::BTreeMap;

use super::*;

#[test]
fn what_a_text_asks_for() {
    for (text, asked) in [
        ("FROM a\n", None),
        ("# syntax=docker/dockerfile:1\nFROM a\n", Some(("docker/dockerfile:1", Some(1)))),
        ("\u{feff}# escape=`\n#Syntax = x/y:1 more words\nFROM a\n", Some(("x/y:1 more words", Some(2)))),
        ("#!/usr/bin/env x\n# syntax=x/y\n", Some(("x/y", Some(2)))),
        ("// syntax=x/y\nproject {}\n", Some(("x/y", Some(1)))),
        ("{\"syntax\": \"x/y\", \"other\": 1}", Some(("x/y", None))),
        ("# a comment\n# syntax=x/y\nFROM a\n", None),
        ("FROM a\n# syntax=x/y\n", None),
        ("\n# syntax=x/y\n", None),
    ] {
        let found = detect(text);
        let found = found.as_ref().map(|(name, lines)| (name.as_str(), lines.first().map(|line| line.first)));
        assert_eq!(found, asked, "{text:?}");
    }
}

#[test]
fn only_our_language_is_built_in() {
    let options = |argument: Option<&str>| {
        let argument = argument.map(|name| ("build-arg:BUILDKIT_SYNTAX".to_owned(), name.to_owned()));
        Options::parse(&argument.into_iter().collect::<BTreeMap<_, _>>()).expect("good options")
    };
    let text = |name: &str| format!("# syntax={name}\nFROM a\n").into_bytes();
    for name in [
        "docker/dockerfile",
        "docker/dockerfile:1.7-labs",
        "docker.io/docker/dockerfile:1",
        "docker/dockerfile-upstream:master",
        "mirror.example:5000/hub/docker/dockerfile:1 some words",
    ] {
        check(&text(name), &options(None)).expect(name);
        check(&text("x/y"), &options(Some(name))).expect("the argument beats the directive");
    }
    for name in ["x/y:1", "mydocker/dockerfile", "docker/dockerfile/more", "docker.io/dockerfile", "::"] {
        let fault = check(&text(name), &options(None)).expect_err(name);
        assert!(fault.message.contains(name) && fault.lines.len() == 1 && fault.hint.is_some(), "{fault:?}");
        check(&text("docker/dockerfile"), &options(Some(name)))
            .expect_err("the argument beats the directive");
    }
}
