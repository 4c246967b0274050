//! docker's config.json and its helpers: rules 75, 81 and 83, NET-18 and NET-19.

use std::{fs, os::unix::fs::PermissionsExt as _, sync::LazyLock};

use super::*;

/// What no error and no debug text may show.
const MARKER: &str = "MARKER-secret";

/// A folder of helpers; made once, before any of them runs: a program that is being written cannot be started.
///
/// `box` keeps files in the folder that its own name is in; the others show a fault each.
static HELPERS: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a folder");
    let known = "read -r k; case $k in known.example) echo '{\"Username\":\"u\",\"Secret\":\"MARKER-secret\"}';; \
                 https://url.example) echo '{\"Username\":\"<token>\",\"Secret\":\"MARKER-secret\"}';; \
                 https://index.docker.io/v1/) echo '{\"Username\":\"hub\",\"Secret\":\"MARKER-secret\"}';; \
                 empty.example) echo '{\"Username\":\"\",\"Secret\":\"\"}';; \
                 *) echo 'credentials not found in native keychain'; exit 1;; esac";
    // Writes the last input of each verb beside itself.
    let kept = "cat > \"$0.$1\"; [ \"$1\" != get ] || cat \"$0.store\"";
    for (name, script) in [
        ("known", known),
        ("kept", kept),
        ("fails", "echo 'the vault is locked'; echo MARKER-secret; exit 1"),
        ("leaks", "echo '{\"Secret\":\"MARKER-secret\"}'; exit 1"),
        ("echoes", "cat; echo; exit 1"),
        ("garbage", "echo MARKER-secret"),
        ("huge", "exec cat /dev/zero"),
        ("hangs", "exec tail -f /dev/null"),
    ] {
        let path = dir.path().join(format!("docker-credential-{name}"));
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
    }
    dir
});

fn basic(name: &str) -> Credential {
    Credential::Basic { username: name.to_owned(), password: Redacted(MARKER.to_owned()) }
}

fn refresh() -> Credential {
    Credential::Refresh(Redacted(MARKER.to_owned()))
}

/// A configuration of this text, in a folder that lives as long as it.
fn config(text: &str) -> (tempfile::TempDir, DockerConfig) {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("config.json");
    fs::write(&path, text).expect("a file");
    let config = DockerConfig::read(&path).unwrap_or_else(|error| panic!("{text}: {error}"));
    (dir, DockerConfig { helpers: HELPERS.path().to_owned(), ..config })
}

async fn find(text: &str, host: &str) -> Result<Credential, Error> {
    config(text).1.find(host).await
}

/// `auths` with one key, whose user is `u`.
fn auths(key: &str) -> String {
    let auth = STANDARD.encode(format!("u:{MARKER}"));
    format!("{{\"auths\":{{\"{key}\":{{\"auth\":\"{auth}\"}}}}}}")
}

#[tokio::test]
async fn rule_83_and_net_19_keys_match_their_host_and_no_other() {
    for (key, hosts) in [
        ("reg.example", &["reg.example", "reg.example:443", "REG.example"][..]),
        ("https://reg.example", &["reg.example"]),
        ("https://reg.example/", &["reg.example"]),
        ("https://reg.example/v1/", &["reg.example"]),
        ("http://reg.example/v2", &["reg.example"]),
        ("reg.example:443", &["reg.example"]),
        ("reg.example:5000", &["reg.example:5000"]),
        ("[::1]:5000", &["[::1]:5000"]),
        ("https://index.docker.io/v1/", &["registry-1.docker.io", "docker.io", "index.docker.io"]),
        ("docker.io", &["registry-1.docker.io"]),
        ("registry-1.docker.io", &["docker.io"]),
    ] {
        for host in hosts {
            assert_eq!(find(&auths(key), host).await.expect(key), basic("u"), "{key} for {host}");
        }
        for other in [
            "example",
            "reg.example:80",
            "reg.example:5001",
            "reg.example.evil.example",
            "evil-reg.example",
            "xreg.example",
            "sub.reg.example",
            "auth.docker.io",
            "docker.io.evil.example",
            "hub.docker.io",
        ] {
            assert_eq!(
                find(&auths(key), other).await.expect(key),
                Credential::Anonymous,
                "{key} for {other}"
            );
        }
    }
    for key in [
        "reg.example/team",
        "https://reg.example/v1/team",
        "evil.example/reg.example",
        "evil.example@reg.example",
    ] {
        assert_eq!(find(&auths(key), "reg.example").await.expect(key), Credential::Anonymous, "{key}");
    }
}

#[tokio::test]
async fn forms_of_an_entry() {
    let auth = |text: &str| format!("\"auth\":\"{}\"", STANDARD.encode(text));
    for (entry, expected) in [
        (format!("\"username\":\"n\",\"password\":\"{MARKER}\""), basic("n")),
        (auth(&format!("n:{MARKER}\0")), basic("n")),
        (format!("{},\"identitytoken\":\"{MARKER}\"", auth("n:")), refresh()),
        (auth(&format!("<token>:{MARKER}")), refresh()),
        (
            format!("\"identitytoken\":\"x\",\"registrytoken\":\"{MARKER}\""),
            Credential::Bearer(Redacted(MARKER.to_owned())),
        ),
        ("\"auth\":\"\",\"email\":\"e\"".to_owned(), Credential::Anonymous),
        (String::new(), Credential::Anonymous),
    ] {
        let text = format!("{{\"auths\":{{\"r\":{{{entry}}}}}}}");
        assert_eq!(find(&text, "r").await.expect(&entry), expected, "{entry}");
    }
    let colon = format!("{{\"auths\":{{\"r\":{{{}}}}}}}", auth("n:a:b"));
    let expected = Credential::Basic { username: "n".to_owned(), password: Redacted("a:b".to_owned()) };
    assert_eq!(find(&colon, "r").await.expect("a password"), expected);
    for auth in ["MARKER-secret", &STANDARD.encode("MARKER-secret"), &STANDARD.encode(b"\xff:x")] {
        let error =
            find(&format!("{{\"auths\":{{\"r\":{{\"auth\":\"{auth}\"}}}}}}"), "r").await.expect_err(auth);
        assert_eq!(
            error.to_string(),
            "credentials for r: their auth is not the base64 form of name:password"
        );
    }
}

#[tokio::test]
async fn helpers_come_before_the_file_and_the_hosts_own_before_the_store() {
    let auth = STANDARD.encode(format!("file:{MARKER}"));
    let with =
        |keys: &str, host: &str| format!("{{{keys},\"auths\":{{\"{host}\":{{\"auth\":\"{auth}\"}}}}}}");
    for (keys, host, expected) in [
        ("\"credsStore\":\"known\"", "known.example", basic("u")),
        ("\"credsStore\":\"known\"", "url.example", refresh()),
        ("\"credsStore\":\"known\"", "registry-1.docker.io", basic("hub")),
        ("\"credsStore\":\"known\"", "other.example", basic("file")),
        ("\"credsStore\":\"known\"", "empty.example", basic("file")),
        ("\"credsStore\":\"\"", "known.example", basic("file")),
        ("\"credsStore\":null,\"credHelpers\":null", "known.example", basic("file")),
        (
            "\"credsStore\":\"fails\",\"credHelpers\":{\"known.example\":\"known\"}",
            "known.example",
            basic("u"),
        ),
        ("\"credHelpers\":{\"docker.io\":\"known\"}", "registry-1.docker.io", basic("hub")),
        ("\"credHelpers\":{\"known.example\":\"known\"}", "other.example", basic("file")),
        // One that is not there at all is only missed where it is named for the host.
        ("\"credsStore\":\"absent\"", "known.example", basic("file")),
    ] {
        assert_eq!(find(&with(keys, host), host).await.expect(keys), expected, "{keys} {host}");
    }
    let error = find("{\"credHelpers\":{\"r\":\"absent\"}}", "r").await.expect_err("absent");
    assert_eq!(error.to_string(), "credentials for r: the program docker-credential-absent is not installed");
}

#[tokio::test]
async fn net_18_helpers_are_bounded_and_their_secrets_not_repeated() {
    for (name, said) in [
        ("fails", "docker-credential-fails: get failed: the vault is locked"),
        ("leaks", "docker-credential-leaks: get failed: "),
        ("garbage", "its answer is not the JSON"),
        ("huge", "larger than 64 KiB"),
        ("../x", "is not the name of a credential helper"),
        ("/bin/sh", "is not the name of a credential helper"),
        ("a b", "is not the name of a credential helper"),
        ("-x", "is not the name of a credential helper"),
        (".", "is not the name of a credential helper"),
    ] {
        let error = find(&format!("{{\"credsStore\":\"{name}\"}}"), "r").await.expect_err(name);
        let text = format!("{error} {error:?}");
        assert!(text.contains(said), "{text} does not say {said}");
        assert!(!text.contains(MARKER), "{text}");
    }
    let helper = Helper::new(HELPERS.path(), "r", "hangs").expect("a name").hasty();
    let error = helper.get(&["r".to_owned()]).await.expect_err("it hangs");
    assert!(error.to_string().ends_with("docker-credential-hangs: it takes too long"), "{error}");
    let helper = Helper::new(HELPERS.path(), "r", "echoes").expect("a name");
    let error = helper.store("r", "u", &Redacted(MARKER.to_owned())).await.expect_err("it fails");
    assert!(!error.to_string().contains(MARKER), "{error}");
}

#[tokio::test]
async fn a_login_is_kept_in_the_file_and_the_rest_of_it_stays() {
    let text = "{\"auths\":{\"https://r.example\":{\"auth\":\"b2xkOm9sZA==\"},\"other\":{\"auth\":\"x\",\"new\":1}},\
                \"HttpHeaders\":{\"a\":\"b\"},\"psFormat\":\"x\"}";
    let (dir, config) = config(text);
    let path = dir.path().join("config.json");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("a mode");
    let secret = Redacted(MARKER.to_owned());
    assert_eq!(config.store("r.example", "u", &secret).await.expect("kept"), Kept::File(path.clone()));
    assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
    let json: serde_json::Value = serde_json::from_slice(&fs::read(&path).expect("a file")).expect("JSON");
    let expected = serde_json::json!({
        "auths": {"r.example": {"auth": STANDARD.encode(format!("u:{MARKER}"))}, "other": {"auth": "x", "new": 1}},
        "HttpHeaders": {"a": "b"},
        "psFormat": "x",
    });
    assert_eq!(json, expected);
    let config = DockerConfig::read(&path).expect("what was written");
    assert_eq!(config.find("r.example").await.expect("kept"), basic("u"));
    config.store("registry-1.docker.io", "hub", &secret).await.expect("kept");
    assert!(fs::read_to_string(&path).expect("a file").contains("\"https://index.docker.io/v1/\""));
    let config = DockerConfig::read(&path).expect("what was written");
    assert!(
        config.erase("docker.io").await.expect("erased") && config.erase("r.example").await.expect("erased")
    );
    assert!(!config.erase("r.example").await.expect("nothing is left"));
    let json: serde_json::Value = serde_json::from_slice(&fs::read(&path).expect("a file")).expect("JSON");
    assert_eq!(json["auths"], serde_json::json!({"other": {"auth": "x", "new": 1}}));
    assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 1, "nothing is left beside it");
}

#[tokio::test]
async fn a_first_login_makes_folder_and_file_and_a_link_stays_one() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("new/.docker/config.json");
    let config = DockerConfig::read(&path).expect("nothing yet");
    assert_eq!(config.find("r").await.expect("nothing yet"), Credential::Anonymous);
    assert!(!config.erase("r").await.expect("nothing yet"));
    assert!(!path.exists(), "a logout writes nothing");
    config.store("r", "u", &Redacted(MARKER.to_owned())).await.expect("kept");
    let mode = fs::metadata(path.parent().expect("a folder")).expect("a folder").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let link = dir.path().join("link.json");
    std::os::unix::fs::symlink(&path, &link).expect("a link");
    DockerConfig::read(&link)
        .expect("a file")
        .store("s", "v", &Redacted(MARKER.to_owned()))
        .await
        .expect("kept");
    assert!(fs::symlink_metadata(&link).expect("a link").is_symlink());
    assert_eq!(DockerConfig::read(&path).expect("a file").find("s").await.expect("kept"), basic("v"));
}

#[tokio::test]
async fn a_login_goes_to_the_helper_if_there_is_one() {
    let (dir, config) = config("{\"credsStore\":\"kept\",\"auths\":{\"r\":{\"auth\":\"b2xkOm9sZA==\"}}}");
    let last = |verb: &str| {
        fs::read_to_string(HELPERS.path().join(format!("docker-credential-kept.{verb}"))).expect("an input")
    };
    let kept = config.store("r", "u", &Redacted(MARKER.to_owned())).await.expect("kept");
    assert_eq!(kept, Kept::Helper("kept".to_owned()));
    let input: serde_json::Value = serde_json::from_str(&last("store")).expect("JSON");
    assert_eq!(input, serde_json::json!({"ServerURL": "r", "Username": "u", "Secret": MARKER}));
    let text = fs::read_to_string(dir.path().join("config.json")).expect("a file");
    assert!(!text.contains(MARKER) && !text.contains("b2xkOm9sZA==") && text.contains("\"r\": {}"), "{text}");
    assert_eq!(config.find("r").await.expect("kept"), basic("u"));
    assert!(config.erase("r").await.expect("erased"));
    assert_eq!(last("erase"), "https://r", "each spelling that it knew");
    let absent = DockerConfig { helpers: dir.path().to_owned(), ..config };
    let error = absent.store("r", "u", &Redacted(MARKER.to_owned())).await.expect_err("no helper");
    assert!(error.to_string().contains("docker-credential-kept is not installed"), "{error}");
}

#[tokio::test]
async fn wrong_files_are_told_by_place_and_not_by_text() {
    for (text, place, said) in [
        ("{\"auths\":\n {\"r\": \"MARKER-secret\"}}", Some((2, 22)), "not of the type"),
        ("{\"auths\":{\"r\":{\"auth\":[\"MARKER-secret\"]}}}", Some((1, 22)), "not of the type"),
        ("MARKER-secret", Some((1, 1)), "not JSON"),
        ("{", Some((1, 1)), "not JSON"),
    ] {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("config.json");
        fs::write(&path, text).expect("a file");
        let error = DockerConfig::read(&path).expect_err(text);
        let Error::Settings { line, column, reason, remedy, .. } = &error else { panic!("{error:?}") };
        assert_eq!(line.zip(*column), place, "{text}");
        assert!(reason.contains(said) && remedy.is_some(), "{error}");
        assert!(!format!("{error:?}").contains(MARKER), "{error:?}");
    }
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("config.json");
    fs::write(&path, " ".repeat((1 << 20) + 1)).expect("a file");
    assert!(DockerConfig::read(&path).expect_err("too large").to_string().contains("larger than 1 MiB"));
    fs::write(&path, "").expect("a file");
    DockerConfig::read(&path).expect("empty is as good as absent");
    assert!(matches!(DockerConfig::read(dir.path()), Err(Error::ReadSettings { .. })));
    fs::write(&path, "{\"auths\": [], \"x\": 1}").expect("a file");
    DockerConfig::read(&path).expect_err("a list");
    let (_dir, config) = config("{}");
    fs::write(&config.path, "{\"auths\": []}").expect("a file");
    config.store("r", "u", &Redacted(MARKER.to_owned())).await.expect_err("nothing is overwritten");
    assert_eq!(fs::read_to_string(&config.path).expect("a file"), "{\"auths\": []}");
}

#[test]
fn no_debug_text_shows_a_secret() {
    let text = format!("{{\"auths\":{{\"r\":{{\"password\":\"{MARKER}\",\"username\":\"u\"}}}}}}");
    assert!(!format!("{:?}", config(&text).1).contains(MARKER));
}
