use super::Reference;

#[test]
fn names_have_one_canonical_form() {
    for (text, canonical, familiar) in [
        ("alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("alpine:v1", "docker.io/library/alpine:v1", "alpine:v1"),
        ("docker.io/library/alpine:v1", "docker.io/library/alpine:v1", "alpine:v1"),
        ("index.docker.io/library/alpine:v1", "docker.io/library/alpine:v1", "alpine:v1"),
        ("me/app", "docker.io/me/app:latest", "me/app:latest"),
        ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
        ("localhost:5000/app:1", "localhost:5000/app:1", "localhost:5000/app:1"),
        ("[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000/app:latest"),
        ("ghcr.io/a/b__c-d.e/f:T_1", "ghcr.io/a/b__c-d.e/f:T_1", "ghcr.io/a/b__c-d.e/f:T_1"),
    ] {
        let parsed = Reference::parse(text).expect(text).with_default_tag();
        assert_eq!(
            (parsed.to_string().as_str(), parsed.familiar().as_str()),
            (canonical, familiar),
            "{text}"
        );
    }
}

#[test]
fn a_digest_needs_no_tag() {
    let text = format!("alpine@sha256:{}", "a".repeat(64));
    let parsed = Reference::parse(&text).expect("a digest reference").with_default_tag();
    assert_eq!(parsed.to_string(), format!("docker.io/library/{text}"));
    assert_eq!(parsed.tag(), None);
}

#[test]
fn bad_names_are_refused_with_a_remedy_where_there_is_one() {
    for text in [
        "",
        ":x",
        "a//b",
        "-a",
        "a-",
        "a:",
        "a:-x",
        "a b",
        "a@sha256:12",
        "a___b",
        "x.y:port/z",
        "a..b",
        "http://a/b",
    ] {
        assert!(Reference::parse(text).is_err(), "{text:?} was accepted");
    }
    let error = Reference::parse("Alpine:v1").expect_err("upper case");
    assert_eq!(error.hint().as_deref(), Some("write it as alpine:v1"));
    assert!(Reference::parse(&"a".repeat(300)).is_err());
}
