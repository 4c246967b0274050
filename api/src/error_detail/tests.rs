//! Details survive the way there and back, and have the very JSON that Go's clients read.
use super::*;
use crate::buildkit::pb;

fn source() -> Source {
    let at = |line| Position { line, character: 0 };
    Source {
        info: SourceText {
            filename: "Dockerfile".into(),
            data: b"FROM a\nRUN b\n".to_vec(),
            language: "Dockerfile".into(),
        },
        ranges: vec![Range { start: at(2), end: at(2) }],
    }
}

#[test]
fn the_json_is_gos() {
    let json = |detail: Detail| String::from_utf8(detail.to_any().value).expect("JSON is text");
    assert_eq!(
        json(Detail::Source(source())),
        r#"{"info":{"filename":"Dockerfile","data":"RlJPTSBhClJVTiBiCg==","language":"Dockerfile"},"ranges":[{"start":{"line":2},"end":{"line":2}}]}"#
    );
    assert_eq!(json(Detail::Vertex("sha256:aa".into())), r#"{"digest":"sha256:aa"}"#);
    assert_eq!(json(Detail::Exit { code: 3, error: "x".into() }), r#"{"Code":3,"Error":"x"}"#);
}

fn step() -> FailedStep {
    let mount = |mount_type: pb::MountType, dest: &str| pb::Mount {
        input: 1,
        output: -1,
        dest: dest.to_owned(),
        mount_type: mount_type.into(),
        ..pb::Mount::default()
    };
    let cache = pb::CacheOpt { id: "c".into(), sharing: pb::CacheSharingOpt::Locked.into() };
    let secret = pb::SecretOpt { id: "s".into(), uid: 1, gid: 2, mode: 0o400, optional: true };
    let exec = pb::ExecOp {
        meta: Some(pb::Meta {
            args: vec!["sh".into(), "-c".into(), "false".into()],
            env: vec!["A=b".into()],
            cwd: "/w".into(),
            extra_hosts: vec![pb::HostIp { host: "h".into(), ip: "::1".into() }],
            ..pb::Meta::default()
        }),
        mounts: vec![
            mount(pb::MountType::Bind, "/"),
            pb::Mount { cache_opt: Some(cache), ..mount(pb::MountType::Cache, "/c") },
            pb::Mount { secret_opt: Some(secret), ..mount(pb::MountType::Secret, "/s") },
            pb::Mount {
                tmpfs_opt: Some(pb::TmpfsOpt { size: 1 << 40 }),
                ..mount(pb::MountType::Tmpfs, "/t")
            },
        ],
        network: pb::NetMode::None.into(),
        security: pb::SecurityMode::Insecure.into(),
        ..pb::ExecOp::default()
    };
    let platform =
        pb::Platform { os: "linux".into(), architecture: "arm64".into(), ..pb::Platform::default() };
    FailedStep { exec, platform: Some(platform) }
}

#[test]
fn there_and_back() {
    let details = vec![
        Detail::Source(source()),
        Detail::Vertex("sha256:aa".into()),
        Detail::Solve { input_ids: vec!["i".into()], mount_ids: Vec::new(), step: None },
        Detail::Solve { input_ids: Vec::new(), mount_ids: vec!["m".into()], step: Some(Box::new(step())) },
        Detail::Exit { code: 137, error: String::new() },
    ];
    let bytes = encode(2, "failed", &details);
    assert_eq!(decode(&bytes), details);
    let status = rpc::Status::decode(bytes.as_slice()).expect("a status");
    assert_eq!((status.code, status.message.as_str()), (2, "failed"));
}

#[test]
fn what_others_send_is_read_or_left_out() {
    let any = |type_url: &str, value: &str| crate::buildkit::google::protobuf::Any {
        type_url: type_url.into(),
        value: value.as_bytes().to_vec(),
    };
    let status = rpc::Status {
        details: vec![
            any("github.com/moby/buildkit/stack.Stack+json", "{}"),
            any(SOURCE, "not JSON"),
            any(SOURCE, r#"{"info":{"data":null,"definition":{}},"ranges":null}"#),
            any(EXIT, r#"{"Code":1}"#),
        ],
        ..rpc::Status::default()
    };
    let expected = vec![Detail::Source(Source::default()), Detail::Exit { code: 1, error: String::new() }];
    assert_eq!(decode(&status.encode_to_vec()), expected);
    assert_eq!(decode(b"\xff\xff"), Vec::new());
}
