//! hosts.toml and certificate files: rules 1 to 48 of the specification, on folders written here.

mod localhost;
mod translated;

use std::fs;

use super::{super::host::Scheme, entry::Entry, *};

/// A root with the files of `files`: path below it, and text.
fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        fs::write(path, text).expect("a file");
    }
    root
}

fn config(root: &tempfile::TempDir) -> HostsConfig {
    HostsConfig { roots: vec![root.path().to_owned()], tables: Vec::new() }
}

/// A host in a line: scheme, address and path, then what is not usual.
fn line(host: &Host, below: &Path) -> String {
    let scheme = match host.scheme {
        Scheme::Https => "https",
        Scheme::Http => "http",
        Scheme::HttpsOrHttp => "https|http",
    };
    let may = host.capabilities;
    let letters = [(may.pull, 'p'), (may.resolve, 'r'), (may.push, 'u'), (may.referrers, 'f')];
    let letters: String = letters.iter().filter(|(may, _)| *may).map(|(_, letter)| *letter).collect();
    let mut line = format!("{scheme}://{}{} {letters}", host.authority, host.path);
    let name = |path: &Path| path.strip_prefix(below).unwrap_or(path).display().to_string();
    for ca in &host.tls.ca {
        line += &format!(" ca={}", name(ca));
    }
    for (cert, key) in &host.tls.client {
        line += &format!(" client={}+{}", name(cert), name(key));
    }
    if host.tls.skip_verify {
        line += " skip";
    }
    for (name, value) in &host.headers {
        line += &format!(" {name}:{value}");
    }
    if let Some(timeout) = host.dial_timeout {
        line += &format!(" dial={timeout:?}");
    }
    line
}

fn lines(config: &HostsConfig, domain: &str, options: &HostOptions) -> Vec<String> {
    let below = config.roots.first().cloned().unwrap_or_default();
    let hosts = config.hosts(domain, options).unwrap_or_else(|error| panic!("{domain}: {error}"));
    hosts.iter().map(|host| line(host, &below)).collect()
}

/// The hosts that a hosts.toml yields for a domain.
#[track_caller]
fn check_toml(domain: &str, text: &str, expected: &[&str]) {
    let root = root(&[(&format!("{domain}/hosts.toml"), text)]);
    assert_eq!(lines(&config(&root), domain, &HostOptions::default()), expected, "{text}");
}

/// What is said about a wrong hosts.toml: place, reason, remedy.
#[track_caller]
fn check_refused(text: &str, place: (usize, usize), said: &str, remedy: &str) {
    let root = root(&[("reg.example/hosts.toml", text)]);
    let error = config(&root).hosts("reg.example", &HostOptions::default()).expect_err(text);
    let Error::Settings { path, line, column, reason, remedy: told } = &error else { panic!("{error:?}") };
    assert_eq!((line.unwrap_or(0), column.unwrap_or(0)), place, "{text}\n{error}");
    assert!(path.ends_with("reg.example/hosts.toml"), "{error}");
    assert!(reason.contains(said), "{reason:?} does not say {said:?}");
    let told = told.clone().unwrap_or_default();
    assert!(told.contains(remedy), "{told:?} does not say {remedy:?}");
    assert_eq!(error.kind(), crate::ErrorKind::InvalidArgument);
}

const MIRROR: &str = "server = \"https://mirror.example\"\n";

/// Which of the folders `names` below one root is taken for a domain; `usual` if none is.
fn which(names: &[&str], domain: &str) -> String {
    let root = root(&[]);
    for (number, name) in names.iter().enumerate() {
        let folder = root.path().join(name);
        fs::create_dir(&folder).expect("a folder");
        fs::write(folder.join("hosts.toml"), format!("server = \"folder-{number}\"")).expect("a file");
    }
    let hosts = config(&root).hosts(domain, &HostOptions::default()).expect("hosts");
    let number =
        hosts[0].authority.strip_prefix("folder-").map(|number| number.parse::<usize>().expect("ours"));
    number.map_or("usual", |number| names[number]).to_owned()
}

#[test]
fn rules_1_2_and_5_the_first_folder_that_exists_wins() {
    for (names, domain, taken) in [
        (
            &["_default", "a.example", "a.example:5000", "a.example_5000_"][..],
            "a.example:5000",
            "a.example_5000_",
        ),
        (&["_default", "a.example", "a.example:5000"], "a.example:5000", "a.example:5000"),
        (&["_default", "a.example"], "a.example:5000", "_default"),
        (&["_default", "a.example"], "a.example:443", "a.example"),
        (&["_default", "[::1]", "[::1]_5000_"], "[::1]:5000", "[::1]_5000_"),
        (&["_default", "[:_1]_", "[::1]"], "[::1]", "[::1]"),
        (&["_default", "registry-1.docker.io"], "docker.io", "_default"),
        (&["docker.io"], "quay.io", "usual"),
    ] {
        assert_eq!(which(names, domain), taken, "{domain} in {names:?}");
    }
}

#[test]
fn rule_1_a_folder_without_hosts_toml_still_wins() {
    let root = root(&[("a.example/README", ""), ("_default/hosts.toml", MIRROR)]);
    assert_eq!(lines(&config(&root), "a.example", &HostOptions::default()), ["https://a.example/v2 pruf"]);
}

#[test]
fn rule_3_a_folder_that_cannot_be_looked_at_is_an_error() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let config = HostsConfig { roots: vec![file.path().to_owned()], tables: Vec::new() };
    let error = config.hosts("a.example", &HostOptions::default()).expect_err("not a folder");
    assert!(matches!(error, Error::ReadSettings { .. }), "{error:?}");
    let root = root(&[("a.example", "a file")]);
    let config = HostsConfig { roots: vec![root.path().to_owned()], tables: Vec::new() };
    let error = config.hosts("a.example", &HostOptions::default()).expect_err("a file");
    assert!(error.to_string().contains("not a folder"), "{error}");
}

#[test]
fn rule_4_each_root_is_searched_to_its_end() {
    let first = root(&[("_default/hosts.toml", "server = \"https://first.example\"")]);
    let second = root(&[("a.example/hosts.toml", "server = \"https://second.example\"")]);
    let absent = first.path().join("absent");
    let roots = vec![absent, first.path().to_owned(), second.path().to_owned()];
    let config = HostsConfig { roots, tables: Vec::new() };
    assert_eq!(lines(&config, "a.example", &HostOptions::default()), ["https://first.example/v2 pruf"]);
    let options = HostOptions { host_dir: Some(second.path().to_owned()), ..HostOptions::default() };
    assert_eq!(lines(&config, "a.example", &options), ["https://second.example/v2 pruf"], "a request's own");
}

#[test]
fn a_domain_cannot_leave_the_root() {
    let root = root(&[("hosts.toml", MIRROR)]);
    for domain in [
        "..", "../x", ".", "", "a/../..", "a/b", "a\0b", "a b", "x@y", "[::1", "[zz]", "a:0", "a:70000",
        "a:b",
    ] {
        let error = config(&root).hosts(domain, &HostOptions::default()).expect_err(domain);
        assert!(matches!(error, Error::Address { .. }), "{domain}: {error:?}");
    }
}

#[test]
fn a_login_speaks_to_the_registry_itself_with_its_settings() {
    for (text, expected) in [
        (MIRROR, "https://registry-1.docker.io/v2 pruf"),
        ("skip_verify = true", "https://registry-1.docker.io/v2 pruf skip"),
        ("server = \"docker.io\"\nca = \"/ca\"", "https://registry-1.docker.io/v2 pruf ca=/ca"),
        ("server = \"m\"\n[host.\"docker.io\"]\nca = \"/ca\"", "https://registry-1.docker.io/v2 pruf ca=/ca"),
    ] {
        let root = root(&[("docker.io/hosts.toml", text)]);
        let host = config(&root).registry("docker.io", &HostOptions::default()).expect("a host");
        assert_eq!(line(&host, root.path()), expected, "{text}");
    }
}

#[test]
fn rules_7_and_34_to_37_certificate_files_without_a_hosts_toml() {
    let files = [
        ("a.example/ca.crt", ""),
        ("a.example/other.crt", ""),
        ("a.example/client.cert", ""),
        ("a.example/client.key", ""),
        ("a.example/both.cert", ""),
        ("a.example/not.pem", ""),
        ("a.example/sub/sub.crt", ""),
        ("a.example/folder.crt/x", ""),
    ];
    let a = "a.example";
    let expected = format!(
        "https://a.example/v2 pruf ca={a}/ca.crt ca={a}/other.crt client={a}/both.cert+{a}/both.cert \
         client={a}/client.cert+{a}/client.key"
    );
    let dir = root(&files);
    assert_eq!(lines(&config(&dir), a, &HostOptions::default()), [expected.as_str()]);
    fs::write(dir.path().join("a.example/hosts.toml"), "").expect("an empty file");
    assert_eq!(lines(&config(&dir), a, &HostOptions::default()), [expected]);
}

#[test]
fn rule_38_files_beside_a_hosts_toml_are_named_but_not_used() {
    let text = "[host.\"m.example\"]\nca = \"used.crt\"\n";
    let root = root(&[("a.example/hosts.toml", text), ("a.example/ca.crt", ""), ("a.example/used.crt", "")]);
    let hosts = config(&root).hosts("a.example", &HostOptions::default()).expect("hosts");
    let unused: Vec<_> = hosts[1].origins.iter().filter(|(name, _)| *name == "unused").collect();
    assert_eq!(unused, [&("unused", Origin::File(root.path().join("a.example/ca.crt"), None))]);
    assert!(hosts[1].tls.ca.is_empty());
}

#[test]
fn rule_8_a_wrong_file_fails_with_its_place() {
    check_refused(
        "server = \"https://a\"\n[host.\"m\"]\n  capabilties = [\"pull\"]\n",
        (3, 3),
        "capabilties",
        "did you mean capabilities?",
    );
    check_refused("servr = \"a\"", (1, 1), "unknown key \"servr\"", "did you mean server?");
    check_refused("zzz = 1", (1, 1), "unknown key", "one of server, host");
    check_refused("server = ", (1, 10), "", "");
    check_refused("server = \"a\"\nserver = \"b\"", (2, 1), "duplicate key", "");
    check_refused("server = 1", (1, 10), "server must be a string, not integer", "https://registry.example");
    check_refused("skip_verify = \"true\"", (1, 15), "must be true or false", "skip_verify = true");
    check_refused("host = [\"m\"]", (1, 1), "host must be a table, not array", "[host.");
    check_refused("[[host.m]]\n", (1, 8), "m must be a table", "[host.");
    check_refused("[host.m]\n[host.m.host.n]\n", (2, 9), "no hosts of its own", "[host.");
    check_refused("[host.m]\nserver = \"x\"\n", (2, 1), "unknown key \"server\"", "");
    check_refused("server = \"file:///etc\"", (1, 10), "neither http nor https", "https://HOST");
    check_refused("[host.\"https://\"]", (1, 7), "no host name", "");
    check_refused("[host.\"a b\"]", (1, 7), "' ' is no part of a host name", "");
    check_refused("[host.\"a:99999\"]", (1, 7), "65535", "");
    check_refused("server = \"https://a/v2/\\u0001\"", (1, 10), "no part of a path", "");
}

#[test]
fn rules_21_and_22_capabilities() {
    check_toml("reg.example", "capabilities = [\"PULL\", \"Resolve\"]\nserver = \"s\"", &["https://s/v2 pr"]);
    check_toml("reg.example", "capabilities = []\nserver = \"s\"", &["https://s/v2 pruf"]);
    check_toml(
        "reg.example",
        "capabilities = [\"push\", \"referrers\"]\nserver = \"s\"",
        &["https://s/v2 uf"],
    );
    check_refused(
        "capabilities = [\"pull\",\n \"pus\"]",
        (2, 2),
        "unknown capability \"pus\"",
        "did you mean pu",
    );
    check_refused(
        "capabilities = [\"everything\"]",
        (1, 17),
        "everything",
        "one of pull, resolve, push, referrers",
    );
    check_refused("capabilities = \"pull\"", (1, 16), "a list of strings", "[\"pull\", \"resolve\"]");
    check_refused("capabilities = [1]", (1, 17), "a list of strings", "");
}

#[test]
fn rules_9_and_10_hosts_come_in_the_order_of_the_file_in_any_form() {
    check_toml(
        "reg.example",
        "[host.\"z.example\"]\n[host.\"a.example\"]\n[host.\"m.example\".header]\nX-A = \"1\"\n[host.\"b.example\"]\n",
        &[
            "https://z.example/v2 pruf",
            "https://a.example/v2 pruf",
            "https://m.example/v2 pruf X-A:1",
            "https://b.example/v2 pruf",
            "https://reg.example/v2 pruf",
        ],
    );
    // A table of a table does not count: the host's own does.
    check_toml(
        "reg.example",
        "[host.\"a\".header]\nx = \"1\"\n[host.\"b\"]\n[host.\"a\"]\n",
        &["https://b/v2 pruf", "https://a/v2 pruf x:1", "https://reg.example/v2 pruf"],
    );
    let inline = "host = { \"z\" = { skip_verify = true }, \"a\" = {} }";
    check_toml(
        "reg.example",
        inline,
        &["https://z/v2 pruf skip", "https://a/v2 pruf", "https://reg.example/v2 pruf"],
    );
    let dotted = "host.\"z\".skip_verify = true\nhost.\"a\".override_path = true";
    check_toml(
        "reg.example",
        dotted,
        &["https://z/v2 pruf skip", "https://a pruf", "https://reg.example/v2 pruf"],
    );
}

#[test]
fn rules_11_to_13_and_31_the_root_is_the_last_host_with_its_own_settings() {
    let text = "server = \"https://s.example\"\nca = \"root.crt\"\ncapabilities = [\"pull\"]\n[host.\"m\"]\n";
    check_toml("reg.example", text, &["https://m/v2 pruf", "https://s.example/v2 p ca=reg.example/root.crt"]);
    let text = "ca = \"root.crt\"\ncapabilities = [\"pull\"]\noverride_path = true\ndial_timeout = \"5s\"\n[host.\"m\"]\nca = \"m.crt\"";
    check_toml(
        "reg.example",
        text,
        &[
            "https://m/v2 pruf ca=reg.example/m.crt",
            "https://reg.example/v2 pruf ca=reg.example/root.crt dial=5s",
        ],
    );
    check_toml("docker.io", MIRROR, &["https://mirror.example/v2 pruf"]);
}

#[test]
fn rules_14_to_19_addresses() {
    for (text, expected) in [
        ("httpbin.local", "https://httpbin.local/v2"),
        ("HTTPS://Mirror.Example:8443", "https://mirror.example:8443/v2"),
        ("http://mirror", "http://mirror/v2"),
        ("https://docker.io", "https://registry-1.docker.io/v2"),
        ("docker.io", "https://registry-1.docker.io/v2"),
        ("https://m/v2", "https://m/v2"),
        ("https://m/", "https://m/v2"),
        ("https://m/v2/", "https://m/v2"),
        ("https://m/proxy/./x/../hub/", "https://m/proxy/hub/v2"),
        ("https://m/../..", "https://m/v2"),
        ("https://user:secret@m/p?a=b#c", "https://m/p/v2"),
        ("https://[2001:DB8::1]:5000/p", "https://[2001:db8::1]:5000/p/v2"),
        ("my_registry:5000", "https://my_registry:5000/v2"),
    ] {
        check_toml("reg.example", &format!("server = {text:?}"), &[&format!("{expected} pruf")]);
    }
    check_toml("reg.example", "server = \"https://m/a/b\"\noverride_path = true", &["https://m/a/b pruf"]);
    check_toml("reg.example", "server = \"https://m\"\noverride_path = true", &["https://m pruf"]);
    check_toml("docker.io", "[host.\"m\"]", &["https://m/v2 pruf", "https://registry-1.docker.io/v2 pruf"]);
}

#[test]
fn rules_28_to_30_tls() {
    let with = |text: &str| format!("server = \"s\"\n{text}");
    let ca = with("ca = \"x.crt\"");
    check_toml("r", &ca, &["https://s/v2 pruf ca=r/x.crt"]);
    check_toml(
        "r",
        &with("ca = [\"x.crt\", \"/etc/y.crt\"]"),
        &["https://s/v2 pruf ca=r/x.crt ca=/etc/y.crt"],
    );
    check_toml("r", &with("client = \"c.pem\""), &["https://s/v2 pruf client=r/c.pem+r/c.pem"]);
    check_toml(
        "r",
        &with("client = [\"c.pem\", [\"a.cert\", \"a.key\"], [\"b.cert\", \"\"]]\nskip_verify = true"),
        &["https://s/v2 pruf client=r/c.pem+r/c.pem client=r/a.cert+r/a.key client=r/b.cert+r/b.cert skip"],
    );
    check_refused("ca = 1", (1, 6), "list of strings", "ca = \"ca.crt\"");
    check_refused("ca = \"\"", (1, 6), "no path", "");
    check_refused("client = 1", (1, 10), "must be a file, or a list", "client = [[");
    check_refused(
        "client = [[\"a\", \"b\", \"c\"]]",
        (1, 11),
        "a pair is a certificate and its key",
        "client = [[",
    );
    check_refused("client = [[\"a\"]]", (1, 11), "a pair", "");
    check_refused("client = [true]", (1, 11), "a list of strings", "");
}

#[test]
fn rules_39_and_41_headers_and_dial_timeout() {
    let text = "server = \"s\"\ndial_timeout = \"1m1.5s\"\n[header]\nX-Z = \"1\"\nx-a = [\"2\", \"3\"]\n";
    check_toml("r", text, &["https://s/v2 pruf X-Z:1 x-a:2 x-a:3 dial=61.5s"]);
    check_refused("[header]\nx = 1\n", (2, 5), "list of strings", "x = \"value\"");
    check_refused("[header]\n\"x y\" = \"1\"\n", (2, 1), "cannot be sent", "");
    check_refused("[header]\nContent-Length = \"1\"\n", (2, 1), "cannot be sent", "");
    check_refused("[header]\nx = \"MARKER\\r\\nEvil: 1\"\n", (2, 5), "the value of header x", "visible");
    for text in ["1", "s", "1x", "-1s", "", "0s", "1s2", "1..2s", "48h", "99999999999999999999h"] {
        check_refused(&format!("dial_timeout = {text:?}"), (1, 16), "dial_timeout", "5s");
    }
    for (text, seconds) in [("300ms", 0.3), ("1h", 3600.0), ("100us", 1e-4), ("100µs", 1e-4), (".5s", 0.5)] {
        assert_eq!(duration::parse(text), Ok(std::time::Duration::from_secs_f64(seconds)), "{text}");
    }
}

#[test]
fn header_values_are_in_no_debug_text_and_no_error() {
    let root = root(&[("r/hosts.toml", "[host.m.header]\nAuthorization = \"Basic MARKER\"\n")]);
    let hosts = config(&root).hosts("r", &HostOptions::default()).expect("hosts");
    assert_eq!(hosts[0].headers[0].1, "Basic MARKER");
    let options =
        HostOptions { headers: vec![("a".to_owned(), "MARKER".to_owned())], ..HostOptions::default() };
    let text =
        format!("{hosts:?} {options:?} {:?}", Entry { headers: options.headers.clone(), ..Entry::default() });
    assert!(!text.contains("MARKER"), "{text}");
}
