//! Tests: how a registry is spoken to, above all on this machine, and files from people's machines.

use super::*;

/// The registry itself for a domain with no file, or a hosts.toml that names no server.
#[track_caller]
fn check(domain: &str, text: Option<&str>, options: &HostOptions, expected: &str) {
    let files: Vec<(String, &str)> =
        text.map(|text| (format!("{domain}/hosts.toml"), text)).into_iter().collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), *text)).collect();
    let root = root(&files);
    assert_eq!(lines(&config(&root), domain, options), [expected], "{domain} {text:?} {options:?}");
}

fn plain_http() -> HostOptions {
    HostOptions { default_scheme: Some("http".to_owned()), ..HostOptions::default() }
}

#[test]
fn rules_43_and_44_this_machine_may_be_plain() {
    let usual = HostOptions::default();
    for (domain, expected) in [
        ("localhost", "https://localhost/v2 pruf skip"),
        ("localhost:443", "https://localhost:443/v2 pruf skip"),
        ("localhost:80", "http://localhost:80/v2 pruf"),
        ("localhost:5000", "https|http://localhost:5000/v2 pruf skip"),
        ("127.0.0.1:5000", "https|http://127.0.0.1:5000/v2 pruf skip"),
        ("127.9.9.9:5000", "https|http://127.9.9.9:5000/v2 pruf skip"),
        ("[::1]:5000", "https|http://[::1]:5000/v2 pruf skip"),
        ("[::1]", "https://[::1]/v2 pruf skip"),
        // Names that only look like it (NET-09).
        ("foo.localhost:5000", "https://foo.localhost:5000/v2 pruf"),
        ("localhost.evil.example:5000", "https://localhost.evil.example:5000/v2 pruf"),
        ("127.0.0.1.nip.example:5000", "https://127.0.0.1.nip.example:5000/v2 pruf"),
        ("0177.0.0.1:5000", "https://0177.0.0.1:5000/v2 pruf"),
        ("0x7f000001:5000", "https://0x7f000001:5000/v2 pruf"),
        ("10.0.0.1:5000", "https://10.0.0.1:5000/v2 pruf"),
    ] {
        check(domain, None, &usual, expected);
        check(domain, Some("[header]\n"), &usual, expected);
    }
    // Who brings a CA, or says it himself, wants to be sure.
    check("localhost:5000", Some("ca = \"/c.crt\""), &usual, "https|http://localhost:5000/v2 pruf ca=/c.crt");
    check("localhost:5000", Some("skip_verify = false"), &usual, "https|http://localhost:5000/v2 pruf");
    check("localhost", Some("skip_verify = false"), &usual, "https://localhost/v2 pruf");
}

#[test]
fn rules_45_to_48_the_scheme_of_a_request() {
    check("localhost:5000", None, &plain_http(), "http://localhost:5000/v2 pruf");
    check("a.example", None, &plain_http(), "http://a.example/v2 pruf");
    check("docker.io", None, &plain_http(), "https://registry-1.docker.io/v2 pruf");
    let both = HostOptions { skip_verify: true, ..plain_http() };
    check("a.example", None, &both, "https|http://a.example/v2 pruf skip");
    check("a.example:80", None, &both, "http://a.example:80/v2 pruf skip");
    check("a.example", Some("ca = \"/c.crt\""), &plain_http(), "https|http://a.example/v2 pruf ca=/c.crt");
    // An address that a file gives keeps its scheme, whatever the request says.
    check("a.example", Some("server = \"https://b\""), &plain_http(), "https://b/v2 pruf");
    check("a.example", Some("server = \"http://b\""), &HostOptions::default(), "http://b/v2 pruf");
    let text = "server = \"http://b\"\nskip_verify = false";
    check("a.example", Some(text), &HostOptions::default(), "https|http://b/v2 pruf");
    let text = "server = \"http://b:80\"\nskip_verify = true";
    check("a.example", Some(text), &HostOptions::default(), "http://b:80/v2 pruf skip");
    let https = HostOptions { default_scheme: Some("https".to_owned()), ..HostOptions::default() };
    check("localhost:5000", None, &https, "https://localhost:5000/v2 pruf");
    let ftp = HostOptions { default_scheme: Some("ftp".to_owned()), ..HostOptions::default() };
    assert!(config(&root(&[])).hosts("a.example", &ftp).is_err());
}

#[test]
fn net_06_and_net_09_what_a_request_brings_is_for_the_registry_itself() {
    let root = root(&[("a.example/hosts.toml", "[host.m]\n[host.n]\nskip_verify = true\n")]);
    let headers = vec![("Authorization".to_owned(), "x".to_owned())];
    let options = HostOptions { skip_verify: true, headers, ..plain_http() };
    assert_eq!(
        lines(&config(&root), "a.example", &options),
        [
            "https://m/v2 pruf",
            "https://n/v2 pruf skip",
            "https|http://a.example/v2 pruf skip Authorization:x"
        ]
    );
}

#[test]
fn files_from_peoples_machines_work_as_they_stand() {
    let hub = "server = \"https://docker.io\"\n[host.\"https://mirror-a.example\"]\n  capabilities = [\"pull\", \
               \"resolve\"]\n[host.\"mirror-b.example\"]\n  capabilities = [\"pull\", \"resolve\"]\n  skip_verify = true\n";
    check_toml(
        "docker.io",
        hub,
        &[
            "https://mirror-a.example/v2 pr",
            "https://mirror-b.example/v2 pr skip",
            "https://registry-1.docker.io/v2 pruf",
        ],
    );
    let domains = [
        "registry.k8s.io",
        "gcr.io",
        "ghcr.io",
        "k8s.gcr.io",
        "quay.io",
        "mcr.microsoft.com",
        "nvcr.io",
        "docker.elastic.co",
    ];
    let files: Vec<(String, String)> = domains
        .iter()
        .map(|domain| {
            let text = format!(
                "server = \"https://{domain}\"\n\n[host.\"https://{domain}.mirror.example\"]\n  \
                 capabilities = [\"pull\", \"resolve\"]\n"
            );
            (format!("{domain}/hosts.toml"), text)
        })
        .collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let root = root(&files);
    for domain in domains {
        assert_eq!(
            lines(&config(&root), domain, &HostOptions::default()),
            [format!("https://{domain}.mirror.example/v2 pr"), format!("https://{domain}/v2 pruf")]
        );
    }
}

#[test]
fn each_setting_names_its_file_and_line() {
    let text = "server = \"s\"\n\n[host.m]\n  skip_verify = true\n  [host.m.header]\n  x = \"1\"\n";
    let root = root(&[("r/hosts.toml", text)]);
    let at = |line| Origin::File(root.path().join("r/hosts.toml"), Some(line));
    let options = HostOptions { skip_verify: true, ..HostOptions::default() };
    let hosts = config(&root).hosts("r", &options).expect("hosts");
    let mut mirror = hosts[0].origins.clone();
    mirror.sort_by_key(|(name, _)| *name);
    let expected = [
        ("capabilities", Origin::Default),
        ("header", at(5)),
        ("host", at(3)),
        ("scheme", at(3)),
        ("skip_verify", at(4)),
    ];
    assert_eq!(mirror, expected);
    let mut registry = hosts[1].origins.clone();
    registry.sort_by_key(|(name, _)| *name);
    let expected = [
        ("capabilities", Origin::Default),
        ("scheme", at(1)),
        ("server", at(1)),
        ("skip_verify", Origin::Request),
    ];
    assert_eq!(registry, expected);
}

#[test]
fn sizes_are_bounded() {
    let many: String = (0..=64).map(|n| format!("[host.m{n}]\n")).collect();
    check_refused(&many, (1, 2), "more than 64 hosts", "");
    let many: String = (0..=64).map(|n| format!("x{n} = \"1\"\n")).collect();
    check_refused(&format!("[header]\n{many}"), (1, 2), "more than 64 headers", "");
    check_refused(&"#".repeat((256 << 10) + 1), (0, 0), "larger than 256 KiB", "");
    let deep = format!("ca = {}", "[".repeat(100_000));
    assert!(config(&root(&[("r/hosts.toml", &deep)])).hosts("r", &HostOptions::default()).is_err());
    let root = root(&[("r/hosts.toml/x", "a folder in its place")]);
    let error = config(&root).hosts("r", &HostOptions::default()).expect_err("a folder");
    assert!(error.to_string().contains("not a regular file"), "{error}");
    let root = tempfile::tempdir().expect("a folder");
    fs::create_dir(root.path().join("r")).expect("a folder");
    fs::write(root.path().join("r/hosts.toml"), b"server = \"\xff\"").expect("a file");
    assert!(
        config(&root).hosts("r", &HostOptions::default()).expect_err("bytes").to_string().contains("UTF-8")
    );
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic_or_yields_an_address_that_is_none(text in "(server|host|ca|client|header|[=\"\\[\\]{}.#a:/@ \\n]|\\PC){0,40}") {
        if let Ok(chain) = settings::parse(Path::new("/r/hosts.toml"), &text) {
            for host in chain.hosts("reg.example", &HostOptions::default()).expect("hosts") {
                let url = format!("https://{}{}/x", host.authority, host.path);
                let url = reqwest::Url::parse(&url).expect("a URL");
                assert_eq!(url.username(), "");
                assert!(host.path.is_empty() || host.path.starts_with('/'));
            }
        }
    }
}
