//! Places that a server's answers name: which are followed, and as whom.

use super::*;

fn url(text: &str) -> Url {
    Url::parse(text).expect(text)
}

fn host(scheme: Scheme, authority: &str) -> Host {
    Host {
        scheme,
        authority: authority.to_owned(),
        path: "/v2".to_owned(),
        capabilities: Capabilities::ALL,
        tls: Tls::default(),
        headers: Vec::new(),
        dial_timeout: None,
        origins: Vec::new(),
    }
}

#[test]
fn a_host_that_stands_in_for_another_is_told_for_whom() {
    for (scheme, authority, domain, expected) in [
        (Scheme::Https, "ghcr.io", "ghcr.io", "https://ghcr.io/v2/a/b/tags/list"),
        (Scheme::Https, "registry-1.docker.io", "docker.io", "https://registry-1.docker.io/v2/a/b/tags/list"),
        (Scheme::Http, "localhost:5000", "docker.io", "http://localhost:5000/v2/a/b/tags/list?ns=docker.io"),
        (
            Scheme::Https,
            "m.example",
            "r.example:5000",
            "https://m.example/v2/a/b/tags/list?ns=r.example%3A5000",
        ),
        (Scheme::HttpsOrHttp, "[::1]:5000", "[::1]:5000", "https://[::1]:5000/v2/a/b/tags/list"),
    ] {
        let got = endpoint(&host(scheme, authority), domain, "a/b", "tags/list").expect(authority);
        assert_eq!(got.as_str(), expected);
    }
    assert!(endpoint(&host(Scheme::Https, "a b"), "x", "a", "b").is_err());
}

#[test]
fn where_a_location_may_lead() {
    let stay = |url: &str| Ok((url.to_owned(), true));
    let leave = |url: &str| Ok((url.to_owned(), false));
    let no = |text: &str| Err(text.to_owned());
    let long = "/".repeat(9000);
    for (home, location, expected) in [
        ("https://r.example/v2/x", "/v2/x/uploads/1", stay("https://r.example/v2/x/uploads/1")),
        ("https://r.example/v2/x", "uploads/1?a=b", stay("https://r.example/v2/uploads/1?a=b")),
        ("https://r.example/v2/x", "//r.example/up", stay("https://r.example/up")),
        ("https://r.example/v2/x", "/a/../../../b", stay("https://r.example/b")),
        ("https://r.example/v2/x", "https://r.example:443/up", stay("https://r.example/up")),
        ("https://r.example/v2/x", "https://cdn.example/b#x", leave("https://cdn.example/b")),
        ("https://r.example/v2/x", "https://r.example:444/b", leave("https://r.example:444/b")),
        ("https://r.example/v2/x", "http://r.example/up", stay("https://r.example/up")),
        ("https://r.example:5000/v2/x", "http://r.example:5000/up", stay("https://r.example:5000/up")),
        ("https://r.example:5000/v2/x", "http://r.example/up", stay("https://r.example:5000/up")),
        ("http://r.example/v2/x", "https://cdn.example/b", leave("https://cdn.example/b")),
        ("http://127.0.0.1:5000/v2/x", "http://127.0.0.1:5001/b", leave("http://127.0.0.1:5001/b")),
        (
            "https://r.example/v2/x",
            "http://cdn.example/b",
            no("from TLS to plain HTTP at http://cdn.example/b"),
        ),
        ("https://r.example/v2/x", "file:///etc/passwd", no("a file URL")),
        ("https://r.example/v2/x", "https://u:p@cdn.example/", no("with a user name")),
        ("https://r.example/v2/x", "https://127.0.0.1/b", no("127.0.0.1, which an outside host")),
        ("https://r.example/v2/x", "https://localhost/b", no("localhost, which an outside host")),
        ("https://r.example/v2/x", "https://[::1]/b", no("[::1], which an outside host")),
        ("https://r.example/v2/x", "https://0x7f000001/b", no("127.0.0.1, which an outside host")),
        ("https://r.example/v2/x", "https://169.254.169.254/latest", no("169.254.169.254")),
        ("http://127.0.0.1:5000/v2/x", "http://169.254.169.254/latest", no("169.254.169.254")),
        ("https://r.example/v2/x", "https://", no("sends us to \"https://\"")),
        ("https://r.example/v2/x", &long, no("a URL of 9000 bytes")),
    ] {
        let got = follow(&url(home), &url(home), location).map(|hop| (hop.url.to_string(), hop.same));
        match (&got, &expected) {
            (Err(got), Err(part)) => assert!(got.contains(part.as_str()), "{location}: {got}"),
            _ => assert_eq!(got, expected, "{home} -> {location}"),
        }
    }
}

#[test]
fn an_error_shows_no_secret_of_a_url() {
    for (full, expected) in [
        ("https://u:p@r.example/v2/?ns=docker.io", "https://r.example/v2/?ns=docker.io"),
        (
            "https://r.example/b?X-Signature=abc&ns=a&digest=x#f",
            "https://r.example/b?X-Signature=***&ns=a&digest=***",
        ),
        ("http://r.example/b", "http://r.example/b"),
    ] {
        assert_eq!(shown(&url(full)), expected);
    }
}

#[test]
fn the_next_page_lies_at_the_same_host() {
    let from = url("https://r.example/v2/x/tags/list?n=2");
    let page = |line: &str| next_page(&from, &[line.to_owned()]).map(|next| next.map(String::from));
    let next = Ok(Some("https://r.example/v2/x/tags/list?last=b,c".to_owned()));
    assert_eq!(page("</v2/x/tags/list?last=b,c>; rel=\"next\""), next);
    assert_eq!(page("<https://r.example/v2/x/tags/list?last=b,c>; type=x; REL=next"), next);
    assert_eq!(page("</first>; rel=\"first\", </v2/x/tags/list?last=b,c>; rel=\"next\""), next);
    for line in ["", "</v2/x>", "</v2/x>; rel=\"prev\"", "/v2/x; rel=next", "<", "<>", ">;rel=next<"] {
        assert_eq!(page(line), Ok(None), "{line}");
    }
    assert!(
        page("<https://evil.example/>; rel=\"next\"").expect_err("another host").contains("evil.example")
    );
}

proptest::proptest! {
    #[test]
    fn wherever_a_location_leads_it_is_allowed(
        secure in proptest::bool::ANY,
        location in "((https?|file|ftp):)?(//)?([a-z:@]{0,4}(r\\.example|127\\.0\\.0\\.1|localhost|\\[::1\\]|169\\.254\\.1\\.1))?(:[0-9]{1,5})?[/.?#a-z0-9%]{0,20}|.{0,60}",
    ) {
        let home = url(if secure { "https://r.example/v2/x" } else { "http://r.example/v2/x" });
        if let Ok(hop) = follow(&home, &home, &location) {
            assert!(matches!(hop.url.scheme(), "http" | "https"), "{location}");
            assert!(!secure || hop.url.scheme() == "https", "{location}");
            assert!(hop.url.username().is_empty() && hop.url.password().is_none(), "{location}");
            assert_eq!(hop.same, hop.url.origin() == home.origin(), "{location}");
            assert!(Reach::Elsewhere.allows_host(hop.url.host_str().expect("a host")), "{location}");
        }
    }

    #[test]
    fn any_link_header_leads_nowhere_or_to_the_same_host(line in "[<>;,=\"a-z/:. ]{0,60}|(<[a-z/.:?=,]{0,20}>; ?rel=\"?next\"?,? ?){0,3}") {
        let from = url("https://r.example/v2/x/tags/list");
        if let Ok(Some(next)) = next_page(&from, &[line]) {
            assert_eq!(next.origin(), from.origin());
        }
    }
}
