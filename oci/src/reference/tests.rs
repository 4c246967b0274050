//! Tests of names, digests and platforms: one written form each, and what is none.

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

#[test]
fn ref_01_what_is_no_name() {
    let long = format!("{}:v1", "a".repeat(256));
    let tag = format!("a:{}", "t".repeat(129));
    let hex = "0123456789abcdef".repeat(4);
    for text in [
        "Foo",
        "a/Foo",
        "a//b",
        "a___b",
        "a..b",
        "a/.b",
        "a/b.",
        "/a",
        "a/",
        &long,
        "a@sha256:short",
        "a@md5:d41d8cd98f00b204e9800998ecf8427e",
        &format!("a@sha256:{}", hex.to_uppercase()),
        &hex,
        &tag,
        "host:99999/x",
        "host:/x",
        "[::1/x",
        "[zz]:5000/x",
        "\u{e9}/x",
        "xn--/\u{e9}",
        "a\n",
        "a\r\nHost: evil",
        "a\0b",
        "a%2fb",
        "a?x=y",
        "a#b",
        "a b",
        "a\\b",
        "a:v1:v2",
        "a@sha256:@",
    ] {
        assert!(Reference::parse(text).is_err(), "{text:?} was accepted");
    }
    for text in ["a__b", "a--b", "a.b", "[::1]:5000/x", "host:5000/x", "a-b.example/x/y_z:T-1.0"] {
        Reference::parse(text).expect(text);
    }
    Reference::parse(&format!("a:{}", "t".repeat(128))).expect("the longest tag");
}

#[test]
fn ref_02_a_digest_wins_over_a_tag_beside_it() {
    let text = format!("example.com/a:v1@sha256:{}", "a".repeat(64));
    let parsed = Reference::parse(&text).expect("both");
    assert_eq!(parsed.digest().map(ToString::to_string), Some(format!("sha256:{}", "a".repeat(64))));
    assert_eq!(parsed.tag(), Some("v1"));
    assert_eq!(parsed.to_string(), text);
}

#[test]
fn blob_12_digests_that_are_none() {
    let hex = "0123456789abcdef".repeat(4);
    for text in [
        "",
        ":",
        "sha256",
        "sha256:",
        "sha256:ab",
        &format!("sha256:{hex}0"),
        &format!("sha256:{}", hex.to_uppercase()),
        &format!("SHA256:{hex}"),
        &format!("md5:{}", &hex[..32]),
        &format!("sha256:../../{}", &hex[..58]),
        &format!("sha256:{}/", &hex[..63]),
        &format!("sha256:{}\n", &hex[..63]),
        &format!("sha512:{hex}"),
        &format!("sha256:{hex}\n"),
    ] {
        assert!(text.parse::<crate::digest::Digest>().is_err(), "{text:?} was accepted");
    }
    for text in [format!("sha256:{hex}"), format!("sha512:{hex}{hex}")] {
        assert_eq!(text.parse::<crate::digest::Digest>().expect(&text).to_string(), text);
    }
}

#[test]
fn man_14_platforms_that_are_none() {
    use crate::platform::Platform;
    for text in
        ["", "linux", "linux/", "/amd64", "linux/../../x", "linux/am d64", "linux/amd64/v8/x", "a\nb/c"]
    {
        let parsed = text.parse::<Platform>();
        assert!(parsed.is_err() || text == "linux", "{text:?} was accepted: {parsed:?}");
    }
    assert!(format!("linux/{}", "x".repeat(10_240)).parse::<Platform>().is_err());
}
