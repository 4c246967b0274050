//! Addresses that nobody but the user may send us to.

use super::*;

#[test]
fn link_local_is_never_reached_and_this_machine_only_if_named() {
    // (host, named, elsewhere, public)
    for (host, named, elsewhere, public) in [
        ("registry.example", true, true, true),
        ("93.184.216.34", true, true, true),
        ("[2606:2800:220:1:248:1893:25c8:1946]", true, true, true),
        ("169.254.169.254", false, false, false),
        ("[fe80::1]", false, false, false),
        ("[::ffff:169.254.169.254]", false, false, false),
        ("[fd00:ec2::254]", false, false, false),
        ("127.0.0.1", true, false, false),
        ("127.9.9.9", true, false, false),
        ("[::1]", true, false, false),
        ("[::ffff:127.0.0.1]", true, false, false),
        ("0.0.0.0", true, false, false),
        ("localhost", true, false, false),
        ("LOCALHOST.", true, false, false),
        ("db.localhost", true, false, false),
        ("10.0.0.5", true, true, false),
        ("192.168.1.1", true, true, false),
        ("172.16.0.1", true, true, false),
        ("100.100.100.200", true, true, false),
        ("[fd12::1]", true, true, false),
        ("localhost.evil.example", true, true, true),
        ("127.0.0.1.nip.example", true, true, true),
    ] {
        let got = [Reach::Named, Reach::Elsewhere, Reach::Public].map(|reach| reach.allows_host(host));
        assert_eq!(got, [named, elsewhere, public], "{host}");
    }
}

#[test]
fn loopback_is_exact() {
    for (host, expected) in [
        ("localhost", true),
        ("127.0.0.1", true),
        ("[::1]", true),
        ("127.1.2.3", true),
        ("foo.localhost", false),
        ("localhost.evil.com", false),
        ("127.0.0.1.nip.io", false),
        ("0x7f000001", false),
        ("0177.0.0.1", false),
    ] {
        assert_eq!(is_loopback(host), expected, "{host}");
    }
}

#[tokio::test]
async fn a_name_that_is_this_machine_is_not_resolved_for_a_redirect() {
    let resolve = |reach| {
        let guard = Guard { host: "localhost".to_owned(), reach };
        async move { guard.resolve("localhost".parse().expect("a name")).await.map(Iterator::count) }
    };
    assert!(resolve(Reach::Named).await.expect("it has addresses") > 0);
    let error = resolve(Reach::Elsewhere).await.expect_err("only loopback addresses").to_string();
    assert!(error.contains("localhost has only addresses"), "{error}");
}
