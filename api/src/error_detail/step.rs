//! Failed step: the op that a solve failed in, in protobuf's JSON: what a debugger opens a container like it with.
//!
//! # Wire
//! `pb.Op` with an `exec`: 64-bit numbers are strings, enumerations are names, zero fields are left out. Reading takes numbers
//! and strings alike, and only an `exec`.

use serde_json::Value;

use crate::{buildkit::pb, llb};

/// A RUN that failed.
#[derive(Debug, Clone, PartialEq)]
pub struct FailedStep {
    /// Its op.
    pub exec: pb::ExecOp,
    /// For which platform.
    pub platform: Option<pb::Platform>,
}

impl Eq for FailedStep {}

impl FailedStep {
    /// The step of an op, if it is one.
    pub fn of(op: &pb::Op) -> Option<Self> {
        match &op.op {
            Some(pb::op::Op::Exec(exec)) => Some(Self { exec: exec.clone(), platform: op.platform.clone() }),
            _ => None,
        }
    }

    pub(super) fn to_json(&self) -> Value {
        llb::json::op(&pb::Op {
            op: Some(pb::op::Op::Exec(self.exec.clone())),
            platform: self.platform.clone(),
            ..pb::Op::default()
        })
    }

    pub(super) fn from_json(op: &Value) -> Option<Self> {
        let exec = op.get("exec")?;
        let meta = &exec["meta"];
        let hosts = meta["extraHosts"].as_array().into_iter().flatten();
        let hosts = hosts.map(|host| pb::HostIp { host: text(&host["Host"]), ip: text(&host["IP"]) });
        let meta = pb::Meta {
            args: texts(&meta["args"]),
            env: texts(&meta["env"]),
            cwd: text(&meta["cwd"]),
            user: text(&meta["user"]),
            hostname: text(&meta["hostname"]),
            extra_hosts: hosts.collect(),
            ..pb::Meta::default()
        };
        let network = pb::NetMode::from_str_name(exec["network"].as_str().unwrap_or_default());
        let security = pb::SecurityMode::from_str_name(exec["security"].as_str().unwrap_or_default());
        let exec = pb::ExecOp {
            meta: Some(meta),
            mounts: exec["mounts"].as_array().into_iter().flatten().map(mount_of).collect(),
            network: network.unwrap_or_default().into(),
            security: security.unwrap_or_default().into(),
            ..pb::ExecOp::default()
        };
        let platform = op.get("platform").map(|platform| pb::Platform {
            os: text(&platform["OS"]),
            architecture: text(&platform["Architecture"]),
            variant: text(&platform["Variant"]),
            ..pb::Platform::default()
        });
        Some(Self { exec, platform })
    }
}

fn mount_of(value: &Value) -> pb::Mount {
    let kind = pb::MountType::from_str_name(value["mountType"].as_str().unwrap_or_default());
    let cache = value.get("cacheOpt").map(|cache| pb::CacheOpt {
        id: text(&cache["ID"]),
        sharing: pb::CacheSharingOpt::from_str_name(cache["sharing"].as_str().unwrap_or_default())
            .unwrap_or_default()
            .into(),
    });
    let tmpfs = value.get("TmpfsOpt").map(|tmpfs| pb::TmpfsOpt { size: number(&tmpfs["size"]) });
    let small = |value: &Value| u32::try_from(number(value)).unwrap_or_default();
    let secret = value.get("secretOpt").map(|secret| pb::SecretOpt {
        id: text(&secret["ID"]),
        uid: small(&secret["uid"]),
        gid: small(&secret["gid"]),
        mode: small(&secret["mode"]),
        optional: secret["optional"].as_bool().unwrap_or_default(),
    });
    pb::Mount {
        input: number(&value["input"]),
        selector: text(&value["selector"]),
        dest: text(&value["dest"]),
        output: number(&value["output"]),
        readonly: value["readonly"].as_bool().unwrap_or_default(),
        mount_type: kind.unwrap_or_default().into(),
        cache_opt: cache,
        tmpfs_opt: tmpfs,
        secret_opt: secret,
        ..pb::Mount::default()
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(text).collect()
}

fn number(value: &Value) -> i64 {
    value.as_i64().or_else(|| value.as_str()?.parse().ok()).unwrap_or_default()
}
