//! Golden cases and whole-frontend faults.
//!
//! `testdata/<case>/Dockerfile` (with `opts` and `dockerignore`, if there are any) gives `ast.txt` and `llb.txt`; UPDATE_EXPECT=1 writes them.

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use buildd_api::{buildkit::pb, llb::dump};
use buildd_oci::{ErrorKind, platform::Platform};
use prost::Message;

use super::*;
use crate::bridge::{Bridge, BridgeError, BridgeRef, ImageRequest, ResolvedImage, Warning};

/// Files by source identifier and path, and a fixed set of images.
#[derive(Default)]
pub(super) struct FakeBridge {
    pub(super) files: BTreeMap<(String, String), Vec<u8>>,
    /// Times by source identifier.
    pub(super) newest: BTreeMap<String, i64>,
    /// The vertex and the warning.
    pub(super) warned: Mutex<Vec<(String, Warning)>>,
}

fn refused(kind: ErrorKind, text: &str) -> BridgeError {
    BridgeError { kind, cause: Arc::new(std::io::Error::other(text.to_owned())) }
}

#[async_trait]
impl Bridge for FakeBridge {
    async fn resolve_image_config(&self, request: ImageRequest) -> Result<ResolvedImage, BridgeError> {
        let name = request.reference.as_str();
        assert_eq!(request.log_name, format!("[internal] load metadata for {name}"));
        if name.contains("missing") {
            return Err(refused(ErrorKind::NotFound, "not found"));
        }
        let mut config = image::empty(&request.platform);
        if name.contains("/foreign") {
            config.architecture = "riscv64".into();
        }
        if !name.contains("/empty") {
            config.rootfs.diff_ids.push(buildd_oci::digest::Digest::of(b"layer"));
        }
        config.config.env = Some(vec!["PATH=/base/bin".into(), "FROM_BASE=1".into()]);
        config.config.cmd = Some(vec!["/bin/sh".into()]);
        if name.contains("onbuild") {
            let triggers = ["COPY --from=helper /x /y", "RUN echo triggered", "ENV T=1"];
            config.config.on_build = Some(triggers.map(str::to_owned).to_vec());
        }
        let digest = buildd_oci::digest::Digest::of(name.as_bytes()).to_string();
        Ok(ResolvedImage { reference: request.reference, digest: Some(digest), config: config.to_bytes() })
    }

    async fn solve(&self, definition: pb::Definition) -> Result<BridgeRef, BridgeError> {
        let ops = definition.def.iter().map(|bytes| pb::Op::decode(bytes.as_slice()).expect("an op"));
        let mut sources = ops.filter_map(|op| match op.op {
            Some(pb::op::Op::Source(source)) => Some(source.identifier),
            _ => None,
        });
        Ok(BridgeRef(Arc::new(sources.next().expect("a source"))))
    }

    async fn read_file(&self, built: &BridgeRef, path: &str, _: usize) -> Result<Vec<u8>, BridgeError> {
        let source = built.0.downcast_ref::<String>().expect("ours").clone();
        let file = self.files.get(&(source, path.to_owned())).cloned();
        file.ok_or_else(|| refused(ErrorKind::NotFound, "no such file"))
    }

    async fn newest(&self, built: &BridgeRef) -> Result<Option<i64>, BridgeError> {
        let source = built.0.downcast_ref::<String>().expect("ours");
        Ok(self.newest.get(source).copied())
    }

    async fn frontend_image(&self, request: FrontendRequest) -> Result<FrontendResult, BridgeError> {
        if request.opts["source"].contains("missing") {
            return Err(refused(ErrorKind::NotFound, "not found"));
        }
        let metadata = request.opts.into_iter().map(|(key, value)| (key, value.into_bytes())).collect();
        Ok(FrontendResult { refs: Vec::new(), metadata })
    }

    async fn warn(&self, vertex: &str, warning: Warning) {
        self.warned.lock().expect("no panic").push((vertex.to_owned(), warning));
    }

    fn build_platform(&self) -> Platform {
        Platform::new("linux", "amd64", "")
    }
}

pub(super) fn run(bridge: &FakeBridge, opts: &[(String, String)]) -> Result<FrontendResult, Error> {
    let request = FrontendRequest {
        opts: opts.iter().cloned().collect(),
        inputs: BTreeMap::new(),
        session_id: "session".into(),
    };
    futures::executor::block_on(solve(&request, bridge))
}

pub(super) fn with_dockerfile(text: &[u8]) -> FakeBridge {
    let mut bridge = FakeBridge::default();
    bridge.files.insert(("local://dockerfile".into(), "Dockerfile".into()), text.to_vec());
    bridge
}

fn llb_text(result: Result<FrontendResult, Error>) -> String {
    let mut out = String::new();
    let result = match result {
        Ok(result) => result,
        Err(error) => {
            let _ = writeln!(out, "error: {error}");
            for range in error.location().map(|l| l.ranges.as_slice()).unwrap_or_default() {
                let _ = writeln!(out, "lines: {}-{}", range.start.line, range.end.line);
            }
            if let Some(hint) = error.hint() {
                let _ = writeln!(out, "hint: {hint}");
            }
            return out;
        }
    };
    for (platform, definition) in &result.refs {
        let _ = writeln!(out, "== {platform}");
        match definition {
            Some(definition) => out.push_str(&dump::text(definition)),
            None => out.push_str("scratch\n"),
        }
    }
    for (key, value) in &result.metadata {
        let value: serde_json::Value = serde_json::from_slice(value).expect("JSON");
        if key.starts_with(IMAGE_CONFIG_KEY) {
            let _ = writeln!(out, "== {key}\n{value:#}");
        } else {
            let _ = writeln!(out, "== {key}\n{value}");
        }
    }
    out
}

fn ast_text(text: &[u8]) -> String {
    let parsed = lines::read(text).and_then(|document| instruction::parse(&document));
    match parsed {
        Ok(list) => list.iter().fold(String::new(), |mut out, located| {
            let (first, last) = (located.lines.first, located.lines.last);
            let _ = writeln!(out, "{first}-{last} {:?}", located.instruction);
            out
        }),
        Err(fault) => format!("error: {fault}\n"),
    }
}

fn compare(path: &Path, actual: &str, failures: &mut Vec<String>) {
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(path, actual).expect("write golden file");
    }
    let wanted = fs::read_to_string(path).unwrap_or_default();
    if wanted != actual {
        failures.push(format!("{}:\n--- wanted\n{wanted}--- got\n{actual}", path.display()));
    }
}

pub(super) fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata")
}

/// The names and texts of the corpus.
pub(super) fn cases() -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(testdata()).expect("testdata").map(|entry| entry.expect("entry").path());
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    folders.sort();
    let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
    let text = |path: &Path| fs::read(path.join("Dockerfile")).expect("Dockerfile");
    folders.iter().map(|path| (name(path), text(path))).collect()
}

/// Solves `text` with the options and the ignore file of a case.
fn solve_case(case: &str, text: &[u8]) -> Result<FrontendResult, Error> {
    let dir = testdata().join(case);
    let opts = fs::read_to_string(dir.join("opts")).unwrap_or_default();
    let pairs = opts.lines().filter_map(|line| line.split_once('='));
    let opts: Vec<(String, String)> = pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    let mut bridge = with_dockerfile(text);
    if let Ok(ignore) = fs::read(dir.join("dockerignore")) {
        bridge.files.insert(("local://context".into(), ".dockerignore".into()), ignore);
    }
    run(&bridge, &opts)
}

/// What a text of a case means: the ops' bytes and the configs, or the fault without its place.
pub(super) fn llb(case: &str, text: &[u8]) -> Result<Meaning, String> {
    let place = |fault: String| match fault.split_once(": ") {
        Some((start, rest)) if start.starts_with("dockerfile parse error on line") => rest.to_owned(),
        _ => fault,
    };
    let result = solve_case(case, text).map_err(|error| place(error.to_string()))?;
    let ops = result.refs.into_iter().map(|(platform, definition)| {
        (platform, definition.map(|definition| definition.def).unwrap_or_default())
    });
    Ok((ops.collect(), result.metadata))
}

/// Ops by platform, and metadata.
pub(super) type Meaning = (Vec<(String, Vec<Vec<u8>>)>, BTreeMap<String, Vec<u8>>);

#[test]
fn golden() {
    let cases = cases();
    assert!(cases.len() >= 150, "{} cases", cases.len());
    let mut failures = Vec::new();
    for (case, text) in cases {
        let dir = testdata().join(&case);
        compare(&dir.join("ast.txt"), &ast_text(&text), &mut failures);
        compare(&dir.join("llb.txt"), &llb_text(solve_case(&case, &text)), &mut failures);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn only_used_stages_are_resolved() {
    let bridge = with_dockerfile(b"FROM missing AS a\nFROM alpine AS b\nFROM missing\n");
    run(&bridge, &[("target".into(), "b".into())]).expect("b needs no missing image");
    let error = run(&bridge, &[]).expect_err("missing");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().starts_with("docker.io/library/missing:latest"), "{error}");
    assert_eq!(error.location().expect("a place").ranges[0].start.line, 3);
}

#[test]
fn a_dockerfile_of_its_own_ignore_file_wins() {
    let mut bridge = with_dockerfile(b"FROM scratch\nCOPY a /\n");
    bridge.files.insert(("local://dockerfile".into(), "Dockerfile.dockerignore".into()), b"own".to_vec());
    bridge.files.insert(("local://context".into(), ".dockerignore".into()), b"general".to_vec());
    let text = llb_text(run(&bridge, &[]));
    assert!(text.contains("excludepatterns=[\"own\"]"), "{text}");
}

#[test]
fn missing_dockerfiles_and_uploads() {
    let error = run(&FakeBridge::default(), &[]).expect_err("none");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("Dockerfile"), "{error}");
    let mut bridge = FakeBridge::default();
    bridge.files.insert(("local://dockerfile".into(), "dockerfile".into()), b"FROM scratch".to_vec());
    run(&bridge, &[]).expect("the lower-case name is a fallback");
    let url = "http://buildkit-session/x";
    bridge.files.insert((url.into(), "context".into()), b"FROM alpine\nRUN true\n".to_vec());
    let text = llb_text(run(&bridge, &[("context".into(), url.into())]));
    assert!(text.contains("[2/2] RUN true"), "{text}");
    bridge
        .files
        .insert(("git://x/y.git#main:d".into(), "Dockerfile".into()), b"FROM scratch\nCOPY f /\n".to_vec());
    let text = llb_text(run(&bridge, &[("context".into(), "https://x/y.git#main:d".into())]));
    assert!(text.contains("source git://x/y.git#main:d"), "{text}");
    for wrong in ["ftp://x/y", "https://x/y.git#-x"] {
        let refused = run(&bridge, &[("context".into(), wrong.into())]).expect_err(wrong);
        assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
    }
}

#[test]
fn definitions_of_the_client_are_contexts() {
    let image = llb::State::source("docker-image://other", BTreeMap::new(), llb::OpOptions::default());
    let definition = image.marshal(None).expect("a source");
    let mut bridge = with_dockerfile(b"FROM base\nCOPY --from=files /a /b\n");
    let config =
        json_base64(r#"{"os":"linux","architecture":"amd64","config":{"User":"me","OnBuild":["ENV T=1"]}}"#);
    let opts = [
        ("context:base", "input:x".to_owned()),
        ("context:files", "input:y".to_owned()),
        ("input-metadata:x", format!("{{\"containerimage.config\":\"{config}\"}}")),
    ];
    let request = |inputs: &[&str], opts: &[(&str, String)]| FrontendRequest {
        opts: opts.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
        inputs: inputs.iter().map(|name| ((*name).to_owned(), definition.clone())).collect(),
        session_id: String::new(),
    };
    let run = |bridge: &FakeBridge, request| futures::executor::block_on(solve(&request, bridge));
    let text = llb_text(run(&bridge, request(&["x", "y"], &opts)));
    assert_eq!(text.matches("source docker-image://other").count(), 1, "{text}");
    assert!(text.contains("\"User\": \"me\"") && text.contains("\"T=1\""), "{text}");
    let error = run(&bridge, request(&["x"], &opts)).expect_err("no y");
    assert!(error.to_string().contains("input:y"), "{error}");
    let bad = [("context:base", "input:x".to_owned()), ("input-metadata:x", "{".to_owned())];
    let error = run(&bridge, request(&["x", "files"], &bad)).expect_err("no JSON");
    assert!(error.to_string().contains("input-metadata:x"), "{error}");
    // The main context and the Dockerfile may be definitions as well, under the names that the client chooses.
    bridge
        .files
        .insert(("docker-image://other".into(), "Dockerfile".into()), b"FROM scratch\nCOPY a /\n".into());
    let text = llb_text(run(&bridge, request(&["dockerfile", "context"], &[])));
    assert!(text.contains("source docker-image://other") && !text.contains("local://"), "{text}");
    let keys = [("contextkey", "here".to_owned()), ("dockerfilekey", "there".to_owned())];
    let text = llb_text(run(&bridge, request(&["there"], &keys)));
    assert!(text.contains("source local://here"), "{text}");
}

fn json_base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[test]
fn the_bound_of_all_times() {
    let given = [("build-arg:SOURCE_DATE_EPOCH".to_owned(), "7".to_owned())];
    let before = "ARG SOURCE_DATE_EPOCH=5\nFROM scratch\n";
    let inside = "FROM scratch\nARG SOURCE_DATE_EPOCH=6\n";
    for (text, opts, told) in [
        (before, &[][..], Some("5")),
        (inside, &[], Some("6")),
        (before, &given, Some("7")),
        ("FROM scratch\n", &given, Some("7")),
        ("FROM scratch\n", &[], None),
    ] {
        let result = run(&with_dockerfile(text.as_bytes()), opts).expect("built");
        let epoch = result.metadata.get(EPOCH_KEY).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        assert_eq!(epoch.as_deref(), told, "{text:?}");
    }
    let error =
        run(&with_dockerfile(b"FROM scratch\nARG SOURCE_DATE_EPOCH=context\n"), &[]).expect_err("a name");
    assert!(error.to_string().contains("\"context\"") && error.hint().is_some(), "{error}");
}

#[test]
fn the_bound_of_all_times_has_the_time_of_what_it_names() {
    const ARGUMENT: &str = "build-arg:SOURCE_DATE_EPOCH";
    let git = ("context", "https://h/r.git");
    let source = "FROM scratch AS data\nADD https://h/f /\nFROM scratch\nARG SOURCE_DATE_EPOCH\n\
                  ENV AT=$SOURCE_DATE_EPOCH\nWORKDIR /w\n";
    let by_text = format!("ARG SOURCE_DATE_EPOCH=context\n{source}");
    for (text, opts, told) in [
        (source, &[git, (ARGUMENT, "context")][..], Ok(Some("11"))),
        (&by_text, &[git], Ok(Some("11"))),
        (&by_text, &[git, (ARGUMENT, "12")], Ok(Some("12"))),
        // Files of the client have no time of their own.
        (source, &[(ARGUMENT, "context")], Ok(None)),
        (&by_text, &[], Ok(None)),
        (source, &[(ARGUMENT, "data")], Ok(Some("13"))),
        (source, &[(ARGUMENT, "named"), ("context:named", "https://h/n.git")], Ok(Some("14"))),
        (source, &[(ARGUMENT, "named"), ("context:named", "local:x")], Ok(None)),
        (source, &[(ARGUMENT, "named"), ("context:named", "docker-image://image")], Ok(Some("15"))),
        (source, &[(ARGUMENT, "dtaa")], Err("did you mean data?")),
    ] {
        let mut bridge = with_dockerfile(text.as_bytes());
        bridge.files.insert(("git://h/r.git".into(), "Dockerfile".into()), text.as_bytes().to_vec());
        let image = "docker-image://docker.io/library/image:latest";
        let image = format!("{image}@{}", buildd_oci::digest::Digest::of(&image.as_bytes()[15..]));
        let times = [("git://h/r.git", 11), ("https://h/f", 13), ("git://h/n.git", 14), (image.as_str(), 15)];
        bridge.newest = times.into_iter().map(|(source, time)| (source.to_owned(), time)).collect();
        let opts: Vec<_> = opts.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let result = run(&bridge, &opts);
        let (result, told) = match (result, told) {
            (Ok(result), Ok(told)) => (result, told),
            (Err(error), Err(words)) => {
                assert!(error.to_string().contains(words), "{error}");
                continue;
            }
            (result, told) => panic!("{opts:?}: {result:?}, not {told:?}"),
        };
        let epoch = result.metadata.get(EPOCH_KEY).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        assert_eq!(epoch.as_deref(), told, "{opts:?}");
        let llb = llb_text(Ok(result));
        assert!(llb.contains(&format!("AT={}", told.unwrap_or_default())), "{opts:?}\n{llb}");
        let time = told.map_or_else(String::new, |seconds| format!("{seconds}000000000"));
        assert!(llb.contains(&time), "{opts:?}: WORKDIR has that time\n{llb}");
    }
}

#[test]
fn what_is_not_done_is_refused_by_name() {
    let with = |key: &str, value: &str| {
        let opts = [(key.to_owned(), value.to_owned())];
        run(&with_dockerfile(b"FROM alpine\nRUN x\n"), &opts).map(|_| ()).map_err(|error| error.to_string())
    };
    for (key, value, words) in [
        ("memory", "1000000", "6 MiB or more"),
        ("memory", "1g", "6 MiB or more"),
        ("memswap", "-2", "6 MiB or more of memory and swap"),
        ("cpushares", "1", "a number of shares"),
        ("cpuperiod", "10", "1,000 to 1,000,000"),
        ("cpuquota", "0.5", "1,000 microseconds or more"),
        ("cpusetcpus", "1-0", "a list of numbers and ranges"),
        ("cpusetmems", "a", "a list of numbers and ranges"),
        ("cache-from", "image", "cache"),
        ("cache-imports", "[{\"Type\":\"registry\"}]", "cache"),
        ("attest:provenance", "mode=max", "attestations"),
        ("attest:sbom", "generator=x", "attestations"),
        ("ulimit", "nofile=1,openfiles=1:2", "\"openfiles\" is none of core, cpu"),
        ("shm-size", "1k", "number of bytes"),
        ("requestid", "frontend.other", "unsupported request"),
        ("force-network-mode", "bridge", "none of host"),
    ] {
        let refused = with(key, value).expect_err(key);
        assert!(refused.contains(words), "{key}: {refused}");
    }
    for (key, value) in
        [("memory", ""), ("cache-imports", "[]"), ("attest:provenance", "disabled=true"), ("unknown", "x")]
    {
        with(key, value).expect(key);
    }
    let bridge = with_dockerfile(b"FROM alpine\n");
    run(&bridge, &[("build-arg:BUILDKIT_INLINE_CACHE".to_owned(), "1".to_owned())]).expect("built");
    let warned = bridge.warned.lock().expect("no panic");
    assert!(warned[0].1.short.contains("BUILDKIT_INLINE_CACHE has no effect"), "{warned:?}");
}

#[test]
fn folders_may_be_another_clients_and_known_by_another_name() {
    let opts = [("local-sessionid:context", "other"), ("sharedkey:localdir:context", "key")];
    let opts: Vec<_> = opts.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let text = llb_text(run(&with_dockerfile(b"FROM scratch\nCOPY a /\n"), &opts));
    assert!(text.contains("local.session=other") && text.contains("local.sharedkeyhint=key"), "{text}");
    let own = llb_text(run(&with_dockerfile(b"FROM scratch\nCOPY a /\n"), &[]));
    assert!(own.contains("local.session=session") && own.contains("local.sharedkeyhint=context"), "{own}");
}

#[test]
fn steps_say_which_platform_they_work_for() {
    let text = b"FROM --platform=$BUILDPLATFORM alpine AS a\nRUN before\nARG TARGETARCH\nRUN after\n\
                 FROM scratch\nCOPY --from=a /x /\n";
    let platforms = [("platform".to_owned(), "linux/amd64,linux/arm64".to_owned())];
    let text = llb_text(run(&with_dockerfile(text), &platforms));
    for title in [
        "[linux/amd64 a 2/3] RUN before",
        "[linux/amd64 a 3/3] RUN after",
        "[linux/amd64->arm64 a 3/3] RUN after",
        "[linux/arm64 stage-1 1/1] COPY",
    ] {
        assert!(text.contains(title), "no {title:?} in\n{text}");
    }
}

#[test]
fn a_text_of_another_frontend_is_handed_on() {
    let bridge = with_dockerfile(b"# syntax=x.example/y:1 some words\nnot a Dockerfile\n");
    for request in [None, Some("frontend.outline"), Some("frontend.unheard.of")] {
        let mut opts = vec![("target".to_owned(), "t".to_owned())];
        opts.extend(request.map(|name| ("requestid".to_owned(), name.to_owned())));
        let result = run(&bridge, &opts).expect("the other's answer");
        let told = |key: &str| String::from_utf8_lossy(&result.metadata[key]).into_owned();
        let all = [told("source"), told("cmdline"), told("target")];
        assert_eq!(all, ["x.example/y:1", "x.example/y:1 some words", "t"]);
        // It hands back what it cannot read itself.
        opts.push(("cmdline".to_owned(), "x.example/y:1".to_owned()));
        assert!(run(&bridge, &opts).is_err(), "{request:?}: the text is read, and is no Dockerfile");
    }
    let argument = |name: &str| vec![("build-arg:BUILDKIT_SYNTAX".to_owned(), name.to_owned())];
    let error = run(&bridge, &argument("missing/it")).expect_err("not there");
    assert_eq!((error.kind(), error.to_string()), (ErrorKind::NotFound, "frontend missing/it".to_owned()));
    let ours = with_dockerfile(b"# syntax=x.example/y\nFROM scratch\n");
    run(&ours, &argument("dockerfile.v0")).expect("our own name");
    let wanted = [("frontend.caps".to_owned(), "moby.buildkit.frontend.contexts,x.y+forward".to_owned())];
    let error = run(&ours, &wanted).expect_err("nobody can");
    assert_eq!(error.kind(), ErrorKind::Unimplemented);
    assert!(error.to_string().contains("x.y"), "{error}");
}

const PIECES: [&str; 50] = [
    "FROM a",
    "FROM ",
    " AS b",
    "RUN ",
    "COPY ",
    "ADD --",
    "--from=0 ",
    "--mount=",
    "type=cache,target=/x",
    "<<EOF",
    "EOF",
    "\n",
    "\\\n",
    "\r\n",
    "\"",
    "'",
    "$",
    "${",
    "}",
    "${a:-",
    "${a//*/",
    "[",
    "]",
    "[\"x\"]",
    "ENV ",
    "a=b ",
    "=",
    "ARG ",
    "HEALTHCHECK --interval=1s CMD x",
    "EXPOSE 1-2/tcp",
    "ONBUILD ",
    "# escape=`\n",
    "`",
    "\u{feff}",
    "é",
    "\0",
    "VOLUME ",
    "SHELL [\"a\"]",
    "LABEL ",
    "\t",
    "STOPSIGNAL 9",
    "FROM scratch\n",
    "USER a\n",
    "\n# c\n",
    "\n\n\n",
    "\\  \n",
    "  ",
    "COPY a b /c/\n",
    "run x \\\n y\n",
    "ENV a=1 \\\n# c\n b=2\n",
];

/// Pieces of Dockerfiles and plain bytes put together at random, by a fixed sequence; as many times `count` as `BUILDD_CASES` says.
pub(super) fn random_texts(count: usize) -> impl Iterator<Item = Vec<u8>> {
    let count = count.saturating_mul(crate::random::times() as usize);
    let mut numbers = crate::random::Random::new();
    let mut random = move || numbers.number();
    (0..count).map(move |number| {
        if number % 8 == 0 {
            return (0..random() % 64).map(|_| (random() & 0xff) as u8).collect();
        }
        let mut text = if random() % 2 == 0 { "FROM scratch\n".to_owned() } else { String::new() };
        for _ in 0..random() % 24 {
            text.push_str(PIECES[(random() % PIECES.len() as u64) as usize]);
        }
        text.into_bytes()
    })
}

#[test]
fn no_text_makes_the_parser_panic() {
    for text in random_texts(40_000) {
        let _ = run(&with_dockerfile(&text), &[]);
        let _ = run(&with_dockerfile(&text), &[("requestid".into(), "frontend.lint".into())]);
    }
}

/// The largest text of each shape is read in far less than this; by anything quadratic, in far more.
const READ: std::time::Duration = std::time::Duration::from_secs(30);

#[test]
fn parsing_is_linear_in_the_text() {
    let shapes: [(&str, &str, &str); 7] = [
        ("FROM a\n", "RUN x\n", ""),
        ("FROM a\nRUN x ", "\\\n y ", "\n"),
        ("FROM a\nENV a=1 ", "\\\n b=2 ", "\n"),
        ("FROM a\nRUN <<E\n", "line\n", "E\n"),
        ("FROM a\n", "# c\n", "RUN x\n"),
        ("FROM a\n", "\n", "RUN x\n"),
        ("FROM a\nCOPY x ", "\\\n<<B ", "\n"),
    ];
    for (start, middle, end) in shapes {
        let text = format!("{start}{}{end}", middle.repeat((4 << 20) / middle.len()));
        let began = std::time::Instant::now();
        let _ = lines::read(text.as_bytes()).and_then(|document| instruction::parse(&document));
        assert!(began.elapsed() < READ, "{middle:?}: {:?}", began.elapsed());
    }
}

/// The same for a text that is lowered, checked and outlined: quadratic, it takes minutes.
const ANSWERED: std::time::Duration = std::time::Duration::from_secs(100);

/// A long text of numbered lines.
fn numbered(start: &str, count: usize, line: impl Fn(usize) -> String, end: &str) -> Vec<u8> {
    let middle: String = (0..count).map(line).collect();
    format!("{start}{middle}{end}").into_bytes()
}

#[test]
fn building_and_asking_are_nearly_linear_in_the_text() {
    const MANY: usize = 100_000;
    let shapes = [
        ("ENV", numbered("FROM a\n", MANY, |n| format!("ENV v{n}=x\n"), "RUN x\n")),
        ("ARG", numbered("FROM a\n", MANY, |n| format!("ARG v{n}=x\n"), "RUN x\n")),
        ("global ARG", numbered("", MANY, |n| format!("ARG v{n}=x\n"), "FROM a\nARG v7\nRUN $v7\n")),
        ("chain", numbered("FROM a AS s0\n", MANY, |n| format!("FROM s{n} AS s{}\nENV v{n}=x\n", n + 1), "")),
        ("copies", numbered("", MANY, |n| format!("FROM scratch AS s{n}\n"), "FROM a\nCOPY --from=s0 / /\n")),
        (
            "star",
            [
                numbered("FROM a AS b\n", MANY, |n| format!("FROM b AS s{n}\n"), "FROM a\n"),
                numbered("", MANY, |n| format!("COPY --from=s{n} /x /y\n"), ""),
            ]
            .concat(),
        ),
    ];
    for (name, text) in shapes {
        let began = std::time::Instant::now();
        let bridge = with_dockerfile(&text);
        run(&bridge, &[]).unwrap_or_else(|error| panic!("{name}: {error}"));
        for request in ["frontend.lint", "frontend.outline"] {
            run(&bridge, &[("requestid".into(), request.into())]).expect(request);
        }
        assert!(began.elapsed() < ANSWERED, "{name}: {:?}", began.elapsed());
    }
}

#[test]
fn what_multiplies_is_refused() {
    let large: String = (0..32).map(|n| format!("ENV v{n}={}\n", "x".repeat(60_000))).collect();
    let steps = format!("FROM a\n{large}{}", "RUN x\n".repeat(300));
    let triggers = numbered(
        &format!("FROM a AS b\n{}", "ONBUILD ENV x=y\n".repeat(1200)),
        1200,
        |n| format!("FROM b AS s{n}\n"),
        "FROM a\n",
    );
    let copies = numbered("", 1200, |n| format!("COPY --from=s{n} /x /y\n"), "");
    let inherited = [
        numbered("FROM a AS b\n", 5000, |n| format!("ENV v{n}=x\n"), ""),
        numbered("", 5000, |n| format!("FROM b AS s{n}\n"), "FROM a\n"),
        numbered("", 5000, |n| format!("COPY --from=s{n} /x /y\n"), ""),
    ];
    for (text, told) in [
        (steps.into_bytes(), "bytes of arguments and environment"),
        ([triggers, copies].concat(), "instructions, those of triggers counted"),
        (inherited.concat(), "variables and lines of history"),
    ] {
        let error = run(&with_dockerfile(&text), &[]).expect_err(told);
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains(told), "{error}");
        assert!(!error.location().expect("a place").ranges.is_empty(), "{told}");
    }
}

#[test]
fn a_text_is_converted_to_ops_in_json() {
    let text = b"FROM alpine\nCOPY --chown=app:7 --chmod=600 a /b\nRUN --network=none --mount=type=cache,target=/c,sharing=locked true\n";
    let answer = run(&with_dockerfile(text), &[("requestid".into(), "frontend.convertllb".into())])
        .expect("an answer");
    assert!(answer.refs.is_empty() && answer.metadata["version"] == b"0.1.0");
    let json: serde_json::Value = serde_json::from_slice(&answer.metadata["result.json"]).expect("JSON");
    let ops: Vec<&serde_json::Value> = json["def"].as_object().expect("ops by digest").values().collect();
    let of = |kind: &str| {
        ops.iter().find(|op| !op[kind].is_null()).unwrap_or_else(|| panic!("no {kind} in {json}"))
    };
    assert!(of("source")["source"]["identifier"].as_str().is_some_and(|name| name.contains("://")));
    let copy = &of("file")["file"]["actions"][0];
    assert_eq!((&copy["secondaryInput"], &copy["copy"]["mode"]), (&"1".into(), &0o600.into()), "{copy}");
    assert!(copy.get("input").is_none(), "the first input is the default: {copy}");
    assert_eq!(copy["copy"]["owner"]["user"]["byName"]["name"], "app");
    assert_eq!(copy["copy"]["owner"]["group"]["byID"], 7);
    assert_eq!(copy["copy"]["timestamp"], "-1");
    let exec = &of("exec")["exec"];
    assert_eq!(exec["meta"]["args"], serde_json::json!(["/bin/sh", "-c", "true"]));
    assert_eq!((&exec["network"], exec.get("security")), (&"NONE".into(), None));
    assert_eq!(exec["mounts"][1]["cacheOpt"]["sharing"], "LOCKED");
    let bare = |op: &&&serde_json::Value| op.as_object().is_some_and(|op| op.keys().eq(["inputs"]));
    let last = ops.iter().filter(bare).count();
    assert_eq!(last, 1, "one op has inputs alone: {json}");
    let told = json["metadata"].as_object().expect("by digest");
    assert!(
        told.values()
            .any(|of| of["description"]["llb.customname"] == "[2/3] COPY --chown=app:7 --chmod=600 a /b"),
        "{json}"
    );
    assert_eq!(json["source"]["infos"][0]["filename"], "Dockerfile");
    let ranges = json["source"]["locations"].as_object().expect("by digest").values();
    let lines: Vec<_> = ranges.map(|of| &of["locations"][0]["ranges"][0]["start"]["line"]).collect();
    assert!(lines.contains(&&3.into()), "{lines:?}");
}
