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
    for text in ["[worker]\ndefault-network = \"bridge\"\n", "insecure-entitlements = [\"device\"]\n"] {
        assert!(matches!(parse(text), Err(ConfigError::Value { .. })), "{text}");
    }
}
