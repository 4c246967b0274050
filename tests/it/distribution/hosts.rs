//! hosts.toml, credentials and everything else that says where an image may be had.

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::mpsc::{Receiver, channel},
};

use buildd_oci::media_type;
use buildd_tests::registry::{Act, Authority, Fault, Options, Tokens};
use serde_json::json;

use super::*;

/// A folder with a hosts.toml for a registry.
fn hosts(domain: &str, text: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = dir.path().join(domain);
    fs::create_dir(&folder).expect("a folder");
    fs::write(folder.join("hosts.toml"), text).expect("a hosts.toml");
    dir
}

/// An image in `registry` under `repository:v1`.
fn stock(registry: &str, repository: &str, flags: &[&str]) {
    let daemon = MAKER.with_base();
    let name = format!("{registry}/{repository}:v1");
    build(&daemon, &name);
    daemon.buildctl(&[&["image", "push", &name][..], flags].concat()).ok();
}

#[test]
fn mirrors_are_asked_in_their_order_and_the_registry_last() {
    let (broken, good) = (Registry::start(), Registry::start());
    stock(&good.authority(), "team/made", &[]);
    broken.fault(Fault::on("/", Act::Status(503, vec![("Retry-After", "0".to_owned())])));
    let file = format!(
        "server = \"http://127.0.0.1:1\"\n\
         [host.\"http://{}\"]\n  capabilities = [\"pull\", \"resolve\"]\n\
         [host.\"{}\"]\n  capabilities = [\"pull\", \"resolve\"]\n  skip_verify = true\n",
        broken.authority(),
        good.url()
    );
    let dir = hosts("registry.example", &file);
    let daemon = Daemon::start_with(&["--hosts-dir", text_of(&dir)]);
    daemon.buildctl(&["image", "pull", "registry.example/team/made:v1"]).ok();
    assert!(!broken.seen().is_empty());
    let asked = good.seen();
    assert!(
        asked
            .iter()
            .filter(|seen| seen.method == "GET")
            .all(|seen| seen.query.contains("ns=registry.example"))
    );
    // A build's base takes the same way.
    let context = context(&[("Dockerfile", "FROM registry.example/team/made:v1\nRUN true\n")]);
    daemon.buildctl(&["build", "--pull", "-t", "a", text(context.path())]).ok();
    // A push goes to the registry itself, which is not there.
    daemon.buildctl(&["image", "push", "registry.example/team/made:v1"]).fails(1, &["127.0.0.1:1"]);
    let chain = daemon
        .buildctl(&["registry", "explain", "--hosts-dir", text_of(&dir), "registry.example/team/made"])
        .ok();
    let lines: Vec<&str> = chain.stdout.lines().filter(|line| !line.starts_with(' ')).collect();
    assert_eq!(lines.len(), 3, "{}", chain.stdout);
    assert!(chain.stdout.contains("hosts.toml:2"), "{}", chain.stdout);
}

fn text_of(dir: &tempfile::TempDir) -> &str {
    text(dir.path())
}

#[test]
fn a_broken_hosts_file_is_an_error_with_its_place() {
    let dir = hosts(
        "registry.example",
        "server = \"https://registry.example\"\n[host.\"https://m\"]\n  capabilites = [\"pull\"]\n",
    );
    let daemon = Daemon::start_with(&["--hosts-dir", text_of(&dir)]);
    let place = format!("{}/registry.example/hosts.toml:3", text_of(&dir));
    daemon.buildctl(&["image", "pull", "registry.example/a"]).fails(1, &[&place, "capabilities"]);
}

#[test]
fn credentials_come_from_flags_logins_and_sessions() {
    let password = "correct-horse";
    let registry =
        Registry::with(Options { basic: Some(("me".to_owned(), password.to_owned())), ..Options::default() });
    let host = registry.authority();
    let user = format!("me:{password}");
    stock(&host, "made", &["--user", &user]);
    let name = format!("{host}/made:v1");
    let daemon = Daemon::start();
    let home = daemon.path("docker");
    let buildctl = |args: &[&str]| run(daemon.command("buildctl").env("DOCKER_CONFIG", &home).args(args));
    buildctl(&["image", "pull", &name]).fails(1, &["login"]);
    buildctl(&["image", "pull", "--user", "me:wrong-pony", &name]).fails(1, &[&host]);
    buildctl(&["image", "pull", "--user", &user, &name]).ok();
    buildctl(&["image", "rm", &name]).ok();
    let mut login = daemon.command("buildctl");
    login.env("DOCKER_CONFIG", &home).args(["login", "-u", "me", "--password-stdin", &host]);
    let password_file = daemon.path("password");
    fs::write(&password_file, password).expect("a file");
    run(login.stdin(fs::File::open(&password_file).expect("the file"))).ok();
    buildctl(&["image", "pull", &name]).ok();
    // A build's session hands them out as well.
    buildctl(&["image", "rm", &name]).ok();
    let dir = context(&[("Dockerfile", &format!("FROM {name}\nRUN true\n"))]);
    buildctl(&["build", "--push", "-t", &format!("{host}/built:v1"), text(dir.path())]).ok();
    assert!(registry.tagged("built", "v1").is_some());
    assert!(!daemon.log().contains(password));
    buildctl(&["logout", &host]).ok();
    buildctl(&["image", "push", &format!("{host}/built:v1")]).fails(1, &["login"]);
}

#[test]
fn tokens_serve_ctr_and_buildx_too() {
    let tokens = Tokens { users: vec![("me".to_owned(), "secret".to_owned())], ..Tokens::default() };
    let registry = Registry::with(Options { tokens: Some(tokens), ..Options::default() });
    let host = registry.authority();
    stock(&host, "made", &["--user", "me:secret"]);
    let daemon = Daemon::start();
    let name = format!("{host}/made:v1");
    ctr(&daemon, &["images", "pull", "--plain-http", "--user", "me:secret", &name]).ok();
    assert_ne!(ctr(&daemon, &["images", "pull", "--plain-http", "--user", "me:wrong", &name]).code, Some(0));
    let ran = daemon.buildctl(&["run", "--rm", &name, "cat", "/words"]).ok();
    assert_eq!(ran.stdout, "some words\n");
}

#[test]
fn one_session_asks_for_a_token_once() {
    let users = vec![("me".to_owned(), "secret".to_owned())];
    let registry = Registry::with(Options {
        tokens: Some(Tokens { users, expires_in: Some(3600), ..Tokens::default() }),
        ..Options::default()
    });
    let host = registry.authority();
    stock(&host, "base", &["--user", "me:secret"]);
    let asked = || registry.log("/token").len();
    let daemon = Daemon::start();
    let before = asked();
    // Documents, layers and config are asked for at different times; all want to read one repository.
    let script = format!("FROM {host}/base:v1\nRUN cat /words\n");
    let dir = context(&[("Dockerfile", &script)]);
    daemon.buildctl(&["build", "-t", "made", text(dir.path())]).ok();
    assert_eq!(asked() - before, 1, "{:?}", registry.log(""));
    // Another session has a token of its own.
    daemon.buildctl(&["build", "--pull", "-t", "made", text(dir.path())]).ok();
    assert_eq!(asked() - before, 2, "{:?}", registry.log(""));
}

#[test]
fn explain_reads_what_the_daemon_reads() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("buildd.toml");
    let table = "[registry.\"registry.example\"]\n  mirrors = [\"m.example\"]\n\
                 [registry.\"m.example\"]\n  insecure = true\n\
                 [plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"older.example\"]\n  \
                 endpoint = [\"https://o.example\"]\n";
    fs::write(&file, table).expect("a configuration");
    let folder = hosts("files.example", "[host.\"f.example\"]\n");
    let flags = ["--config", text(&file), "--hosts-dir", text_of(&folder)];
    let daemon = Daemon::start_with(&flags);
    let explain = |name: &str| daemon.buildctl(&["registry", "explain", name]).ok();
    let told = explain("registry.example/app").stdout;
    assert!(told.starts_with("1. m.example/v2 (https)"), "{told}");
    let origin = format!("skip_verify = true: {} [registry.\"m.example\"]", file.display());
    assert!(told.contains(&origin), "{told}");
    assert!(told.contains("2. registry.example/v2"), "{told}");
    let told = explain("older.example/app");
    assert!(told.stdout.starts_with("1. o.example/v2"), "{told:?}");
    assert!(told.stderr.contains("older.example/hosts.toml"), "how to write it today: {told:?}");
    let told = explain("files.example/app").stdout;
    let place = format!("{}/files.example/hosts.toml:1", text_of(&folder));
    assert!(told.starts_with("1. f.example/v2") && told.contains(&place), "{told}");
}

#[test]
fn proxies_of_the_environment_are_used_but_for_this_machine() {
    let proxy = Registry::start();
    stock(&proxy.authority(), "team/made", &[]);
    let root = hosts("registry.example", "server = \"http://registry.example\"\n");
    let flags = ["--hosts-dir", text_of(&root)];
    let url = proxy.url();
    let before = proxy.seen().len();
    let daemon = Daemon::start_in(&[("http_proxy", &url), ("no_proxy", "direct.example")], &flags);
    daemon.buildctl(&["image", "pull", "-q", "registry.example/team/made:v1"]).ok();
    let asked = proxy.seen().split_off(before);
    assert!(asked.iter().all(|seen| seen.header("host") == Some("registry.example")), "{asked:?}");
    // This machine is asked itself, whatever the environment says.
    let local = format!("{}/team/made:v1", proxy.authority());
    daemon.buildctl(&["image", "pull", "-q", &local]).ok();
    let asked = proxy.seen().len();
    // And whom NO_PROXY names.
    let direct = hosts("direct.example", "server = \"http://direct.example:1\"\n");
    daemon
        .buildctl(&["image", "pull", "--hosts-dir", text_of(&direct), "direct.example/made:v1"])
        .fails(1, &["direct.example"]);
    assert_eq!(proxy.seen().len(), asked);
}

/// A proxy that leads every tunnel to `to`; it tells which names were asked for.
fn tunnels(to: String) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let address = listener.local_addr().expect("an address");
    let (tell, asked) = channel();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let mut lines = BufReader::new(client.try_clone().expect("a second descriptor"));
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") && lines.read_line(&mut head).is_ok_and(|n| n > 0) {}
            let Some(wanted) = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()) else {
                continue;
            };
            if tell.send(wanted.to_owned()).is_err() {
                return;
            }
            let server = TcpStream::connect(&to).expect("the registry");
            (&client).write_all(b"HTTP/1.1 200 here you are\r\n\r\n").expect("an answer");
            let twice = |stream: &TcpStream| stream.try_clone().expect("a second descriptor");
            for (mut from, mut into) in [(twice(&client), twice(&server)), (twice(&server), twice(&client))] {
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut into);
                    let _ = into.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
    (format!("http://{address}"), asked)
}

#[test]
fn a_tls_registry_is_reached_through_a_proxys_tunnel() {
    let authority = Authority::new(&["registry.example"]);
    let registry = Registry::with(Options { tls: Some(authority.clone()), ..Options::default() });
    let config = registry.put_blob("made", "{}");
    let manifest =
        json!({"schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": []});
    let manifest = registry.put_manifest("made", Some("v1"), media_type::OCI_MANIFEST, manifest.to_string());
    let root = hosts("registry.example", "[host.\"https://registry.example\"]\n  ca = \"ca.pem\"\n");
    authority.write(&root.path().join("registry.example/ca.pem"));
    let (proxy, asked) = tunnels(registry.authority());
    let daemon = Daemon::start_in(&[("https_proxy", &proxy)], &["--hosts-dir", text_of(&root)]);
    daemon.buildctl(&["image", "pull", "-q", "registry.example/made:v1"]).ok();
    let here = daemon.buildctl(&["content", "ls", "-q"]).ok().stdout;
    assert!(here.contains(&manifest.digest.to_string()), "{here}");
    let asked: Vec<String> = asked.try_iter().collect();
    assert!(!asked.is_empty() && asked.iter().all(|name| name == "registry.example:443"), "{asked:?}");
}

#[test]
fn buildkits_registry_tables_are_read() {
    let mirror = Registry::start();
    stock(&mirror.authority(), "team/made", &[]);
    let config = tempfile::NamedTempFile::new().expect("a file");
    let file = format!(
        "[registry.\"registry.example\"]\n  mirrors = [\"{0}\"]\n[registry.\"{0}\"]\n  http = true\n",
        mirror.authority()
    );
    fs::write(config.path(), file).expect("a configuration");
    let daemon = Daemon::start_with(&["--config", config.path().to_str().expect("UTF-8")]);
    daemon.buildctl(&["image", "pull", "registry.example/team/made:v1"]).ok();
}
