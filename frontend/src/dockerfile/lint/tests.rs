//! Each rule: what it finds, and what it leaves alone; how findings are switched off and made errors; reports.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::dockerfile::tests::{FakeBridge, run, with_dockerfile};

/// The warnings of a build of `text`; or its error.
fn lint_with(text: &str, opts: &[(&str, &str)], ignore: &str) -> Vec<String> {
    let mut bridge = with_dockerfile(text.as_bytes());
    bridge.files.insert(("local://context".into(), ".dockerignore".into()), ignore.into());
    let opts: Vec<_> = opts.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let mut found = Vec::new();
    if let Err(error) = run(&bridge, &opts) {
        found.push(format!("error: {error}"));
    }
    let warned = bridge.warned.into_inner().expect("no panic");
    found.extend(warned.into_iter().map(|(_, warning)| warning.short));
    found
}

fn lint(text: &str) -> Vec<String> {
    lint_with(text, &[], "")
}

#[track_caller]
fn table(cases: &[(&str, &[&str])]) {
    for (text, wanted) in cases {
        assert_eq!(&lint(text), wanted, "{text}");
    }
}

#[test]
fn names_and_casing() {
    table(&[
        ("FROM scratch AS Base", &["StageNameCasing: Stage name 'Base' should be lowercase (line 1)"]),
        ("FROM scratch AS base", &[]),
        ("FROM scratch as x", &["FromAsCasing: 'as' and 'FROM' keywords' casing do not match (line 1)"]),
        ("from scratch AS x", &["FromAsCasing: 'AS' and 'from' keywords' casing do not match (line 1)"]),
        (
            "From scratch As x",
            &[
                "ConsistentInstructionCasing: Command 'From' should match the case of the command majority (uppercase) (line 1)",
            ],
        ),
        ("from scratch as x\nuser a", &[]),
        (
            "FROM scratch\nuser a\nUSER b\n",
            &[
                "ConsistentInstructionCasing: Command 'user' should match the case of the command majority (uppercase) (line 2)",
            ],
        ),
        (
            "from scratch\nuser a\nUSER b\n",
            &[
                "ConsistentInstructionCasing: Command 'USER' should match the case of the command majority (lowercase) (line 3)",
            ],
        ),
        ("arg a=1\nFROM scratch\nUSER b\n", &[]),
        (
            "FROM scratch AS a\nFROM scratch AS a",
            &["DuplicateStageName: Duplicate stage name \"a\", stage names should be unique (line 2)"],
        ),
        (
            "FROM scratch AS scratch",
            &[
                "ReservedStageName: Stage name should not use the same name as reserved stage \"scratch\" (line 1)",
            ],
        ),
        (
            "FROM scratch AS context",
            &[
                "ReservedStageName: Stage name should not use the same name as reserved stage \"context\" (line 1)",
            ],
        ),
    ]);
}

#[test]
fn deprecated_forms() {
    table(&[
        ("FROM scratch\nCOPY a \\\n\n/\nUSER x", &["NoEmptyContinuation: Empty continuation line (line 4)"]),
        ("FROM scratch\nCOPY a \\\n# c\n/", &[]),
        (
            "FROM scratch\nMAINTAINER me",
            &["MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label (line 2)"],
        ),
        (
            "FROM scratch\nENV a b",
            &[
                "LegacyKeyValueFormat: \"ENV key=value\" should be used instead of legacy \"ENV key value\" format (line 2)",
            ],
        ),
        (
            "FROM scratch\nLABEL a b=c",
            &[
                "LegacyKeyValueFormat: \"LABEL key=value\" should be used instead of legacy \"LABEL key value\" format (line 2)",
            ],
        ),
        ("FROM scratch\nENV a=b c=\"d e\"", &[]),
        (
            "FROM scratch\nCMD a",
            &[
                "JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals (line 2)",
            ],
        ),
        (
            "FROM scratch\nENTRYPOINT a",
            &[
                "JSONArgsRecommended: JSON arguments recommended for ENTRYPOINT to prevent unintended behavior related to OS signals (line 2)",
            ],
        ),
        ("FROM scratch\nSHELL [\"x\"]\nCMD a", &[]),
        ("FROM scratch AS a\nSHELL [\"x\"]\nFROM a\nCMD a", &[]),
        ("FROM scratch\nCMD [\"a\"]\nENTRYPOINT [\"a\"]\nHEALTHCHECK CMD a", &[]),
        (
            "FROM scratch\nCMD [\"a\"]\nUSER x\nCMD [\"b\"]",
            &[
                "MultipleInstructionsDisallowed: Multiple CMD instructions should not be used in the same stage because only the last one will be used (line 2)",
            ],
        ),
        (
            "FROM scratch\nHEALTHCHECK NONE\nHEALTHCHECK CMD x\nHEALTHCHECK CMD y",
            &[
                "MultipleInstructionsDisallowed: Multiple HEALTHCHECK instructions should not be used in the same stage because only the last one will be used (line 2)",
                "MultipleInstructionsDisallowed: Multiple HEALTHCHECK instructions should not be used in the same stage because only the last one will be used (line 3)",
            ],
        ),
        ("FROM scratch AS a\nENTRYPOINT [\"x\"]\nFROM a\nENTRYPOINT [\"y\"]", &[]),
    ]);
}

#[test]
fn arguments_of_from() {
    table(&[
        (
            "ARG ALPINE=1\nFROM alpine:1$ALPIN",
            &["UndefinedArgInFrom: FROM argument 'ALPIN' is not declared (did you mean ALPINE?) (line 2)"],
        ),
        ("ARG NOTHING\nFROM alpine${NOTHING}", &[]),
        ("FROM alpine${NO:-}", &[]),
        (
            "FROM --platform=$TARGETPLATFORM alpine",
            &[
                "RedundantTargetPlatform: Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior (line 1)",
            ],
        ),
        ("FROM --platform=$BUILDPLATFORM alpine", &[]),
        (
            "FROM --platform=linux/amd64 alpine",
            &[
                "FromPlatformFlagConstDisallowed: FROM --platform flag should not use constant value \"linux/amd64\" (line 1)",
            ],
        ),
        ("FROM --platform=linux/amd64 alpine AS build-amd64", &[]),
        (
            "FROM foreign",
            &[
                "InvalidBaseImagePlatform: Base image foreign was pulled with platform \"linux/riscv64\", expected \"linux/amd64\" for current build (line 1)",
            ],
        ),
    ]);
    let text = "ARG TAG\nFROM alpine:$TAG";
    let given = lint_with(text, &[("build-arg:TAG", "1")], "");
    let rule = "InvalidDefaultArgInFrom: Default value for ARG alpine:$TAG results in empty or invalid base image name (line 2)";
    assert_eq!(given, [rule]);
}

#[test]
fn variables_and_folders() {
    table(&[
        (
            "FROM scratch\nENV VERSION=1\nUSER $VERSIO",
            &["UndefinedVar: Usage of undefined variable '$VERSIO' (did you mean $VERSION?) (line 3)"],
        ),
        ("FROM alpine\nENV a=$FROM_BASE b=$PATH", &[]),
        ("FROM alpine\nARG a\nLABEL x=$a y=${n:-x}", &[]),
        ("FROM scratch\nENV a=1 b=$a", &["UndefinedVar: Usage of undefined variable '$a' (line 2)"]),
        ("FROM scratch\nARG a=1 b=$a", &[]),
        ("FROM scratch AS x\nARG a\nFROM x\nCOPY $a /", &[]),
        (
            "FROM scratch\nCOPY <<A <<'B' /d/\n$one\nA\n$two\nB\n",
            &["UndefinedVar: Usage of undefined variable '$one' (line 2)"],
        ),
        ("FROM onbuild\nUSER $T\nFROM alpine AS helper", &[]),
        (
            "FROM scratch\nWORKDIR a\nWORKDIR b",
            &[
                "WorkdirRelativePath: Relative workdir \"a\" can have unexpected results if the base image changes (line 2)",
            ],
        ),
        ("FROM scratch\nWORKDIR /a\nWORKDIR b", &[]),
        ("FROM scratch AS a\nWORKDIR /a\nFROM a\nWORKDIR b", &[]),
        (
            "FROM scratch\nARG API_KEY\nENV my_password=x TOKEN_FILE=y KEYBOARD=1 PUBLIC_KEY=1",
            &[
                "SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ARG \"API_KEY\") (line 2)",
                "SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ENV \"my_password\") (line 3)",
            ],
        ),
        (
            "FROM scratch\nEXPOSE 80/TCP 1",
            &[
                "ExposeProtoCasing: Defined protocol '80/TCP' in EXPOSE instruction should be lowercase (line 2)",
            ],
        ),
        (
            "FROM scratch\nEXPOSE 127.0.0.1:80:80 8080:80 90",
            &[
                "ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:80:80' (line 2)",
                "ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found '8080:80' (line 2)",
            ],
        ),
    ]);
}

#[test]
fn very_many_variables_are_checked() {
    let lines: String = (0..100_000).map(|number| format!("ENV v{number}=$u{number}\n")).collect();
    let text = format!("FROM scratch\n{lines}");
    let report = crate::dockerfile::check_text(text.as_bytes(), "Dockerfile", &BTreeMap::new(), None);
    assert_eq!(report.expect("checked").findings.len(), super::MAX_FINDINGS);
}

#[test]
fn ignored_files() {
    let text =
        "FROM scratch AS o\nFROM scratch\nCOPY a/x b /d/\nADD /a /\nCOPY --from=o a /a\nCOPY <<a /\na\n";
    let found = lint_with(text, &[], "a\n");
    let wanted = [
        "CopyIgnoredFile: Attempting to Copy file \"a/x\" that is excluded by .dockerignore (line 3)",
        "CopyIgnoredFile: Attempting to Add file \"a\" that is excluded by .dockerignore (line 4)",
    ];
    assert_eq!(found, wanted);
    assert!(lint_with(text, &[], "a\n!a/x\n").is_empty(), "what is taken back may be anything");
}

#[test]
fn descriptions_are_checked_if_asked_for() {
    let body = "# what it is\nARG a\n# a is good\nARG a=2\n\n# no name\nFROM scratch AS x\n# not above a name\nFROM scratch\n# far\n#\nARG b\n";
    assert!(lint(body).is_empty());
    let found = lint(&format!("# check=experimental=InvalidDefinitionDescription\n{body}"));
    let wanted = [
        "InvalidDefinitionDescription: Comment for ARG should follow the format: `# a <description>` (line 3)",
        "InvalidDefinitionDescription: Comment for FROM should follow the format: `# x <description>` (line 8)",
    ];
    assert_eq!(found, wanted);
}

#[test]
fn rules_are_skipped_and_made_errors() {
    let body = "FROM scratch\nMAINTAINER me\nCMD a\n";
    assert_eq!(lint(body).len(), 2);
    assert!(lint(&format!("# check=skip=all\n{body}")).is_empty());
    let skipped = lint(&format!("# check=skip=MaintainerDeprecated , JSONArgsRecommended\n{body}"));
    assert!(skipped.is_empty(), "{skipped:?}");
    let found = lint(&format!("# check=skip=MaintainerDeprecated;error=true\n{body}"));
    assert_eq!(found[0], "error: lint violation found for rules: JSONArgsRecommended");
    assert_eq!(found.len(), 2, "{found:?}");
    let argument = [("build-arg:BUILDKIT_DOCKERFILE_CHECK", "skip=JSONArgsRecommended;error=1")];
    let found = lint_with(&format!("# check=skip=all\n{body}"), &argument, "");
    assert_eq!(found[0], "error: lint violation found for rules: MaintainerDeprecated");
    let commented = "FROM scratch\n# check=skip=MaintainerDeprecated\nMAINTAINER a\nCMD a";
    assert!(lint(commented)[0].starts_with("JSONArgs"), "{:?}", lint(commented));
    for (text, wanted) in [
        ("skip", "error: failed to parse check options: invalid check option \"skip\""),
        ("foo=bar", "error: failed to parse check options: invalid check option \"foo\""),
        (
            "error=x",
            "error: failed to parse check options: failed to parse check option \"error=x\": not true or false",
        ),
    ] {
        assert_eq!(lint(&format!("# check={text}\n{body}")), [wanted]);
    }
}

#[test]
fn a_warning_has_all_that_clients_show() {
    let bridge = with_dockerfile(b"FROM scratch\nMAINTAINER me");
    run(&bridge, &[]).expect("a warning is no error");
    let warned = bridge.warned.into_inner().expect("no panic");
    let (vertex, warning) = &warned[0];
    assert!(vertex.starts_with("sha256:"), "{vertex}");
    assert_eq!(warning.url, "https://docs.docker.com/go/dockerfile/rule/maintainer-deprecated/");
    assert!(warning.detail[0].starts_with("The MAINTAINER instruction is deprecated"));
    let source = warning.source.as_ref().expect("a place");
    assert_eq!((source.info.filename.as_str(), source.ranges[0].start.line), ("Dockerfile", 2));
    assert_eq!(
        super::Rule::JsonArgsRecommended.url(),
        "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/"
    );
    assert!(super::Rule::FromAsCasing.url().contains("/from-as-casing/"));
}

fn ask(bridge: &FakeBridge, request: &str, opts: &[(&str, &str)]) -> (Value, String, String) {
    let mut all = vec![("requestid".to_owned(), request.to_owned())];
    all.extend(opts.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
    let result = run(bridge, &all).expect(request);
    assert!(result.refs.is_empty());
    let text = |key: &str| {
        let value = result.metadata.get(key).cloned().unwrap_or_default();
        String::from_utf8(value).expect("text")
    };
    let json = serde_json::from_str(&text("result.json")).expect("JSON");
    assert_eq!(text("version"), "1.0.0");
    (json, text("result.txt"), text("result.statuscode"))
}

#[test]
fn the_lint_request_checks_all_stages_unless_one_is_named() {
    let bridge = with_dockerfile(b"FROM alpine AS a\nCMD x\nFROM alpine\nENTRYPOINT x\n");
    let (json, text, code) = ask(&bridge, "frontend.lint", &[]);
    let lines = |json: &Value| -> Vec<i64> {
        let warnings = json["warnings"].as_array().expect("a list");
        warnings.iter().filter_map(|w| w["location"]["ranges"][0]["start"]["line"].as_i64()).collect()
    };
    assert_eq!((lines(&json), code.as_str()), (vec![2, 4], "1"));
    assert!(text.starts_with("\nWARNING: JSONArgsRecommended - https://"), "{text}");
    assert!(text.contains("   2 | >>> CMD x\n"), "{text}");
    assert_eq!(json["sources"][0]["filename"], "Dockerfile");
    let (json, ..) = ask(&bridge, "frontend.lint", &[("target", "a")]);
    assert_eq!(lines(&json), [2]);
    let (json, text, code) = ask(&with_dockerfile(b"FROM alpine\nUSER x\n"), "frontend.lint", &[]);
    assert_eq!((lines(&json), text.as_str(), code.as_str()), (vec![], "", "0"));
    assert!(bridge.warned.into_inner().expect("no panic").is_empty(), "a request answers, it does not warn");
}

#[test]
fn the_lint_request_tells_what_cannot_be_built() {
    for (text, wanted, line) in [
        (
            "FROM a\nRUM x\n",
            "dockerfile parse error on line 2: unknown instruction: RUM (did you mean RUN?)",
            2,
        ),
        ("FROM alpine\nEXPOSE x\n", "invalid containerPort: x", 2),
        (
            "FROM missing AS x\nFROM alpine",
            "docker.io/library/missing:latest: failed to resolve source metadata: not found",
            1,
        ),
    ] {
        let (json, _, code) = ask(&with_dockerfile(text.as_bytes()), "frontend.lint", &[]);
        assert_eq!((json["buildError"]["message"].as_str(), code.as_str()), (Some(wanted), "1"));
        assert_eq!(json["buildError"]["location"]["ranges"][0]["start"]["line"], line);
    }
}

#[test]
fn targets_and_outline() {
    let text = b"# base is where it starts\nARG base=alpine\nARG unused=1\n\n# build builds\nFROM --platform=$BUILDPLATFORM $base AS build\n# version of it\nARG version=1 token\nRUN --mount=type=secret,id=s,required --mount=type=ssh true\nFROM scratch AS other\nARG never\n# x\nFROM build\nARG base\n";
    let bridge = with_dockerfile(text);
    let (json, text, _) = ask(&bridge, "frontend.targets", &[]);
    assert_eq!(text, "TARGET    DESCRIPTION\nbuild     builds\nother     \n(default) \n");
    assert_eq!(json["targets"][0]["platform"], "$BUILDPLATFORM");
    assert_eq!(json["targets"][2]["default"], true);
    assert_eq!(json["targets"][2]["location"]["ranges"][0]["start"]["line"], 13);
    let (json, text, _) = ask(&bridge, "frontend.outline", &[]);
    let wanted = "BUILD ARG   VALUE    DESCRIPTION\nbase        alpine   is where it starts\nversion     1        of it\ntoken                \n\nSECRET   REQUIRED\ns        true\n\nSSH       REQUIRED\ndefault   \n\n";
    assert_eq!(text, wanted);
    assert_eq!(json["args"][1]["name"], "version");
    let (json, text, _) =
        ask(&bridge, "frontend.outline", &[("target", "build"), ("build-arg:version", "7")]);
    assert!(text.starts_with("TARGET:      build\nDESCRIPTION: builds\n\n"), "{text}");
    assert_eq!(json["args"][1]["value"], "7");
    let (json, text, _) = ask(&FakeBridge::default(), "frontend.subrequests.describe", &[]);
    assert_eq!(json.as_array().map(Vec::len), Some(5));
    assert!(text.contains("outline              1.0.0   List all"), "{text}");
    let unknown = run(&bridge, &[("requestid".into(), "frontend.nonsense".into())]).expect_err("unknown");
    assert_eq!(unknown.to_string(), "unsupported request frontend.nonsense");
}
