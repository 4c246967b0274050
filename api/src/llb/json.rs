//! JSON: ops in protobuf's own JSON, as clients written in Go read them in errors and in the answer to `frontend.convertllb`.
//!
//! # Wire
//! 64-bit numbers are strings, enumerations are names, bytes are base64, and what has its default is left out.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use buildd_oci::digest::Digest;
use prost::{DecodeError, Message};
use serde_json::{Value, json};

use crate::buildkit::pb;

/// A whole definition: its ops by digest, what is told of them, and where in the text they stand.
pub fn definition(definition: &pb::Definition) -> Result<Value, DecodeError> {
    let decoded = |bytes: &Vec<u8>| -> Result<(String, Value), DecodeError> {
        let decoded = pb::Op::decode(bytes.as_slice())?;
        Ok((Digest::of(bytes).to_string(), op(&decoded)))
    };
    let ops = definition.def.iter().map(decoded).collect::<Result<BTreeMap<_, _>, _>>()?;
    let told: BTreeMap<_, _> =
        definition.metadata.iter().map(|(digest, of)| (digest, metadata(of))).collect();
    let source = definition.source.as_ref().map_or_else(|| json!({}), source);
    Ok(json!({ "def": ops, "metadata": told, "source": source }))
}

/// An op.
pub(crate) fn op(op: &pb::Op) -> Value {
    let input = |input: &pb::Input| object([("digest", json!(input.digest)), ("index", long(input.index))]);
    let (name, body) = match &op.op {
        Some(pb::op::Op::Exec(op)) => ("exec", exec(op)),
        Some(pb::op::Op::Source(op)) => {
            ("source", object([("identifier", json!(op.identifier)), ("attrs", map(&op.attrs))]))
        }
        Some(pb::op::Op::File(op)) => ("file", object([("actions", list(&op.actions, action))])),
        Some(pb::op::Op::Build(op)) => ("build", object([("builder", long(op.builder))])),
        Some(pb::op::Op::Merge(op)) => {
            ("merge", object([("inputs", list(&op.inputs, |from| object([("input", long(from.input))])))]))
        }
        Some(pb::op::Op::Diff(op)) => {
            let lower = op.lower.as_ref().map(|lower| object([("input", long(lower.input))]));
            let upper = op.upper.as_ref().map(|upper| object([("input", long(upper.input))]));
            ("diff", object([("lower", json!(lower)), ("upper", json!(upper))]))
        }
        None => ("", Value::Null),
    };
    let mut all = object([
        ("inputs", list(&op.inputs, input)),
        ("platform", op.platform.as_ref().map_or(Value::Null, platform)),
    ]);
    // A body is there or not: an empty one is not left out.
    if op.op.is_some() {
        all[name] = body;
    }
    all
}

/// What is told of an op beside it; Go's own JSON of its client's struct.
fn metadata(metadata: &pb::OpMetadata) -> Value {
    let group = metadata.progress_group.as_ref();
    let group = group.map(|group| {
        object([("id", json!(group.id)), ("name", json!(group.name)), ("weak", json!(group.weak))])
    });
    let export = metadata.export_cache.as_ref().map(|cache| json!({ "Value": cache.value }));
    object([
        ("ignore_cache", json!(metadata.ignore_cache)),
        ("description", map(&metadata.description)),
        ("export_cache", json!(export)),
        ("caps", map(&metadata.caps)),
        ("progress_group", json!(group)),
    ])
}

/// The texts that ops come from, and where in them they stand.
fn source(source: &pb::Source) -> Value {
    let position = |position: &Option<pb::Position>| {
        let position = position.unwrap_or_default();
        object([("line", json!(position.line)), ("character", json!(position.character))])
    };
    let range = |range: &pb::Range| json!({ "start": position(&range.start), "end": position(&range.end) });
    let location = |location: &pb::Location| {
        object([("sourceIndex", json!(location.source_index)), ("ranges", list(&location.ranges, range))])
    };
    let locations = source.locations.iter();
    let locations: BTreeMap<String, Value> = locations
        .map(|(digest, all)| (digest.clone(), object([("locations", list(&all.locations, location))])))
        .collect();
    let info = |info: &pb::SourceInfo| {
        object([
            ("filename", json!(info.filename)),
            ("data", json!(STANDARD.encode(&info.data))),
            ("language", json!(info.language)),
        ])
    };
    object([("locations", map(&locations)), ("infos", list(&source.infos, info))])
}

fn exec(op: &pb::ExecOp) -> Value {
    let meta = op.meta.clone().unwrap_or_default();
    let host = |host: &pb::HostIp| object([("Host", json!(host.host)), ("IP", json!(host.ip))]);
    let limit = |limit: &pb::Ulimit| {
        object([("Name", json!(limit.name)), ("Soft", long(limit.soft)), ("Hard", long(limit.hard))])
    };
    let proxies = meta.proxy_env.as_ref().map(|proxy| {
        object([
            ("httpProxy", json!(proxy.http_proxy)),
            ("httpsProxy", json!(proxy.https_proxy)),
            ("ftpProxy", json!(proxy.ftp_proxy)),
            ("noProxy", json!(proxy.no_proxy)),
            ("allProxy", json!(proxy.all_proxy)),
        ])
    });
    let meta = object([
        ("args", json!(meta.args)),
        ("env", json!(meta.env)),
        ("cwd", json!(meta.cwd)),
        ("user", json!(meta.user)),
        ("proxyEnv", json!(proxies)),
        ("extraHosts", list(&meta.extra_hosts, host)),
        ("hostname", json!(meta.hostname)),
        ("ulimit", list(&meta.ulimit, limit)),
        ("cgroupParent", json!(meta.cgroup_parent)),
        ("removeMountStubsRecursive", json!(meta.remove_mount_stubs_recursive)),
        ("validExitCodes", json!(meta.valid_exit_codes)),
    ]);
    let secret = |secret: &pb::SecretEnv| {
        object([("ID", json!(secret.id)), ("name", json!(secret.name)), ("optional", json!(secret.optional))])
    };
    let device =
        |device: &pb::CdiDevice| object([("name", json!(device.name)), ("optional", json!(device.optional))]);
    object([
        ("meta", meta),
        ("mounts", list(&op.mounts, mount)),
        ("network", choice(op.network, op.network().as_str_name())),
        ("security", choice(op.security, op.security().as_str_name())),
        ("secretenv", list(&op.secretenv, secret)),
        ("cdiDevices", list(&op.cdi_devices, device)),
    ])
}

fn mount(mount: &pb::Mount) -> Value {
    let cache = mount.cache_opt.as_ref().map(|cache| {
        object([("ID", json!(cache.id)), ("sharing", choice(cache.sharing, cache.sharing().as_str_name()))])
    });
    let tmpfs = mount.tmpfs_opt.as_ref().map(|tmpfs| object([("size", long(tmpfs.size))]));
    let file = |id: &str, uid: u32, gid: u32, mode: u32, optional: bool| {
        object([
            ("ID", json!(id)),
            ("uid", json!(uid)),
            ("gid", json!(gid)),
            ("mode", json!(mode)),
            ("optional", json!(optional)),
        ])
    };
    let secret = mount.secret_opt.as_ref();
    let secret = secret.map(|of| file(&of.id, of.uid, of.gid, of.mode, of.optional));
    let ssh = mount.ssh_opt.as_ref().map(|of| file(&of.id, of.uid, of.gid, of.mode, of.optional));
    object([
        ("input", long(mount.input)),
        ("selector", json!(mount.selector)),
        ("dest", json!(mount.dest)),
        ("output", long(mount.output)),
        ("readonly", json!(mount.readonly)),
        ("mountType", choice(mount.mount_type, mount.mount_type().as_str_name())),
        ("TmpfsOpt", json!(tmpfs)),
        ("cacheOpt", json!(cache)),
        ("secretOpt", json!(secret)),
        ("SSHOpt", json!(ssh)),
        ("resultID", json!(mount.result_id)),
        ("contentCache", choice(mount.content_cache, mount.content_cache().as_str_name())),
    ])
}

fn action(action: &pb::FileAction) -> Value {
    use pb::file_action::Action;
    let owner = |owner: &Option<pb::ChownOpt>| owner.as_ref().map_or(Value::Null, owners);
    let (name, body) = match &action.action {
        Some(Action::Copy(copy)) => ("copy", self::copy(copy)),
        Some(Action::Mkfile(file)) => (
            "mkfile",
            object([
                ("path", json!(file.path)),
                ("mode", json!(file.mode)),
                ("data", json!(STANDARD.encode(&file.data))),
                ("owner", owner(&file.owner)),
                ("timestamp", long(file.timestamp)),
            ]),
        ),
        Some(Action::Mkdir(folder)) => (
            "mkdir",
            object([
                ("path", json!(folder.path)),
                ("mode", json!(folder.mode)),
                ("makeParents", json!(folder.make_parents)),
                ("owner", owner(&folder.owner)),
                ("timestamp", long(folder.timestamp)),
            ]),
        ),
        Some(Action::Rm(rm)) => (
            "rm",
            object([
                ("path", json!(rm.path)),
                ("allowNotFound", json!(rm.allow_not_found)),
                ("allowWildcard", json!(rm.allow_wildcard)),
            ]),
        ),
        Some(Action::Symlink(link)) => (
            "symlink",
            object([
                ("oldpath", json!(link.oldpath)),
                ("newpath", json!(link.newpath)),
                ("owner", owner(&link.owner)),
                ("timestamp", long(link.timestamp)),
            ]),
        ),
        None => ("", Value::Null),
    };
    object([
        ("input", long(action.input)),
        ("secondaryInput", long(action.secondary_input)),
        ("output", long(action.output)),
        (name, body),
    ])
}

fn copy(copy: &pb::FileActionCopy) -> Value {
    object([
        ("src", json!(copy.src)),
        ("dest", json!(copy.dest)),
        ("owner", copy.owner.as_ref().map_or(Value::Null, owners)),
        ("mode", json!(copy.mode)),
        ("followSymlink", json!(copy.follow_symlink)),
        ("dirCopyContents", json!(copy.dir_copy_contents)),
        ("attemptUnpackDockerCompatibility", json!(copy.attempt_unpack_docker_compatibility)),
        ("createDestPath", json!(copy.create_dest_path)),
        ("allowWildcard", json!(copy.allow_wildcard)),
        ("allowEmptyWildcard", json!(copy.allow_empty_wildcard)),
        ("timestamp", long(copy.timestamp)),
        ("includePatterns", json!(copy.include_patterns)),
        ("excludePatterns", json!(copy.exclude_patterns)),
        ("alwaysReplaceExistingDestPaths", json!(copy.always_replace_existing_dest_paths)),
        ("modeStr", json!(copy.mode_str)),
    ])
}

fn owners(owner: &pb::ChownOpt) -> Value {
    use pb::user_opt::User;
    let user = |user: &Option<pb::UserOpt>| match user.as_ref().and_then(|user| user.user.as_ref()) {
        Some(User::ByName(named)) => {
            json!({ "byName": object([("name", json!(named.name)), ("input", long(named.input))]) })
        }
        Some(User::ById(id)) => json!({ "byID": id }),
        None => Value::Null,
    };
    object([("user", user(&owner.user)), ("group", user(&owner.group))])
}

fn platform(platform: &pb::Platform) -> Value {
    object([
        ("Architecture", json!(platform.architecture)),
        ("OS", json!(platform.os)),
        ("Variant", json!(platform.variant)),
        ("OSVersion", json!(platform.os_version)),
        ("OSFeatures", json!(platform.os_features)),
    ])
}

/// The fields that have another value than their default.
fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let is_default = |value: &Value| match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(_) => false,
    };
    let fields = fields.into_iter().filter(|(_, value)| !is_default(value));
    Value::Object(fields.map(|(name, value)| (name.to_owned(), value)).collect())
}

fn long(number: i64) -> Value {
    if number == 0 { Value::Null } else { json!(number.to_string()) }
}

fn map(entries: &BTreeMap<String, impl serde::Serialize>) -> Value {
    if entries.is_empty() { Value::Null } else { json!(entries) }
}

fn choice(number: i32, name: &str) -> Value {
    if number == 0 { Value::Null } else { json!(name) }
}

fn list<T>(items: &[T], each: impl Fn(&T) -> Value) -> Value {
    Value::Array(items.iter().map(each).collect())
}
