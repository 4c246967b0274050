//! What a file may say, and what it may not.

use super::*;

fn parse(text: &str) -> Result<Config, ConfigError> {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("c.toml");
    std::fs::write(&path, text).expect("write");
    let config = Config::load(&path)?;
    config.check().map(|()| config)
}

#[test]
fn defaults_survive_a_round() {
    let text = Config::default().to_toml().expect("plain data");
    assert_eq!(parse(&text).expect("our own output").to_toml().expect("plain data"), text);
}

#[test]
fn buildkit_keys_are_understood() {
    let config = parse(
        "root = \"/r\"\ninsecure-entitlements = [\"network.host\"]\n[grpc]\naddress = [\"unix:///a\", \"unix:///b\"]\n\
         [worker.oci]\nmax-parallelism = 3\n[worker.oci.labels]\nk = \"v\"\n\
         [registry.\"docker.io\"]\nmirrors = [\"m\"]\nhttp = true\n",
    )
    .expect("known keys");
    assert_eq!(config.root, Path::new("/r"));
    assert_eq!(config.addresses(), ["unix:///a", "unix:///b"]);
    assert_eq!(config.worker.oci.max_parallelism, Some(3));
    assert_eq!(config.worker.oci.labels["k"], "v");
}

#[test]
fn mistakes_are_refused() {
    for text in ["rot = \"/r\"\n", "[worker]\nnetwork = \"host\"\n", "root = 7\n", "["] {
        assert!(matches!(parse(text), Err(ConfigError::Parse { .. })), "{text}");
    }
    for text in [
        "[worker]\ndefault-network = \"bridge\"\n",
        "[worker]\nlayer-form = \"zip\"\n",
        "insecure-entitlements = [\"devices\"]\n",
    ] {
        assert!(matches!(parse(text), Err(ConfigError::Value { .. })), "{text}");
    }
}

#[test]
fn every_key_is_documented() {
    let text = "root = \"/r\"\nstate = \"/s\"\ndebug = true\ninsecure-entitlements = []\n[grpc]\naddress = []\n\
        [worker.oci]\nenabled = true\nsnapshotter = \"x\"\ngc = true\ngckeepstorage = 1\nreservedSpace = 1\nmaxUsedSpace = 1\n\
        minFreeSpace = 1\nmax-parallelism = 1\n[[worker.oci.gcpolicy]]\nall = true\nkeepDuration = 1\nkeepBytes = 1\n\
        reservedSpace = 1\nmaxUsedSpace = 1\nminFreeSpace = 1\n[registry.HOST]\nmirrors = []\nhttp = true\ninsecure = true\nca = []\n";
    let all = parse(text).expect("known keys").to_toml().expect("plain data");
    let page =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/config.md")).expect("the page");
    let keys = all.lines().filter_map(|line| line.split_once(" = ").map(|(key, _)| key));
    let missing: Vec<&str> = keys
        .filter(|key| !page.contains(&format!("`{key}`")) && !page.contains(&format!("] {key}`")))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(all.contains("minFreeSpace") && all.contains("step-processes"), "{all}");
}

#[test]
fn a_state_folder_belongs_to_its_root() {
    let dir = tempfile::tempdir().expect("a folder");
    let config = |root: &Path| Config { root: root.to_owned(), ..Config::default() };
    let (one, other) = (dir.path().join("one"), dir.path().join("other"));
    assert_eq!(Config::default().state(), Path::new("/run/buildd"));
    assert_eq!(
        config(Path::new("/var/lib/../lib/buildd")).state(),
        Path::new("/run/buildd"),
        "the same root"
    );
    let state = config(&one).state();
    assert_ne!(state, config(&other).state());
    assert!(
        !state.starts_with("/run/buildd"),
        "the default daemon's folder has none of it: {}",
        state.display()
    );
    std::fs::create_dir(&one).expect("a folder");
    assert_eq!(config(&one).state(), state, "it is the same when the root is there");
    std::os::unix::fs::symlink(&one, &other).expect("a link");
    assert_eq!(config(&other).state(), state, "and when a link leads to it");
    let named = Config { state: Some("/s".into()), ..config(&one) };
    assert_eq!((named.state(), named.addresses()), ("/s".into(), vec!["unix:///s/buildd.sock".to_owned()]));
    assert_eq!(config(&one).addresses(), ["unix:///run/buildd/buildd.sock"], "where clients look");
}
