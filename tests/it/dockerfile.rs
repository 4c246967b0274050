//! `buildctl dockerfile`: without a daemon, on files as people have them.

use std::fs;

use buildd_tests::{
    daemon::{Ran, binaries, run},
    fixture::{context, text},
};

fn dockerfile(args: &[&str]) -> Ran {
    let mut command = std::process::Command::new(binaries().join("buildctl"));
    // No daemon may be started or asked.
    command.env("BUILDKIT_HOST", "unix:///nonexistent/socket").arg("dockerfile").args(args);
    run(&mut command)
}

const MESSY: &str = "from   alpine   as base\n\n\n\nenv A=1   B=2\\\n\n# why\n  C=3\nrun  a \\\n  b\n";
const USUAL: &str = "FROM alpine AS base\n\nENV A=1 B=2 \\\n    # why\n    C=3\nRUN a \\\n  b\n";

#[test]
fn fmt_prints_checks_and_rewrites() {
    let dir = context(&[("Dockerfile", MESSY), ("clean", USUAL)]);
    let (messy, clean) = (dir.path().join("Dockerfile"), dir.path().join("clean"));
    assert_eq!(dockerfile(&["fmt", text(&messy)]).ok().stdout, USUAL);
    let checked = dockerfile(&["fmt", "--check", text(&messy), text(&clean)]);
    assert_eq!((checked.code, checked.stdout), (Some(1), format!("{}\n", text(&messy))));
    assert_eq!(fs::read_to_string(&messy).expect("there"), MESSY);
    let link = dir.path().join("link");
    std::os::unix::fs::symlink("Dockerfile", &link).expect("a link");
    dockerfile(&["fmt", "-w", text(&link)]).ok();
    assert!(link.is_symlink(), "the link stays a link");
    assert_eq!(fs::read_to_string(&messy).expect("there"), USUAL);
    assert_eq!(dockerfile(&["fmt", "--check", text(&messy)]).ok().stdout, "");
}

#[test]
fn a_text_that_does_not_parse_is_told_with_all_its_faults() {
    let dir =
        context(&[("Dockerfile", "FROM alpine\nRUM x\nUSER a\nUSER b\nUSER c\nUSER d\nUSER e\nCOPI a b\n")]);
    let file = dir.path().join("Dockerfile");
    for command in ["fmt", "ast", "llb", "graph", "lint"] {
        dockerfile(&[command, text(&file)]).fails(
            1,
            &[
                "line 2: unknown instruction: RUM (did you mean RUN?)",
                "line 8: unknown instruction: COPI (did you mean COPY?)",
                "   2 | >>> RUM x\n",
                "   8 | >>> COPI a b\n",
            ],
        );
    }
    assert!(fs::read_to_string(&file).expect("there").contains("RUM"));
}

#[test]
fn lint_ast_llb_and_graph() {
    let dir =
        context(&[("Dockerfile", "FROM alpine AS a\nRUN one\nFROM scratch\nCOPY --from=a /x /y\nCMD go\n")]);
    let file = dir.path().join("Dockerfile");
    let linted = dockerfile(&["lint", text(&file)]);
    assert_eq!(linted.code, Some(1));
    assert!(
        linted.stdout.starts_with("Check complete, 1 warning has been found!\n\nWARNING: JSONArgs"),
        "{}",
        linted.stdout
    );
    let ast = dockerfile(&["ast", text(&file)]).ok();
    let ast: serde_json::Value = serde_json::from_str(&ast.stdout).expect("JSON");
    assert_eq!(ast["pieces"][3]["flags"][0], "--from=a");
    let llb = dockerfile(&["llb", text(&file)]).ok();
    assert!(llb.stdout.contains("docker-image://docker.io/library/alpine:latest"), "{}", llb.stdout);
    let graph = dockerfile(&["graph", "--target", "a", text(&file)]).ok();
    assert!(graph.stdout.starts_with("digraph {\n"), "{}", graph.stdout);
    assert!(graph.stdout.contains("n0_0 -> n0_1;"), "{}", graph.stdout);
    assert!(graph.stdout.contains("RUN one"), "{}", graph.stdout);
}
