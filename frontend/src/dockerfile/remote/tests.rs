//! Which words are remote, and what of them is said aloud.

use super::*;

/// `url ref folder` of a repository, or what else the word is.
fn shown(text: &str) -> String {
    match Remote::detect(text) {
        Ok(Some(Remote::Git(git))) => {
            format!("{} {} {}", git.url, git.reference, git.subdir).trim_end().to_owned()
        }
        Ok(Some(Remote::File(_))) => "file".to_owned(),
        Ok(None) => "local".to_owned(),
        Err(fault) => format!("error: {fault}"),
    }
}

#[test]
fn words_name_files_repositories_or_paths() {
    for (text, expected) in [
        ("https://h.example/a.git", "https://h.example/a.git"),
        ("https://h.example/a.git#main", "https://h.example/a.git main"),
        ("https://h.example/a.git#main:sub/dir", "https://h.example/a.git main sub/dir"),
        ("https://h.example/a.git#:sub", "https://h.example/a.git  sub"),
        ("https://h.example/a.git#main:../../etc", "https://h.example/a.git main etc"),
        ("https://h.example/a.git?branch=b&subdir=d", "https://h.example/a.git refs/heads/b d"),
        ("https://h.example/a.git?tag=v1", "https://h.example/a.git refs/tags/v1"),
        ("https://h.example/a.git?ref=x%2Fy", "https://h.example/a.git x/y"),
        ("http://h.example:8080/a.git", "http://h.example:8080/a.git"),
        ("git://h.example/a", "git://h.example/a"),
        ("ssh://git@h.example/a.git#v1", "ssh://git@h.example/a.git v1"),
        ("git@h.example:me/a.git#v1:d", "git@h.example:me/a.git v1 d"),
        ("github.com/me/a", "https://github.com/me/a"),
        ("https://h.example/a.tar.gz", "file"),
        ("http://h.example/a.git/archive", "file"),
        ("dir/a.git", "local"),
        ("./github.com/me/a", "local"),
        ("a@b", "local"),
        ("file:///etc/a.git", "local"),
        ("ext::sh -c true", "local"),
        (
            "https://h.example/a.git#-x",
            "error: failed to parse git ref \"https://h.example/a.git#-x\": \"-x\" can be no part of it",
        ),
        (
            "https://h.example/a.git?branch=-x",
            "error: failed to parse git ref \"https://h.example/a.git?branch=-x\": branch=-x names no ref",
        ),
        (
            "https://h.example/a.git?x=1",
            "error: failed to parse git ref \"https://h.example/a.git?x=1\": unexpected query \"x\"",
        ),
        (
            "https://h.example/a.git?tag=a&branch=b",
            "error: failed to parse git ref \"https://h.example/a.git?tag=a&branch=b\": it names two refs, refs/tags/a and refs/heads/b",
        ),
        ("-u@h:x", "local"),
    ] {
        assert_eq!(shown(text), expected, "{text}");
    }
}

#[test]
fn identifiers_do_not_say_who_asks() {
    for (text, expected) in [
        ("https://me:word@h.example/a.git#main:d", "git://h.example/a.git#main:d"),
        ("git@h.example:me/a.git", "git://h.example/me/a.git"),
        ("ssh://git@h.example:22/a.git#v1", "git://h.example:22/a.git#v1"),
        ("https://h.example/a.git#:d", "git://h.example/a.git#:d"),
    ] {
        let Ok(Some(Remote::Git(git))) = Remote::detect(text) else { panic!("{text} is no repository") };
        let definition = git.state(OpOptions::default()).marshal(None).expect("an op");
        let shown = buildd_api::llb::dump::text(&definition);
        assert!(shown.contains(expected), "{text}: {shown}");
    }
}

#[test]
fn passwords_are_not_shown() {
    for (text, expected) in [
        ("ADD https://me:word@h.example/a.tar /", "ADD https://xxxxx:xxxxx@h.example/a.tar /"),
        ("ADD https://token@h.example/a.git#x /", "ADD https://xxxxx:xxxxx@h.example/a.git#x /"),
        ("ADD ssh://git@h.example/a.git /", "ADD ssh://git@h.example/a.git /"),
        (
            "ADD https://h.example/a@b https://a:b@c/d /x",
            "ADD https://h.example/a@b https://xxxxx:xxxxx@c/d /x",
        ),
        ("RUN echo a://b", "RUN echo a://b"),
        ("https://a:b@c", "https://xxxxx:xxxxx@c"),
    ] {
        assert_eq!(redact(text), expected);
    }
}

#[test]
fn added_files_are_called_as_their_url_ends() {
    for (url, expected) in [
        ("https://h.example/d/a.tar.gz?x=1", "a.tar.gz"),
        ("https://h.example/d/a%20b", "a b"),
        ("https://h.example/", "__unnamed__"),
        ("https://h.example/..%2f..%2fetc", "__unnamed__"),
    ] {
        assert_eq!(file_name(url), expected, "{url}");
    }
}
