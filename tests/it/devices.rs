//! `RUN --device`: what CDI specs of the machine give to steps, and who may have it.

use std::{fs, path::Path};

use buildd_tests::{
    daemon::{Daemon, Ran},
    fixture::{context, import_base, text},
};

const SPEC: &str = r#"
cdiVersion: "0.6.0"
kind: "vendor.example/gadget"
devices:
- name: zero
  containerEdits:
    env: [GADGET=zero]
    deviceNodes:
    - {path: /dev/gadgets/zero, hostPath: /dev/zero, fileMode: 438}
    - {path: /dev/gadgets/fuse, hostPath: /dev/fuse}
    mounts:
    - {hostPath: WORDS, containerPath: /opt/words, options: [ro]}
- name: hooked
  containerEdits:
    hooks: [{hookName: createRuntime, path: /bin/true}]
"#;
const OPEN: &str = r#"{"cdiVersion": "0.6.0", "kind": "open.example/x",
  "annotations": {"org.mobyproject.buildkit.device.autoallow": "true"},
  "devices": [{"name": "one", "containerEdits": {"env": ["OPEN=1"]}}]}"#;

/// A daemon with CDI specs that grants `entitlements`.
fn daemon(folder: &Path, entitlements: &str) -> Daemon {
    let (specs, words) = (folder.join("cdi"), folder.join("words"));
    fs::create_dir_all(&specs).expect("a folder");
    fs::write(&words, "of the host\n").expect("a file");
    fs::write(specs.join("gadget.yaml"), SPEC.replace("WORDS", text(&words))).expect("a spec");
    fs::write(specs.join("open.json"), OPEN).expect("a spec");
    let config = folder.join("buildd.toml");
    let lines = format!("insecure-entitlements = [{entitlements}]\n[cdi]\nspecDirs = [{specs:?}]\n");
    fs::write(&config, lines).expect("a configuration");
    let daemon = Daemon::start_with(&["--config", text(&config)]);
    import_base(&daemon);
    daemon
}

fn build(daemon: &Daemon, run: &str, flags: &[&str]) -> (Ran, tempfile::TempDir) {
    let dir = context(&[("Dockerfile", &format!("FROM alpine\nRUN {run}\n"))]);
    let out = tempfile::tempdir().expect("a folder");
    let output = format!("type=local,dest={}", text(out.path()));
    let args = [&["build", "--progress", "plain", "-o", &output], flags, &[text(dir.path())]].concat();
    (daemon.buildctl(&args), out)
}

#[test]
fn a_step_gets_the_nodes_files_and_variables_of_a_device() {
    let folder = tempfile::tempdir().expect("a folder");
    let daemon = daemon(folder.path(), "\"device\"");
    let step = "--device=vendor.example/gadget=zero,required \
                head -c 4 /dev/gadgets/zero | wc -c > /got && : < /dev/gadgets/fuse && echo $GADGET >> /got && cat /opt/words >> /got";
    for allow in ["device", "device=vendor.example/gadget=zero"] {
        let (ran, out) = build(&daemon, step, &["--no-cache", "--allow", allow]);
        ran.ok();
        let got = fs::read_to_string(out.path().join("got")).expect("made by RUN");
        assert_eq!(got.split_whitespace().collect::<Vec<_>>().join(" "), "4 zero of the host");
        // Nothing of it stays.
        assert!(!out.path().join("opt/words").exists() && !out.path().join("dev/gadgets").exists());
    }
    let without = "--device=vendor.example/gadget=none echo \"[$GADGET]\" > /got";
    let (ran, out) = build(&daemon, without, &["--allow", "device"]);
    ran.ok();
    assert_eq!(fs::read_to_string(out.path().join("got")).expect("made by RUN"), "[]\n");
    for (flag, words) in [
        ("vendor.example/gadget=zeros,required", "did you mean vendor.example/gadget=zero?"),
        ("vendor.example/gadget=hooked", "hooks"),
    ] {
        let (ran, _) = build(&daemon, &format!("--device={flag} true"), &["--allow", "device"]);
        ran.fails(1, &[words, "Dockerfile:2"]);
    }
}

#[test]
fn devices_are_granted_on_both_sides() {
    let folder = tempfile::tempdir().expect("a folder");
    let granting = daemon(folder.path(), "\"device\"");
    let step = "--device=vendor.example/gadget=zero true";
    let (ran, _) = build(&granting, step, &[]);
    ran.fails(
        1,
        &["device vendor.example/gadget=zero is requested by the build but not allowed", "--allow device"],
    );
    let (ran, _) = build(&granting, step, &["--allow", "device=vendor.example/gadget=other"]);
    ran.fails(1, &["not allowed"]);
    let other = tempfile::tempdir().expect("a folder");
    let strict = daemon(other.path(), "");
    let (ran, _) = build(&strict, step, &["--allow", "device"]);
    ran.fails(1, &["granting entitlement device is not allowed", "insecure-entitlements"]);
    // What the administrator allows to all needs neither.
    let (ran, out) = build(&strict, "--device=open.example/x=one echo $OPEN > /got", &[]);
    ran.ok();
    assert_eq!(fs::read_to_string(out.path().join("got")).expect("made by RUN"), "1\n");
}
