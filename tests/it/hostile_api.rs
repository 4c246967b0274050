//! Hostile callers: the cases API, HOST and RES of the specification that a client or a neighbour on the machine can try.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink},
    process::Stdio,
};

use buildd_api::{
    buildkit::{
        moby::buildkit::v1::{SolveRequest, StatusRequest, control_client::ControlClient},
        pb,
    },
    llb::{OpOptions, State},
};
use buildd_oci::digest::Digest;
use buildd_tests::{
    daemon::{Daemon, eventually, run},
    fixture::{context, import_base, text},
    oracles::Oracles,
    processes::Sleep,
};
use prost::Message;
use tonic::Code;

use crate::gateway::connect;

/// Ops as bytes, and a last one that names the result.
pub(crate) fn definition(ops: &[pb::Op]) -> pb::Definition {
    let mut def: Vec<Vec<u8>> = ops.iter().map(Message::encode_to_vec).collect();
    let last = def.last().map(|bytes| Digest::of(bytes).to_string()).unwrap_or_default();
    let result = pb::Op { inputs: vec![pb::Input { digest: last, index: 0 }], ..pb::Op::default() };
    def.push(result.encode_to_vec());
    pb::Definition { def, ..pb::Definition::default() }
}

pub(crate) fn image() -> pb::Op {
    let identifier = "docker-image://docker.io/library/alpine:latest".to_owned();
    let source = pb::SourceOp { identifier, ..pb::SourceOp::default() };
    pb::Op { op: Some(pb::op::Op::Source(source)), ..pb::Op::default() }
}

fn over(input: &pb::Op, index: i64, op: pb::op::Op) -> pb::Op {
    let digest = Digest::of(&input.encode_to_vec()).to_string();
    pb::Op { inputs: vec![pb::Input { digest, index }], op: Some(op), ..pb::Op::default() }
}

fn exec(change: impl FnOnce(&mut pb::ExecOp)) -> pb::op::Op {
    let root = pb::Mount { dest: "/".to_owned(), ..pb::Mount::default() };
    let meta = pb::Meta { args: vec!["true".to_owned()], cwd: "/".to_owned(), ..pb::Meta::default() };
    let mut op = pb::ExecOp { meta: Some(meta), mounts: vec![root], ..pb::ExecOp::default() };
    change(&mut op);
    pb::op::Op::Exec(op)
}

fn file(action: pb::file_action::Action) -> pb::op::Op {
    let action = pb::FileAction { action: Some(action), secondary_input: -1, ..pb::FileAction::default() };
    pb::op::Op::File(pb::FileOp { actions: vec![action] })
}

/// Definitions that mean harm or nothing, with the code that refuses them; what has none is solved and does no harm.
fn definitions(canary: &str) -> Vec<(&'static str, pb::Definition, Option<Code>)> {
    let base = image();
    let run = |change: fn(&mut pb::ExecOp)| definition(&[image(), over(&base, 0, exec(change))]);
    let host = |ip: &str, host: &str| pb::HostIp { ip: ip.to_owned(), host: host.to_owned() };
    let with_host = |one: pb::HostIp| {
        let change = |op: &mut pb::ExecOp| op.meta.as_mut().expect("it has").extra_hosts = vec![one];
        definition(&[image(), over(&base, 0, exec(change))])
    };
    let link =
        pb::FileActionSymlink { oldpath: canary.to_owned(), newpath: "/l".to_owned(), ..Default::default() };
    let linked = over(&base, 0, file(pb::file_action::Action::Symlink(link)));
    let then = |action| definition(&[image(), linked.clone(), over(&linked, 0, file(action))]);
    let remove = |path: &str| {
        let rm =
            pb::FileActionRm { path: path.to_owned(), allow_wildcard: true, ..pb::FileActionRm::default() };
        then(pb::file_action::Action::Rm(rm))
    };
    let make = |path: &str| {
        let made = pb::FileActionMkFile {
            path: path.to_owned(),
            mode: 0o644,
            data: b"x".to_vec(),
            timestamp: -1,
            ..Default::default()
        };
        then(pb::file_action::Action::Mkfile(made))
    };
    let folder = |path: &str| {
        let made = pb::FileActionMkDir {
            path: path.to_owned(),
            mode: 0o777,
            make_parents: true,
            timestamp: -1,
            ..Default::default()
        };
        then(pb::file_action::Action::Mkdir(made))
    };
    let raw = |def: Vec<Vec<u8>>| pb::Definition { def, ..pb::Definition::default() };
    let mut deep = Vec::new();
    // A field that holds itself, 10,000 times.
    (0..10_000).for_each(|_| {
        let inner = std::mem::take(&mut deep);
        deep.push(0x0a);
        prost::encoding::encode_varint(inner.len() as u64, &mut deep);
        deep.extend(inner);
    });
    let invalid = Some(Code::InvalidArgument);
    let missing = pb::Input { digest: Digest::of(b"nothing").to_string(), index: 0 };
    let no_digest = pb::Input { digest: "../../etc/passwd".to_owned(), index: 0 };
    vec![
        ("API-04 bytes that are no message", raw(vec![vec![0xff; 64]]), invalid),
        ("API-04 depth", raw(vec![deep]), invalid),
        ("API-04 an op without a kind", definition(&[pb::Op::default()]), invalid),
        ("API-05 nothing", raw(vec![Vec::new()]), invalid),
        ("API-05 a missing input", definition(&[pb::Op { inputs: vec![missing], ..image() }]), invalid),
        ("API-05 a path for a digest", definition(&[pb::Op { inputs: vec![no_digest], ..image() }]), invalid),
        ("API-05 an index below zero", definition(&[image(), over(&base, -1, exec(|_| {}))]), invalid),
        ("API-05 an index beyond all", definition(&[image(), over(&base, 1 << 40, exec(|_| {}))]), invalid),
        ("API-05 a mount of no input", run(|op| op.mounts[0].input = 7), invalid),
        ("API-05 no process", run(|op| op.meta = None), invalid),
        ("API-05 no mounts", run(|op| op.mounts.clear()), invalid),
        ("RUN-11 an unknown network", run(|op| op.network = 99), invalid),
        ("RUN-11 a mode below zero", run(|op| op.security = -1), invalid),
        ("RUN-11 an unknown mode", run(|op| op.security = 2), invalid),
        ("RUN-12 no fence", run(|op| op.security = 1), Some(Code::PermissionDenied)),
        ("RUN-13 a host with a line of its own", with_host(host("1.2.3.4 x\n5.6.7.8", "bank")), invalid),
        ("RUN-13 a name with a line of its own", with_host(host("1.2.3.4", "x\n5.6.7.8 bank")), invalid),
        (
            "RUN-13 a path for a host's name",
            run(|op| op.meta.as_mut().expect("it has").hostname = "../../x".into()),
            invalid,
        ),
        (
            "MNT-03 over /proc",
            run(|op| {
                op.mounts.push(pb::Mount {
                    dest: "/proc/self".into(),
                    mount_type: 4,
                    input: -1,
                    output: -1,
                    ..pb::Mount::default()
                })
            }),
            invalid,
        ),
        ("CP-09 remove through a link", remove("/l/file"), None),
        ("CP-09 remove all through a link", remove("/l/*"), None),
        ("CP-09 remove what is above", remove("/../../../../l/../l/b"), None),
        ("CP-09 remove the link itself", remove("/l"), None),
        ("CP-09 make through a link", make("/l/file"), None),
        ("CP-09 make above", make("/l/../../../../x"), None),
        ("CP-09 a folder through a link", folder("/l/made/in"), None),
        ("CP-09 over a link", make("/l"), None),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn api_04_and_05_definitions_that_mean_harm_do_none() {
    let (daemon, oracles) = Oracles::ready();
    let mut control = ControlClient::new(connect(&daemon).await);
    let mut wrong = Vec::new();
    for (number, (name, definition, code)) in definitions(oracles.canary()).into_iter().enumerate() {
        let request = SolveRequest {
            r#ref: format!("hostile-{number}"),
            definition: Some(definition),
            ..SolveRequest::default()
        };
        let refused = control.solve(request).await.err();
        let message = refused.as_ref().map_or("solved", tonic::Status::message);
        if refused.as_ref().map(tonic::Status::code) != code
            || message.is_empty()
            || message.contains("panic")
        {
            wrong.push(format!("{name}: {refused:?}, not {code:?}"));
        }
        oracles.check(&daemon, name);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    drop(control);
    oracles.finish(daemon);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn api_03_06_and_09_callers_take_no_more_than_their_share() {
    let (daemon, oracles) = Oracles::ready();
    let mut control = ControlClient::new(connect(&daemon).await);
    // API-03: a message larger than any.
    let large = SolveRequest { r#ref: "x".repeat(17 << 20), ..SolveRequest::default() };
    let refused = control.solve(large).await.expect_err("17 MiB");
    assert!(matches!(refused.code(), Code::OutOfRange | Code::ResourceExhausted), "{refused:?}");
    // API-06: a session that nobody opened gives nothing to who names it.
    let local = State::source("local://context", BTreeMap::new(), OpOptions::default());
    let borrowed = SolveRequest {
        r#ref: "borrowed".to_owned(),
        session: "0123456789abcdefghijklmno".to_owned(),
        definition: local.marshal(None),
        ..SolveRequest::default()
    };
    let refused = control.solve(borrowed).await.expect_err("nobody's session");
    assert!(!matches!(refused.code(), Code::Ok | Code::Unknown | Code::Internal), "{refused:?}");
    // API-08: a build that is not there has no status, and nobody waits for it.
    let asked = control.status(StatusRequest { r#ref: "none".to_owned() }).await;
    assert_eq!(asked.map(drop).expect_err("no such build").code(), Code::NotFound);
    drop(control);
    // API-09: clients that come and go at once.
    for _ in 0..200 {
        drop(std::os::unix::net::UnixStream::connect(daemon.path("sock")).expect("a connection"));
    }
    let sleep = Sleep::default();
    let dir = context(&[("Dockerfile", &format!("FROM alpine\nRUN {}\n", sleep.command()))]);
    for _ in 0..5 {
        let mut client = daemon.command("buildctl");
        client
            .args(["build", text(dir.path())])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut client = client.spawn().expect("start buildctl");
        eventually("the step", || sleep.running() > 0);
        client.kill().expect("our own child");
        client.wait().expect("it ends");
        eventually("the end of the step", || sleep.running() == 0);
        oracles.check(&daemon, "API-09");
    }
    oracles.finish(daemon);
}

#[test]
fn host_01_nobody_else_sees_what_is_kept() {
    let daemon = Daemon::start();
    import_base(&daemon);
    let mode = |name: &str| fs::symlink_metadata(daemon.path(name)).expect(name).mode() & 0o7777;
    let expected =
        [("root", 0o700), ("state", 0o711), ("state/steps", 0o700), ("state/tasks", 0o700), ("sock", 0o660)];
    for (name, wanted) in expected {
        assert_eq!(mode(name), wanted, "{name}: {:o}", mode(name));
    }
    // RUN-16: no name that another network namespace could connect to.
    let sockets = fs::read_to_string("/proc/net/unix").expect("the sockets");
    assert!(!sockets.lines().any(|line| line.contains("@") && line.contains("buildd")), "{sockets}");
}

#[test]
fn host_02_and_03_what_others_planted_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
    let address = format!("unix://{}", dir.path().join("sock").display());
    let start = |root: &str, state: &str, more: &[&str]| {
        let mut daemon = std::process::Command::new(buildd_tests::daemon::binaries().join("buildd"));
        let place = |name: &str| text(&dir.path().join(name)).to_owned();
        daemon.args(["--addr", &address, "--root", &place(root), "--state", &place(state)]).args(more);
        run(daemon.stdin(Stdio::null()))
    };
    let target = dir.path().join("target");
    fs::create_dir(&target).expect("a folder");
    symlink(&target, dir.path().join("link")).expect("a link");
    lchown(dir.path().join("link"), Some(12_345), None).expect("the tests need root");
    fs::create_dir(dir.path().join("folder")).expect("a folder");
    lchown(dir.path().join("folder"), Some(12_345), None).expect("root");
    let refused = |ran: buildd_tests::daemon::Ran| {
        assert_ne!(ran.code, Some(0));
        assert!(ran.stderr.contains("belongs to user 12345"), "{ran:?}");
    };
    refused(start("link", "state", &[]));
    refused(start("folder", "state", &[]));
    refused(start("root", "link", &[]));
    refused(start("root", "folder", &[]));
    assert_eq!(fs::read_dir(&target).expect("it").count(), 0, "something was put there");
    let config = dir.path().join("buildd.toml");
    fs::write(&config, "[worker]\nstep-processes = 20\n").expect("a file");
    fs::set_permissions(&config, fs::Permissions::from_mode(0o666)).expect("a mode");
    let ran = start("root", "state", &["--config", text(&config)]);
    assert!(ran.code != Some(0) && ran.stderr.contains("chmod o-w"), "{ran:?}");
    fs::set_permissions(&config, fs::Permissions::from_mode(0o600)).expect("a mode");
    fs::write(&config, "[worker]\nno-such-key = 20\n").expect("a file");
    let ran = start("root", "state", &["--config", text(&config)]);
    assert!(ran.code != Some(0) && ran.stderr.contains("no-such-key"), "{ran:?}");
}

#[test]
fn the_doctor_finds_the_sandbox_closed_and_the_worker_says_so() {
    let daemon = Daemon::start();
    let found =
        run(std::process::Command::new(buildd_tests::daemon::binaries().join("buildd")).arg("doctor")).ok();
    assert!(found.stdout.contains("ok    sandbox"), "{}", found.stdout);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    eventually("the probe's word", || {
        runtime.block_on(async {
            let mut control = ControlClient::new(connect(&daemon).await);
            let workers =
                control.list_workers(buildd_api::buildkit::moby::buildkit::v1::ListWorkersRequest::default());
            let record = workers.await.expect("the worker").into_inner().record.remove(0);
            record.labels.get("io.buildd.worker.sandbox").is_some_and(|word| word == "proven")
        })
    });
}
