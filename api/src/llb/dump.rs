//! Text form of a definition: one block for each op, for golden tests and debugging.
//!
//! Ops are numbered in their order instead of showing digests, so that a change of one op does not change every later line.

use std::{collections::HashMap, fmt::Write};

use buildd_oci::digest::Digest;
use prost::Message;

use crate::buildkit::pb::{self, file_action::Action, op::Op};

/// The definition as text; ops that cannot be decoded say so.
pub fn text(definition: &pb::Definition) -> String {
    let mut out = String::new();
    let mut numbers = HashMap::new();
    for (number, bytes) in definition.def.iter().enumerate() {
        let digest = Digest::of(bytes).to_string();
        numbers.insert(digest.clone(), number);
        let Ok(op) = pb::Op::decode(bytes.as_slice()) else {
            let _ = writeln!(out, "#{number} (not an op)");
            continue;
        };
        let inputs: Vec<String> = op
            .inputs
            .iter()
            .map(|i| match numbers.get(&i.digest) {
                Some(n) => format!("#{n}.{}", i.index),
                None => format!("{}.{}", i.digest, i.index),
            })
            .collect();
        let _ = writeln!(out, "#{number} inputs=[{}]", inputs.join(" "));
        if let Some(metadata) = definition.metadata.get(&digest) {
            for (key, value) in &metadata.description {
                let _ = writeln!(out, "  {key}: {value}");
            }
            if metadata.ignore_cache {
                out.push_str("  ignore_cache\n");
            }
        }
        lines_of(definition, &digest, &mut out);
        if let Some(p) = &op.platform {
            let _ = writeln!(out, "  platform {}/{}{}", p.os, p.architecture, p.variant);
        }
        body(&op, &mut out);
    }
    out
}

fn lines_of(definition: &pb::Definition, digest: &str, out: &mut String) {
    let Some(locations) = definition.source.as_ref().and_then(|s| s.locations.get(digest)) else { return };
    for range in locations.locations.iter().flat_map(|l| &l.ranges) {
        let line = |p: &Option<pb::Position>| p.as_ref().map_or(0, |p| p.line);
        let _ = writeln!(out, "  lines {}-{}", line(&range.start), line(&range.end));
    }
}

fn body(op: &pb::Op, out: &mut String) {
    match &op.op {
        None => out.push_str("  result\n"),
        Some(Op::Source(source)) => {
            let _ = writeln!(out, "  source {}", source.identifier);
            for (key, value) in &source.attrs {
                let _ = writeln!(out, "    {key}={value}");
            }
        }
        Some(Op::Exec(exec)) => exec_body(exec, out),
        Some(Op::File(file)) => {
            for action in &file.actions {
                file_action(action, out);
            }
        }
        Some(other) => {
            let _ = writeln!(out, "  {other:?}");
        }
    }
}

fn exec_body(exec: &pb::ExecOp, out: &mut String) {
    if let Some(meta) = &exec.meta {
        let _ = writeln!(out, "  exec {:?} cwd={} user={:?}", meta.args, meta.cwd, meta.user);
        for env in &meta.env {
            let _ = writeln!(out, "    env {env}");
        }
        if let Some(proxy) = &meta.proxy_env {
            let _ = writeln!(out, "    {proxy:?}");
        }
        for rest in [
            (!meta.extra_hosts.is_empty()).then(|| format!("{:?}", meta.extra_hosts)),
            (!meta.ulimit.is_empty()).then(|| format!("{:?}", meta.ulimit)),
            (!meta.hostname.is_empty()).then(|| format!("hostname {}", meta.hostname)),
            (!meta.cgroup_parent.is_empty()).then(|| format!("cgroup parent {}", meta.cgroup_parent)),
            (exec.network != 0).then(|| format!("network {:?}", exec.network())),
            (exec.security != 0).then(|| format!("security {:?}", exec.security())),
        ]
        .into_iter()
        .flatten()
        {
            let _ = writeln!(out, "    {rest}");
        }
    }
    for device in &exec.cdi_devices {
        let optional = if device.optional { " optional" } else { "" };
        let _ = writeln!(out, "    device {}{optional}", device.name);
    }
    for mount in &exec.mounts {
        let mut line = format!("{:?} {} input={}", mount.mount_type(), mount.dest, mount.input);
        if !mount.selector.is_empty() {
            let _ = write!(line, " selector={}", mount.selector);
        }
        if mount.readonly {
            line.push_str(" readonly");
        }
        let _ = write!(line, " output={}", mount.output);
        if let Some(cache) = &mount.cache_opt {
            let _ = write!(line, " {cache:?}");
        }
        if let Some(secret) = &mount.secret_opt {
            let _ = write!(line, " {secret:?}");
        }
        if let Some(ssh) = &mount.ssh_opt {
            let _ = write!(line, " {ssh:?}");
        }
        if let Some(tmpfs) = &mount.tmpfs_opt {
            let _ = write!(line, " size={}", tmpfs.size);
        }
        let _ = writeln!(out, "    mount {line}");
    }
    for secret in &exec.secretenv {
        let _ = writeln!(out, "    {secret:?}");
    }
}

fn file_action(action: &pb::FileAction, out: &mut String) {
    let indexes = format!("{}+{}->{}", action.input, action.secondary_input, action.output);
    let _ = match &action.action {
        None => writeln!(out, "  action {indexes}"),
        Some(Action::Copy(c)) => {
            let flags: Vec<&str> = [
                (c.follow_symlink, "follow"),
                (c.dir_copy_contents, "contents"),
                (c.attempt_unpack_docker_compatibility, "unpack"),
                (c.create_dest_path, "parents"),
                (c.allow_wildcard, "wildcard"),
                (c.allow_empty_wildcard, "empty-wildcard"),
                (c.always_replace_existing_dest_paths, "replace"),
            ]
            .into_iter()
            .filter_map(|(on, name)| on.then_some(name))
            .collect();
            let mut line =
                format!("  copy {indexes} {} {} mode={} time={}", c.src, c.dest, c.mode, c.timestamp);
            let _ = write!(line, " [{}]", flags.join(" "));
            for (name, list) in [
                ("include", &c.include_patterns),
                ("exclude", &c.exclude_patterns),
                ("required", &c.required_paths),
            ] {
                if !list.is_empty() {
                    let _ = write!(line, " {name}={list:?}");
                }
            }
            if !c.mode_str.is_empty() {
                let _ = write!(line, " mode_str={}", c.mode_str);
            }
            writeln!(out, "{line}{}", owner(c.owner.as_ref()))
        }
        Some(Action::Mkfile(f)) => {
            let data = String::from_utf8_lossy(&f.data);
            writeln!(out, "  mkfile {indexes} {} {:o} {data:?}{}", f.path, f.mode, owner(f.owner.as_ref()))
        }
        Some(Action::Mkdir(d)) => {
            let parents = if d.make_parents { " parents" } else { "" };
            let time = if d.timestamp < 0 { String::new() } else { format!(" at={}", d.timestamp) };
            writeln!(
                out,
                "  mkdir {indexes} {} {:o}{parents}{time}{}",
                d.path,
                d.mode,
                owner(d.owner.as_ref())
            )
        }
        Some(other) => writeln!(out, "  {indexes} {other:?}"),
    };
}

fn owner(owner: Option<&pb::ChownOpt>) -> String {
    let Some(owner) = owner else { return String::new() };
    let one = |user: &Option<pb::UserOpt>| match user.as_ref().and_then(|u| u.user.as_ref()) {
        Some(pb::user_opt::User::ByName(n)) => format!("{}@{}", n.name, n.input),
        Some(pb::user_opt::User::ById(id)) => id.to_string(),
        None => String::new(),
    };
    format!(" owner={}:{}", one(&owner.user), one(&owner.group))
}
