//! What of a git source is taken, and what is refused before git sees it (GIT-01 to GIT-03).

use super::*;

fn parse(identifier: &str, attrs: &[(&str, &str)]) -> Result<GitRequest> {
    let attrs = attrs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    GitRequest::parse(identifier, &attrs)
}

#[test]
fn identifiers_and_attributes_are_read() {
    let commit = "0123456789012345678901234567890123456789";
    for (identifier, url, expected) in [
        ("git://h.example/a.git", "", "https://h.example/a.git||"),
        ("git://h.example/a.git#main:d/e", "http://h.example/a.git", "http://h.example/a.git|main|d/e"),
        ("git://h.example/a.git#:d", "git@h.example:a.git", "git@h.example:a.git||d"),
        ("git://h.example/a.git#v1", "h.example/a.git", "https://h.example/a.git|v1|"),
    ] {
        let attrs = if url.is_empty() { vec![] } else { vec![("git.fullurl", url)] };
        let wanted = parse(identifier, &attrs).expect(identifier);
        assert_eq!(format!("{}|{}|{}", wanted.url, wanted.reference, wanted.subdir), expected);
        assert!(wanted.submodules && !wanted.keep_git_dir && wanted.commit().is_none());
    }
    let pinned = parse(&format!("git://h/a#{commit}"), &[]).expect("a commit");
    assert_eq!(pinned.commit(), Some(commit));
    let attrs = [("git.checksum", commit), ("git.fetchbycommit", "true")];
    assert_eq!(parse("git://h/a#main", &attrs).expect("a commit").commit(), Some(commit));
    assert_eq!(parse("git://h/a#main", &attrs[..1]).expect("a ref").commit(), None);
    let host = |url: &str| parse("git://h/a", &[("git.fullurl", url)]).expect(url).host().to_owned();
    assert_eq!(host("https://me:word@h.example:8443/a.git"), "h.example:8443");
    assert_eq!(host("git@h.example:a.git"), "h.example");
}

#[test]
fn what_git_could_take_for_something_else_is_refused() {
    for (identifier, attrs) in [
        ("git://h/a#--upload-pack=sh", vec![]),
        ("git://h/a#-x", vec![]),
        ("git://h/a#a..b", vec![]),
        ("git://h/a#a^{}", vec![]),
        ("git://h/a#main:../../etc", vec![]),
        ("git://h/a#main:-x", vec![]),
        ("git://h/a", vec![("git.fullurl", "ext::sh -c true")]),
        ("git://h/a", vec![("git.fullurl", "ext::sh://x")]),
        ("git://h/a", vec![("git.fullurl", "file:///etc")]),
        ("git://h/a", vec![("git.fullurl", "fd::17")]),
        ("git://h/a", vec![("git.fullurl", "https://-oProxyCommand=x/a")]),
        ("git://h/a", vec![("git.fullurl", "ssh://-oProxyCommand=x/a")]),
        ("git://h/a", vec![("git.fullurl", "me@-oProxyCommand=x:a")]),
        ("git://h/a", vec![("git.fullurl", "--upload-pack=sh")]),
        ("git://h/a", vec![("git.fullurl", "https://h/a\nb")]),
        ("git:///a", vec![]),
        ("git://h/a", vec![("git.checksum", "12345")]),
        ("git://h/a", vec![("git.checksum", "not hexadecimal")]),
    ] {
        let refused = parse(identifier, &attrs);
        assert!(matches!(refused, Err(Error::Invalid { .. })), "{identifier} {attrs:?}: {refused:?}");
    }
}
