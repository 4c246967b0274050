//! Login: `buildctl login` and `logout` against registries that ask, with docker's file and with a helper.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
};

use buildd_tests::{
    daemon::{Ran, binaries, run},
    registry::{Authority, Options, Registry, Tokens},
};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

const PASSWORD: &str = "MARKER-secret";

fn asking(tls: Option<Authority>) -> Registry {
    Registry::with(Options { tls, basic: Some(("me".to_owned(), PASSWORD.to_owned())), ..Options::default() })
}

/// `buildctl` with docker's configuration in `folder`.
fn buildctl(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(binaries().join("buildctl"));
    command.env("DOCKER_CONFIG", folder).args(args).stdin(Stdio::null());
    command
}

/// Logs in with a password on standard input.
fn login(folder: &Path, password: &str, args: &[&str]) -> Ran {
    let input = folder.join("input");
    fs::write(&input, format!("{password}\n")).expect("a file");
    let mut command = buildctl(folder, &["login", "-u", "me", "--password-stdin"]);
    let ran = run(command.args(args).stdin(fs::File::open(&input).expect("the file")));
    fs::remove_file(&input).expect("it is there");
    assert!(!ran.stdout.contains(PASSWORD) && !ran.stderr.contains(PASSWORD), "{ran:?}");
    ran
}

#[test]
fn a_login_is_proved_kept_and_forgotten() {
    let folder = tempfile::tempdir().expect("a folder");
    let registry = asking(None);
    let host = registry.authority();
    let file = folder.path().join("config.json");
    login(folder.path(), "wrong", &[&host]).fails(1, &["log in to", "refuses the name and password"]);
    assert!(!file.exists(), "nothing is kept");
    let ran = login(folder.path(), PASSWORD, &[&host]).ok();
    assert!(ran.stdout.contains("Login Succeeded") && ran.stdout.contains("unencrypted"), "{ran:?}");
    let before = fs::read(&file).expect("it is kept");
    assert_eq!(fs::metadata(&file).expect("it is kept").permissions().mode() & 0o777, 0o600);
    login(folder.path(), "wrong", &[&format!("http://{host}/")]).fails(1, &["refuses"]);
    assert_eq!(fs::read(&file).expect("it is kept"), before, "a login that fails loses none");
    let logout = |expected: &str| {
        let ran = run(&mut buildctl(folder.path(), &["logout", &host])).ok();
        assert!(ran.stdout.contains(expected), "{ran:?}");
    };
    logout("Logged out of 127.0.0.1");
    logout("Not logged in to 127.0.0.1");
    assert!(!fs::read_to_string(&file).expect("it stays").contains(&host));
}

#[test]
fn a_login_uses_the_hosts_settings() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new(&["127.0.0.1"]);
    let registry = asking(Some(authority.clone()));
    let host = registry.authority();
    let root = tempfile::tempdir().expect("a folder");
    let settings = root.path().join(host.replace(':', "_") + "_");
    fs::create_dir(&settings).expect("a folder");
    let hosts_dir = root.path().to_str().expect("UTF-8");
    // Strict, and refused before anything is sent.
    fs::write(settings.join("hosts.toml"), "ca = \"ca.crt\"\nskip_verfy = true\n").expect("a file");
    let ran = login(folder.path(), PASSWORD, &[&host, "--hosts-dir", hosts_dir]);
    ran.fails(1, &["hosts.toml:2:1: unknown key \"skip_verfy\""]);
    // Another authority than the one that is trusted.
    fs::write(settings.join("hosts.toml"), "server = \"https://").expect("a file");
    let text = format!("server = \"https://{host}\"\nca = \"ca.crt\"\n");
    fs::write(settings.join("hosts.toml"), text).expect("a file");
    Authority::new(&["127.0.0.1"]).write(&settings.join("ca.crt"));
    login(folder.path(), PASSWORD, &[&host, "--hosts-dir", hosts_dir]).fails(1, &["log in to"]);
    assert!(registry.seen().is_empty(), "{:?}", registry.seen());
    authority.write(&settings.join("ca.crt"));
    login(folder.path(), PASSWORD, &[&host, "--hosts-dir", hosts_dir]).ok();
}

#[test]
fn a_login_goes_to_the_helper() {
    let folder = tempfile::tempdir().expect("a folder");
    let registry = asking(None);
    let helper = folder.path().join("docker-credential-box");
    let script = format!("#!/bin/sh\ncat > '{}/'$1\n", folder.path().display());
    fs::write(&helper, script).expect("a script");
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).expect("a mode");
    fs::write(folder.path().join("config.json"), "{\"credsStore\":\"box\",\"psFormat\":\"x\"}")
        .expect("a file");
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").expect("PATH"));
    let mut command =
        buildctl(folder.path(), &["login", "-u", "me", "--password-stdin", &registry.authority()]);
    let mut child =
        command.env("PATH", path).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("buildctl");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(PASSWORD.as_bytes()).expect("a password");
    drop(input);
    let output = child.wait_with_output().expect("its end");
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("kept by docker-credential-box"), "{output:?}");
    let stored = fs::read_to_string(folder.path().join("store")).expect("what was stored");
    assert!(stored.contains(PASSWORD) && stored.contains(&registry.authority()), "{stored}");
    let text = fs::read_to_string(folder.path().join("config.json")).expect("the file");
    assert!(!text.contains(PASSWORD) && text.contains("psFormat"), "{text}");
}

#[test]
fn a_terminal_is_asked_without_echo() {
    let folder = tempfile::tempdir().expect("a folder");
    let registry = asking(None);
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&master).expect("granted");
    unlockpt(&master).expect("unlocked");
    let name = ptsname(&master, Vec::new()).expect("a name").into_string().expect("UTF-8");
    let slave = fs::OpenOptions::new().read(true).write(true).open(name).expect("its other end");
    let mut child = buildctl(folder.path(), &["login", &registry.authority()])
        .stdin(slave.try_clone().expect("a copy"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("buildctl");
    let mut prompts = child.stderr.take().expect("a pipe");
    let mut terminal = fs::File::from(master);
    for (prompt, answer) in [("Username: ", "me"), ("Password: ", PASSWORD)] {
        let mut seen = String::new();
        while !seen.ends_with(prompt) {
            let mut byte = [0];
            assert_eq!(prompts.read(&mut byte).expect("a prompt"), 1, "{seen}");
            seen.push(byte[0].into());
        }
        writeln!(terminal, "{answer}").expect("typed");
    }
    let output = child.wait_with_output().expect("its end");
    assert!(output.status.success(), "{output:?}");
    let state = rustix::termios::tcgetattr(&slave).expect("a terminal");
    assert!(state.local_modes.contains(rustix::termios::LocalModes::ECHO), "the echo is on again");
    let mut shown = [0; 1024];
    let size = terminal.read(&mut shown).expect("the echo");
    let shown = String::from_utf8_lossy(&shown[..size]);
    assert!(shown.contains("me") && !shown.contains(PASSWORD), "{shown}");
    // Without a terminal it says what to do.
    let ran = run(&mut buildctl(folder.path(), &["login", &registry.authority()]));
    ran.fails(1, &["give -u NAME and --password-stdin"]);
    run(&mut buildctl(folder.path(), &["login", "reg.example/team/image"])).fails(1, &["is not a registry"]);
}

#[test]
fn an_identity_token_is_kept_instead_of_the_password() {
    for get_only in [false, true] {
        let tokens = Tokens {
            users: vec![("me".to_owned(), PASSWORD.to_owned())],
            identity: Some("an-identity".to_owned()),
            get_only,
            ..Tokens::default()
        };
        let registry = Registry::with(Options { tokens: Some(tokens), ..Options::default() });
        let host = registry.authority();
        let folder = tempfile::tempdir().expect("a folder");
        let ran = login(folder.path(), PASSWORD, &[&host]);
        // Its API root asks for nothing, so that only the ping's challenge brings a token server into play.
        let ran = ran.ok();
        assert!(ran.stdout.contains("The identity token is kept"), "{ran:?}");
        let text = fs::read_to_string(folder.path().join("config.json")).expect("the file");
        assert!(text.contains("an-identity") && !text.contains(PASSWORD), "{text}");
        let listed = run(&mut buildctl(folder.path(), &["login", "--list"])).ok().stdout;
        assert!(listed.contains(&host) && listed.contains("<token>"), "{listed}");
    }
}

#[test]
fn logins_are_listed_with_their_keepers() {
    let folder = tempfile::tempdir().expect("a folder");
    let helper = folder.path().join("docker-credential-box");
    let script =
        "#!/bin/sh\n[ \"$1\" = list ] && echo '{\"boxed.example\":\"kim\",\"other.example\":\"eve\"}'\n";
    fs::write(&helper, script).expect("a script");
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).expect("a mode");
    // "me:secret"
    let config = r#"{"auths":{"plain.example":{"auth":"bWU6c2VjcmV0"},"boxed.example":{}},"credHelpers":{"boxed.example":"box"}}"#;
    fs::write(folder.path().join("config.json"), config).expect("a file");
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").expect("PATH"));
    let ran = run(buildctl(folder.path(), &["login", "--list"]).env("PATH", path)).ok();
    let lines: Vec<Vec<&str>> = ran.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines.len(), 3, "{ran:?}");
    assert_eq!(lines[1], ["boxed.example", "kim", "docker-credential-box"]);
    assert_eq!(lines[2][..2], ["plain.example", "me"]);
    assert!(!ran.stdout.contains("secret") && !ran.stdout.contains("eve"), "{ran:?}");
}
