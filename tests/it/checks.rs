//! Checks and questions: the warnings of a build, `--check` and `--call`, by our client and by docker-buildx, without a build.

use std::{fs, path::Path};

use buildd_tests::{
    daemon::{Daemon, Ran},
    fixture::{context, text},
    shared::Shared,
};

use crate::clients::Buildx;

/// The daemon of the tests that leave it as it was.
static SHARED: Shared = Shared::new();

const TEXT: &str = "# base is what it starts from\nARG base=alpine\n# main is the default\nFROM $base AS main\nARG TOKEN=x\nCMD echo\nRUN --mount=type=secret,id=pw true\n";
const SECRET: &str =
    "SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ARG \"TOKEN\") (line 5)";
const JSON: &str = "JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals (line 6)";

fn folder(dockerfile: &str) -> tempfile::TempDir {
    context(&[("Dockerfile", dockerfile)])
}

/// What both clients print for a call, and how they end.
fn ask(daemon: &Daemon, buildx: &Buildx, dir: &Path, call: &str) -> [Ran; 2] {
    let call = format!("--call={call}");
    [
        daemon.buildctl(&["build", &call, text(dir)]),
        buildx.run(&["build", "--builder", "ours", "--progress", "plain", &call, text(dir)]),
    ]
}

#[test]
fn a_build_warns_and_both_clients_show_it() {
    let daemon = SHARED.with_base();
    let buildx = Buildx::new(&daemon);
    let dir = folder(TEXT);
    let ours = daemon.buildctl(&["build", "--progress", "plain", text(dir.path())]).ok();
    for warning in [SECRET, JSON] {
        assert!(ours.stderr.contains(&format!("warning: {warning}\n")), "{}", ours.stderr);
    }
    let args = ["build", "--builder", "ours", "--progress", "plain", text(dir.path())];
    let theirs = buildx.run(&args).ok();
    assert!(theirs.stderr.contains("2 warnings found"), "{}", theirs.stderr);
    for warning in [SECRET, JSON] {
        assert!(theirs.stderr.contains(&format!(" - {warning}\n")), "{}", theirs.stderr);
    }
    fs::write(dir.path().join("Dockerfile"), format!("# check=error=true\n{TEXT}")).expect("a longer text");
    for ran in [daemon.buildctl(&["build", text(dir.path())]), buildx.run(&args)] {
        assert_ne!(ran.code, Some(0));
        let wanted = "lint violation found for rules: JSONArgsRecommended, SecretsUsedInArgOrEnv";
        assert!(ran.stderr.contains(wanted), "{}", ran.stderr);
    }
}

#[test]
fn a_check_lists_findings_and_exits_with_one() {
    let daemon = SHARED.with_base();
    let buildx = Buildx::new(&daemon);
    let dir = folder(TEXT);
    for ran in ask(&daemon, &buildx, dir.path(), "check") {
        assert_eq!(ran.code, Some(1), "{}", ran.stderr);
        let wanted = "Check complete, 2 warnings have been found!\n\nWARNING: SecretsUsedInArgOrEnv - https://docs.docker.com/go/dockerfile/rule/secrets-used-in-arg-or-env/\nDo not use ARG or ENV instructions for sensitive data (ARG \"TOKEN\")\n";
        assert!(ran.stdout.starts_with(wanted), "{}", ran.stdout);
        // docker-buildx names the whole path.
        for part in ["Dockerfile:5\n--------------------\n", "   5 | >>> ARG TOKEN=x\n"] {
            assert!(ran.stdout.contains(part), "{}", ran.stdout);
        }
    }
    for ran in ask(&daemon, &buildx, dir.path(), "check,format=json") {
        assert_eq!(ran.code, Some(1), "{}", ran.stderr);
        let report: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
        assert_eq!(report["warnings"][0]["ruleName"], "SecretsUsedInArgOrEnv");
    }
    fs::write(dir.path().join("Dockerfile"), "FROM alpine\nCMD [\"true\"]\n").expect("a clean text");
    for ran in ask(&daemon, &buildx, dir.path(), "check") {
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "Check complete, no warnings found.\n"));
    }
    let ran = daemon.buildctl(&["build", "--check", text(dir.path())]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "Check complete, no warnings found.\n"));
    fs::write(dir.path().join("Dockerfile"), "FROM alpine\nRUM x\nCOPI y\n").expect("a broken text");
    for ran in ask(&daemon, &buildx, dir.path(), "check") {
        assert_eq!(ran.code, Some(1), "{}", ran.stderr);
        assert!(ran.stderr.contains("unknown instruction: RUM (did you mean RUN?)"), "{}", ran.stderr);
        assert!(ran.stderr.contains("unknown instruction: COPI (did you mean COPY?)"), "{}", ran.stderr);
        assert!(ran.stderr.contains("   2 | >>> RUM x"), "{}", ran.stderr);
    }
}

#[test]
fn outline_targets_and_describe_answer_both_clients() {
    let daemon = SHARED.with_base();
    let buildx = Buildx::new(&daemon);
    let dir = folder(TEXT);
    for (call, wanted) in [
        ("targets", "TARGET         DESCRIPTION\nmain (default) is the default\n"),
        (
            "outline",
            "TARGET:      main\nDESCRIPTION: is the default\n\nBUILD ARG   VALUE    DESCRIPTION\nbase        alpine   is what it starts from\nTOKEN       x        \n\nSECRET   REQUIRED\npw       \n\n",
        ),
    ] {
        for ran in ask(&daemon, &buildx, dir.path(), call) {
            assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), wanted), "{}", ran.stderr);
        }
    }
    let described = daemon.buildctl(&["build", "--call=describe", text(dir.path())]).ok();
    assert!(described.stdout.contains("lint                 1.0.0"), "{}", described.stdout);
    let unknown = daemon.buildctl(&["build", "--call=nonsense", text(dir.path())]);
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.stderr.contains("not \"nonsense\""), "{}", unknown.stderr);
}

#[test]
fn a_text_is_converted_for_both_clients() {
    let daemon = SHARED.with_base();
    let buildx = Buildx::new(&daemon);
    let dir = folder("FROM alpine\nRUN true\n");
    let converted = ask(&daemon, &buildx, dir.path(), "convertllb,format=json").map(|ran| {
        let ran = ran.ok();
        serde_json::from_str::<serde_json::Value>(&ran.stdout)
            .unwrap_or_else(|error| panic!("{error}: {ran:?}"))
    });
    for json in &converted {
        let ops = json["def"].as_object().expect("ops by digest");
        assert!(ops.values().any(|op| op["exec"]["meta"]["args"][2] == "true"), "{json}");
    }
    assert_eq!(converted[0]["def"], converted[1]["def"]);
}
