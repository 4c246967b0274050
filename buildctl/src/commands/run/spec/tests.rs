//! Which command, environment and mounts a container gets.
use clap::Parser;

use super::*;

#[derive(Debug, Parser)]
struct Flags {
    #[command(flatten)]
    run: RunArgs,
}

fn args(flags: &[&str]) -> RunArgs {
    Flags::parse_from([&["run"], flags].concat()).run
}

fn config() -> RunConfig {
    RunConfig {
        entrypoint: Some(vec!["/entry".into()]),
        cmd: Some(vec!["default".into()]),
        env: Some(vec!["PATH=/image".into(), "A=1".into()]),
        ..RunConfig::default()
    }
}

#[test]
fn commands() {
    for (flags, expected) in [
        (&["image"][..], &["/entry", "default"][..]),
        (&["image", "x", "-y"], &["/entry", "x", "-y"]),
        (&["--entrypoint", "/other", "image"], &["/other"]),
        (&["--entrypoint", "/other", "image", "x"], &["/other", "x"]),
        (&["--entrypoint", "", "image", "x"], &["x"]),
    ] {
        assert_eq!(command(&args(flags), &config()).expect("a command"), expected, "{flags:?}");
    }
    assert!(command(&args(&["image"]), &RunConfig::default()).is_err());
}

#[test]
fn the_environment_has_each_name_once() {
    let user = User { uid: 0, gid: 0, groups: Vec::new(), home: "/root".into() };
    assert_eq!(
        environment(&args(&["-e", "A=2", "-e", "NOT_SET_ANYWHERE", "image"]), &config(), &user, true),
        ["HOME=/root", "TERM=xterm", "PATH=/image", "A=2"]
    );
}

#[test]
fn volumes() {
    assert_eq!(volume("/tmp:/x:ro").expect("good"), ("/tmp".to_owned(), "/x".to_owned(), "ro"));
    assert_eq!(volume("/:/host").expect("good").2, "rw");
    for text in ["/tmp", "/tmp:x", "/no/such/folder:/x", "/tmp:/x:maybe", "/tmp:/x:ro:more"] {
        assert!(volume(text).is_err(), "{text}");
    }
}

#[test]
fn only_root_has_capabilities_and_none_is_its_own_network() {
    let user = User { uid: 1000, gid: 0, groups: vec![7], home: "/".into() };
    let args = args(&["--net", "none", "image"]);
    let spec = spec(&Request { args: &args, id: "abc", config: &config(), user: &user, terminal: false })
        .expect("good");
    assert_eq!(spec["process"]["capabilities"]["effective"], json!([]));
    assert_eq!(spec["process"]["user"]["additionalGids"], json!([7]));
    let namespaces = spec["linux"]["namespaces"].as_array().expect("a list");
    assert!(namespaces.contains(&json!({"type": "network"})));
}
