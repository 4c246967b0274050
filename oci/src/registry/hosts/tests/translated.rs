//! Tests: older tables become the same lists.

use std::collections::BTreeMap;

use super::{
    super::{
        buildkit::{KeyPair, Registry},
        legacy,
    },
    *,
};

fn from_buildkit(tables: &[(&str, Registry)]) -> HostsConfig {
    let tables: BTreeMap<String, Registry> =
        tables.iter().map(|(name, table)| ((*name).to_owned(), table.clone())).collect();
    let tables = buildkit::tables(&tables, Path::new("/etc/buildd/buildd.toml")).expect("tables");
    HostsConfig { roots: Vec::new(), tables }
}

fn usual(config: &HostsConfig, domain: &str) -> Vec<String> {
    lines(config, domain, &HostOptions::default())
}

#[test]
fn buildkit_tables() {
    let mirrors = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
    let config = from_buildkit(&[
        (
            "docker.io",
            Registry {
                mirrors: mirrors(&[
                    "m.example",
                    "h.example:5000/proxy/hub",
                    "https://s.example",
                    "localhost:5000",
                ]),
                ..Registry::default()
            },
        ),
        ("h.example:5000", Registry { http: Some(true), insecure: Some(true), ..Registry::default() }),
        ("p.example", Registry { http: Some(true), ..Registry::default() }),
        (
            "s.example",
            Registry {
                ca: vec!["/ca.pem".into()],
                keypair: vec![KeyPair { key: "/k.pem".into(), cert: "/c.pem".into() }],
                ..Registry::default()
            },
        ),
        ("localhost:7000", Registry { http: Some(false), ..Registry::default() }),
    ]);
    assert_eq!(
        usual(&config, "docker.io"),
        [
            "https://m.example/v2 pr",
            "https|http://h.example:5000/v2/proxy/hub pr skip",
            "https://s.example/v2 pr ca=/ca.pem client=/c.pem+/k.pem",
            "http://localhost:5000/v2 pr",
            "https://registry-1.docker.io/v2 pruf",
        ]
    );
    assert_eq!(usual(&config, "h.example:5000"), ["https|http://h.example:5000/v2 pruf skip"]);
    assert_eq!(usual(&config, "p.example"), ["http://p.example/v2 pruf"]);
    assert_eq!(usual(&config, "localhost:7000"), ["https://localhost:7000/v2 pruf"]);
    assert_eq!(usual(&config, "other.example"), ["https://other.example/v2 pruf"]);
    let hosts = config.hosts("p.example", &HostOptions::default()).expect("hosts");
    assert!(hosts[0].origins.contains(&(
        "scheme",
        Origin::Config("/etc/buildd/buildd.toml".into(), "registry.\"p.example\"".to_owned())
    )));
}

#[test]
fn a_buildkit_mirror_that_is_no_address_is_refused() {
    let table = Registry { mirrors: vec!["ftp://m".to_owned()], ..Registry::default() };
    let tables = BTreeMap::from([("a".to_owned(), table)]);
    let error = buildkit::tables(&tables, Path::new("/b.toml")).expect_err("ftp");
    assert!(error.to_string().contains("mirror \"ftp://m\""), "{error}");
}

#[test]
fn hosts_toml_wins_over_tables_and_certificates_fill_them() {
    let table = Registry { mirrors: vec!["m.example".to_owned()], ..Registry::default() };
    let tables = from_buildkit(&[("a.example", table)]).tables;
    let with = |files: &[(&str, &str)]| {
        let root = root(files);
        let config = HostsConfig { roots: vec![root.path().to_owned()], tables: tables.clone() };
        usual(&config, "a.example")
    };
    assert_eq!(with(&[("a.example/hosts.toml", MIRROR)]), ["https://mirror.example/v2 pruf"]);
    assert_eq!(
        with(&[("a.example/x.crt", "")]),
        ["https://m.example/v2 pr", "https://a.example/v2 pruf ca=a.example/x.crt"]
    );
}

const CONTAINERD: &str = r#"
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "pause"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "/etc/a:/etc/b"
  [plugins."io.containerd.grpc.v1.cri".registry.mirrors."docker.io"]
    endpoint = ["https://m.example", "http://10.0.0.1:5000/proxy/v2/hub", "https://registry-1.docker.io"]
  [plugins."io.containerd.grpc.v1.cri".registry.mirrors."k.example"]
    endpoint = ["https://m.example"]
  [plugins."io.containerd.grpc.v1.cri".registry.mirrors."*"]
    endpoint = ["https://any.example"]
  [plugins."io.containerd.grpc.v1.cri".registry.configs."m.example".tls]
    ca_file = "/ca.pem"
    cert_file = "/c.pem"
    key_file = "/k.pem"
  [plugins."io.containerd.grpc.v1.cri".registry.configs."only.example".tls]
    insecure_skip_verify = true
  [plugins."io.containerd.grpc.v1.cri".registry.configs."only.example".auth]
    password = "MARKER"
[plugins."io.containerd.transfer.v1.local"]
  config_path = "/etc/b:/etc/c"
"#;

#[test]
fn containerds_older_tables() {
    let legacy =
        legacy::from_containerd(CONTAINERD, Path::new("/etc/containerd/config.toml")).expect("tables");
    assert_eq!(legacy.roots, ["/etc/a", "/etc/b", "/etc/c"].map(PathBuf::from));
    let config = HostsConfig { roots: Vec::new(), tables: legacy.tables };
    let m = "https://m.example/v2 pr ca=/ca.pem client=/c.pem+/k.pem";
    assert_eq!(
        usual(&config, "docker.io"),
        [m, "http://10.0.0.1:5000/proxy/v2/hub pr", "https://registry-1.docker.io/v2 pruf"]
    );
    assert_eq!(usual(&config, "k.example"), [m, "https://k.example/v2 pruf"]);
    assert_eq!(usual(&config, "z.example"), ["https://any.example/v2 pr", "https://z.example/v2 pruf"]);
    assert_eq!(usual(&config, "only.example"), ["https://only.example/v2 pruf skip"]);
    let advice = legacy.advice.join("\n");
    for part in [
        "/etc/containerd/config.toml:7: \"docker.io\" is in the older form: write it as docker.io/hosts.toml below a \
         config_path: [host.\"https://m.example\"] capabilities = [\"pull\", \"resolve\"] \
         [host.\"http://10.0.0.1:5000/proxy/v2/hub\"] capabilities = [\"pull\", \"resolve\"], override_path = true",
        "config.toml:11: \"*\" is in the older form: write it as _default/hosts.toml",
        "configs.\"only.example\".tls is the older form",
        "run buildctl login only.example",
    ] {
        assert!(advice.contains(part), "{part}\nis not in\n{advice}");
    }
    assert!(!advice.contains("MARKER"), "{advice}");
}

#[test]
fn advice_written_down_yields_the_same_hosts() {
    let legacy = legacy::from_containerd(CONTAINERD, Path::new("/c.toml")).expect("tables");
    let advice = legacy.advice.iter().find(|line| line.contains("\"k.example\"")).expect("advice");
    let table = advice.split("config_path: ").nth(1).expect("a table").replace("] ", "]\n");
    check_toml("k.example", &table, &["https://m.example/v2 pr", "https://k.example/v2 pruf"]);
}

#[test]
fn wrong_older_tables_are_refused_with_their_place() {
    for (text, said) in [
        (
            "[plugins.cri.registry.mirrors.a]\nendpoint = \"x\"",
            "/c.toml:2:12: endpoint must be a list of strings",
        ),
        ("[plugins.cri.registry.mirrors.a]\nendpoint = [\"ftp://x\"]", "/c.toml:2:13: \"ftp://x\": scheme"),
        ("[plugins.cri.registry.configs.a.tls]\nca_fil = \"x\"", "/c.toml:2:1: unknown key \"ca_fil\""),
        (
            "[plugins.cri.registry.configs.a.tls]\nkey_file = \"x\"",
            "/c.toml:1:33: key_file without cert_file",
        ),
        ("[plugins.cri.registry]\nconfig_path = [\"x\"]", "/c.toml:2:15: config_path must be a string"),
        ("[plugins.cri]\nregistry = 1", "registry must be a table"),
        ("plugins = 1", "plugins must be a table"),
        ("[plugins", "/c.toml:1:9"),
    ] {
        let error = legacy::from_containerd(text, Path::new("/c.toml")).expect_err(text).to_string();
        assert!(error.contains(said), "{error:?} does not say {said:?}");
    }
    let none = legacy::from_containerd("version = 3\n[plugins.other]\nregistry = 1", Path::new("/c.toml"));
    assert!(none.expect("nothing of ours").tables.is_empty());
}
