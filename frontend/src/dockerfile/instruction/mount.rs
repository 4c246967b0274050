//! The grammar of `RUN --mount=type=…,key=value,…`.
//!
//! The value is one CSV record. Variables are expanded by the lowering, except in `from`, which must be plain.

use super::nearest;
use crate::error::Fault;

/// One `--mount`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted.
    pub kind: MountKind,
    /// Stage, image or named context; the build context if none.
    pub from: Option<String>,
    /// Path in there.
    pub source: String,
    /// Path in the step.
    pub target: String,
    /// Writes are refused; none if not said.
    pub readonly: Option<bool>,
    /// Of caches, secrets and agents.
    pub id: String,
    /// Of caches.
    pub sharing: Sharing,
    /// The step fails without it.
    pub required: bool,
    /// Octal.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Variable that gets a secret.
    pub env: Option<String>,
    /// Bytes, of tmpfs.
    pub size: i64,
}

/// What is mounted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MountKind {
    /// Files of a stage, image or context.
    #[default]
    Bind,
    /// A folder that outlives the build.
    Cache,
    /// Memory.
    Tmpfs,
    /// A secret of the client.
    Secret,
    /// The client's ssh agent.
    Ssh,
}

/// Who may use a cache at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// Everyone.
    #[default]
    Shared,
    /// Another step gets another folder.
    Private,
    /// Another step waits.
    Locked,
}

const KEYS: [&str; 20] = [
    "type",
    "from",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "readonly",
    "ro",
    "readwrite",
    "rw",
    "id",
    "sharing",
    "required",
    "mode",
    "uid",
    "gid",
    "env",
    "size",
    "cache",
];

pub(super) fn parse(text: &str) -> Result<Mount, Fault> {
    let mut mount = Mount::default();
    for field in csv(text)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_lowercase(), Some(value)),
            None => (field.to_lowercase(), None),
        };
        set(&mut mount, &key, value, &field)?;
    }
    check(&mount)?;
    Ok(mount)
}

fn set(mount: &mut Mount, key: &str, value: Option<&str>, field: &str) -> Result<(), Fault> {
    let Some(text) = value else {
        match key {
            "readonly" | "ro" => mount.readonly = Some(true),
            "readwrite" | "rw" => mount.readonly = Some(false),
            "required" => mount.required = true,
            _ if KEYS.contains(&key) => {
                return Err(Fault::new(format!("invalid field '{field}' must be a key=value pair")));
            }
            _ => return Err(unknown(key, field)),
        }
        return Ok(());
    };
    let boolean = || boolean(key, text);
    let number = |radix| {
        let digits = text.strip_prefix("0o").unwrap_or(text);
        u32::from_str_radix(digits, radix).map_err(|_| Fault::new(format!("invalid value {text} for {key}")))
    };
    match key {
        "type" => mount.kind = kind(text)?,
        "from" => mount.from = Some(text.to_owned()),
        "source" | "src" => mount.source = text.to_owned(),
        "target" | "dst" | "destination" => mount.target = text.to_owned(),
        "readonly" | "ro" => mount.readonly = Some(boolean()?),
        "readwrite" | "rw" => mount.readonly = Some(!boolean()?),
        "required" => mount.required = boolean()?,
        "id" => mount.id = text.to_owned(),
        "env" => mount.env = Some(text.to_owned()),
        "mode" => mount.mode = Some(number(8)?),
        "uid" => mount.uid = Some(number(10)?),
        "gid" => mount.gid = Some(number(10)?),
        "size" => mount.size = size(text)?,
        "sharing" => {
            mount.sharing = match text.to_lowercase().as_str() {
                "shared" => Sharing::Shared,
                "private" => Sharing::Private,
                "locked" => Sharing::Locked,
                _ => return Err(Fault::new(format!("unsupported sharing value {text:?}"))),
            }
        }
        _ => return Err(unknown(key, field)),
    }
    Ok(())
}

fn check(mount: &Mount) -> Result<(), Fault> {
    if mount.from.as_ref().is_some_and(|from| from.contains('$')) {
        return Err(Fault::new("'from' doesn't support variable expansion, define alias stage instead"));
    }
    let file = matches!(mount.kind, MountKind::Secret | MountKind::Ssh);
    if mount.target.is_empty() && !file {
        return Err(Fault::new("target is required"));
    }
    if mount.kind == MountKind::Secret
        && mount.id.is_empty()
        && mount.source.is_empty()
        && mount.target.is_empty()
    {
        return Err(Fault::new("invalid secret mount. one of id, target required"));
    }
    if mount.env.is_some() && mount.kind != MountKind::Secret {
        return Err(Fault::new("\"env\" is only allowed for mounts of type \"secret\""));
    }
    Ok(())
}

/// A switch of a flag's value.
pub(super) fn boolean(key: &str, text: &str) -> Result<bool, Fault> {
    match text {
        "true" | "1" | "t" | "T" | "TRUE" | "True" => Ok(true),
        "false" | "0" | "f" | "F" | "FALSE" | "False" => Ok(false),
        _ => Err(Fault::new(format!("invalid value for {key}: {text}"))),
    }
}

fn unknown(key: &str, field: &str) -> Fault {
    let near = nearest(key, &KEYS).map(|k| format!(" (did you mean {k}?)")).unwrap_or_default();
    Fault::new(format!("unexpected key '{key}' in '{field}'{near}"))
}

fn kind(text: &str) -> Result<MountKind, Fault> {
    Ok(match text.to_lowercase().as_str() {
        "bind" => MountKind::Bind,
        "cache" => MountKind::Cache,
        "tmpfs" => MountKind::Tmpfs,
        "secret" => MountKind::Secret,
        "ssh" => MountKind::Ssh,
        other => {
            let near = nearest(other, &["bind", "cache", "tmpfs", "secret", "ssh"])
                .map(|k| format!(" (did you mean {k}?)"))
                .unwrap_or_default();
            return Err(Fault::new(format!("unsupported mount type {other:?}{near}")));
        }
    })
}

/// Bytes; `k`, `m`, `g` and `t` are powers of 1024.
fn size(text: &str) -> Result<i64, Fault> {
    let lower = text.to_lowercase();
    let digits = lower.trim_end_matches('b').trim_end_matches('i');
    let (number, shift) = match digits.chars().last() {
        Some('k') => (&digits[..digits.len() - 1], 10),
        Some('m') => (&digits[..digits.len() - 1], 20),
        Some('g') => (&digits[..digits.len() - 1], 30),
        Some('t') => (&digits[..digits.len() - 1], 40),
        _ => (digits, 0),
    };
    let number: Option<i64> = number.trim().parse().ok().filter(|n| *n >= 0);
    number
        .and_then(|n| n.checked_mul(1 << shift))
        .ok_or_else(|| Fault::new(format!("invalid value for size: {text}")))
}

/// The fields of one CSV record; a quoted field may hold commas.
pub(super) fn csv(text: &str) -> Result<Vec<String>, Fault> {
    let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => field.extend(chars.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            _ => field.push(c),
        }
    }
    if quoted {
        return Err(Fault::new("failed to parse mount: unterminated quote"));
    }
    fields.push(field);
    Ok(fields)
}
