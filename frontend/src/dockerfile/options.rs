//! Options: a client's `--opt` strings, checked and typed.
//!
//! Keys nobody here reads are ignored, as BuildKit does: clients send hints that not every daemon knows.

use std::collections::BTreeMap;

use buildd_api::{
    buildkit::pb,
    llb::{STEP_LIMIT, STEP_LIMITS},
};
use buildd_oci::platform::Platform;

use crate::{
    error::Error,
    request::{BUILD_ARGUMENT, CMDLINE_OPTION, EPOCH_ARGUMENT, wanted_capabilities},
};

/// What clients may ask of us.
const CAPABILITIES: [&str; 4] = [
    "moby.buildkit.frontend.inputs",
    "moby.buildkit.frontend.subrequests",
    "moby.buildkit.frontend.contexts",
    "moby.buildkit.frontend.gitquerystring",
];

const NO_CACHE_IMPORT: &str = "the cache is the daemon's own, none is imported";

/// What is refused by name, with what there is instead; a name with a colon at its end begins several.
const REFUSED: [(&str, &str); 3] = [
    ("cache-from", NO_CACHE_IMPORT),
    ("cache-imports", NO_CACHE_IMPORT),
    ("attest:", "no attestations are made"),
];
/// Fewest bytes of memory that a step can be given; agrees with docker.
const LEAST_MEMORY: i64 = 6 << 20;
/// Limits of a process.
const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// What a client wants, beside the text.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Name of the Dockerfile; none was asked for if empty.
    pub filename: String,
    /// Stage to build; the last one if empty.
    pub target: String,
    /// Platforms to build for; the daemon's own if empty.
    pub platforms: Vec<Platform>,
    /// The result is a list even of one platform.
    pub multi_platform: bool,
    /// Stages that are built although they are cached.
    pub no_cache: NoCache,
    /// `--build-arg`.
    pub build_args: BTreeMap<String, String>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// Named contexts, by name.
    pub contexts: BTreeMap<String, String>,
    /// URL of the main context; the session's files if empty.
    pub context: String,
    /// Folder of a remote context that is the context; all of it if empty.
    pub context_subdir: String,
    /// What is known of definitions that are contexts, by name; JSON.
    pub input_metadata: BTreeMap<String, String>,
    /// Name of the client's folder that is the context.
    pub context_key: String,
    /// Name of the client's folder with the Dockerfile, if it is not `dockerfile`; with a remote context, that it comes from there.
    pub dockerfile_key: String,
    /// The sessions of folders that are another client's, by folder.
    pub local_sessions: BTreeMap<String, String>,
    /// What folders are known again by, by folder.
    pub shared_keys: BTreeMap<String, String>,
    /// `default`, `pull` or `local`.
    pub resolve_mode: String,
    /// Another frontend has handed us the text: who else might read it is settled.
    pub forwarded: bool,
    /// The time that bounds those of a result.
    pub epoch: Epoch,
    /// Files of repositories have the time of their commit unless they say otherwise: somebody asks for bounded times.
    pub commit_times: bool,
    /// What every step gets.
    pub step: StepOptions,
}

/// The time that bounds those of a result, as the client says it or the text before its first `FROM`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Epoch {
    /// Not looked up yet: see `epoch::settle`.
    #[default]
    Unknown,
    /// Nobody asks for one, or what they name has no time.
    None,
    /// Seconds since 1970.
    At(i64),
}

/// What every step gets.
#[derive(Clone, Debug, Default)]
pub struct StepOptions {
    /// Lines of /etc/hosts.
    pub extra_hosts: Vec<pb::HostIp>,
    /// Network of steps that ask for none.
    pub network: pb::NetMode,
    /// Bytes of /dev/shm; 0 for the default.
    pub shm_size: i64,
    /// Resource limits.
    pub ulimits: Vec<pb::Ulimit>,
    /// Host name.
    pub hostname: String,
    /// Control group the steps run under.
    pub cgroup_parent: String,
    /// How much of the machine each may take, as description entries.
    pub limits: Vec<(String, String)>,
}

/// What the cache must not answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NoCache {
    /// Nothing.
    #[default]
    Nothing,
    /// Everything.
    All,
    /// The steps of these stages.
    Stages(Vec<String>),
}

impl Options {
    /// Reads a client's options.
    pub fn parse(opts: &BTreeMap<String, String>) -> Result<Self, Error> {
        let text = |key: &str| opts.get(key).cloned().unwrap_or_default();
        capabilities(opts)?;
        refuse(opts)?;
        let mut options = Self {
            filename: text("filename"),
            target: text("target"),
            context: text("context"),
            context_subdir: text("contextsubdir"),
            input_metadata: prefixed(opts, "input-metadata:"),
            context_key: opts.get("contextkey").cloned().unwrap_or_else(|| "context".to_owned()),
            dockerfile_key: text("dockerfilekey"),
            resolve_mode: text("image-resolve-mode"),
            local_sessions: prefixed(opts, "local-sessionid:"),
            shared_keys: prefixed(opts, "sharedkey:localdir:"),
            build_args: prefixed(opts, BUILD_ARGUMENT),
            labels: prefixed(opts, "label:"),
            contexts: prefixed(opts, "context:"),
            commit_times: opts
                .get(&format!("{BUILD_ARGUMENT}{EPOCH_ARGUMENT}"))
                .is_some_and(|value| !value.is_empty()),
            forwarded: opts.contains_key(CMDLINE_OPTION),
            ..Self::default()
        };
        for word in list(&text("platform")) {
            let platform = word.parse().map_err(|error| invalid("platform", error))?;
            if !options.platforms.contains(&platform) {
                options.platforms.push(platform);
            }
        }
        let multi = opts
            .get("multi-platform")
            .or_else(|| options.build_args.get("BUILDKIT_MULTI_PLATFORM"))
            .is_some_and(|value| matches!(value.as_str(), "1" | "true"));
        options.multi_platform = multi || options.platforms.len() > 1;
        if !matches!(options.resolve_mode.as_str(), "" | "default" | "pull" | "local") {
            let reason = format!("{:?} is none of default, pull, local", options.resolve_mode);
            return Err(invalid("image-resolve-mode", reason));
        }
        options.no_cache = match opts.get("no-cache") {
            None => NoCache::Nothing,
            Some(value) if value.is_empty() || value == "true" => NoCache::All,
            Some(value) => NoCache::Stages(list(value)),
        };
        options.step = StepOptions::parse(opts)?;
        Ok(options)
    }

    /// Whether a stage's steps run although they are cached.
    pub fn ignores_cache(&self, stage: &str) -> bool {
        match &self.no_cache {
            NoCache::Nothing => false,
            NoCache::All => true,
            NoCache::Stages(names) => names.iter().any(|name| name.eq_ignore_ascii_case(stage)),
        }
    }
}

impl StepOptions {
    fn parse(opts: &BTreeMap<String, String>) -> Result<Self, Error> {
        let text = |key: &str| opts.get(key).map_or("", String::as_str);
        let network = match text("force-network-mode") {
            "" | "sandbox" => pb::NetMode::Unset,
            "host" => pb::NetMode::Host,
            "none" => pb::NetMode::None,
            other => {
                return Err(invalid(
                    "force-network-mode",
                    format!("{other:?} is none of host, none, sandbox"),
                ));
            }
        };
        let shm_size = match text("shm-size") {
            "" => 0,
            size => size
                .parse()
                .ok()
                .filter(|size| *size >= 0)
                .ok_or_else(|| invalid("shm-size", format!("{size:?} is no number of bytes")))?,
        };
        Ok(Self {
            extra_hosts: list(text("add-hosts")).iter().map(|h| host(h)).collect::<Result<_, _>>()?,
            network,
            shm_size,
            ulimits: list(text("ulimit")).iter().map(|u| ulimit(u)).collect::<Result<_, _>>()?,
            hostname: match text("hostname") {
                "" => text("build-arg:BUILDKIT_SANDBOX_HOSTNAME").to_owned(),
                name => name.to_owned(),
            },
            cgroup_parent: text("cgroup-parent").to_owned(),
            limits: limits(opts)?,
        })
    }
}

/// How much of the machine a step may take, in the words of the client; the daemon bounds it by its own limits.
fn limits(opts: &BTreeMap<String, String>) -> Result<Vec<(String, String)>, Error> {
    let mut limits = Vec::new();
    for name in STEP_LIMITS {
        let value = opts.get(name).map_or("", String::as_str);
        // Docker's clients send 0 for what nobody asked for; the first processor is called 0 too.
        if value.is_empty() || (value == "0" && !name.starts_with("cpuset")) {
            continue;
        }
        let number = value.parse::<i64>().ok();
        let (fits, wanted) = match name {
            "memory" => (number.is_some_and(|bytes| bytes >= LEAST_MEMORY), "6 MiB or more, in bytes"),
            "memswap" => (
                number.is_some_and(|bytes| bytes == -1 || bytes >= LEAST_MEMORY),
                "6 MiB or more of memory and swap together, in bytes, or -1",
            ),
            "cpushares" => (number.is_some_and(|shares| shares >= 2), "a number of shares, 2 or more"),
            "cpuperiod" => (
                number.is_some_and(|period| (1000..=1_000_000).contains(&period)),
                "1,000 to 1,000,000 microseconds",
            ),
            "cpuquota" => (
                number.is_some_and(|quota| quota == -1 || quota >= 1000),
                "1,000 microseconds or more, or -1",
            ),
            _ => (value.split(',').all(is_range), "a list of numbers and ranges: 0-2,4"),
        };
        if !fits {
            return Err(invalid(name, format!("{value:?} is not {wanted}")));
        }
        limits.push((format!("{STEP_LIMIT}{name}"), value.to_owned()));
    }
    Ok(limits)
}

/// `4` or `0-2`.
fn is_range(text: &str) -> bool {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    matches!((first.parse::<u16>(), last.parse::<u16>()), (Ok(first), Ok(last)) if first <= last)
}

/// Refuses what a client needs of us and we do not have.
fn capabilities(opts: &BTreeMap<String, String>) -> Result<(), Error> {
    match wanted_capabilities(opts).find(|name| !CAPABILITIES.contains(name)) {
        None => Ok(()),
        Some(name) => Err(Error::Capability { name: name.to_owned() }),
    }
}

/// Refuses what would change the result or its surroundings and is not done here, so that nobody believes it was.
fn refuse(opts: &BTreeMap<String, String>) -> Result<(), Error> {
    for (name, value) in opts {
        let known = |(unknown, _): &&(&str, &str)| match unknown.strip_suffix(':') {
            Some(_) => name.starts_with(unknown),
            None => name == unknown,
        };
        let nothing = matches!(value.as_str(), "" | "0" | "[]" | "null" | "disabled=true");
        if let Some((_, instead)) = REFUSED.iter().find(known)
            && !nothing
        {
            return Err(invalid(name, format!("it is not supported: {instead}")));
        }
    }
    Ok(())
}

fn invalid(option: &str, reason: impl ToString) -> Error {
    Error::Option { option: option.to_owned(), reason: reason.to_string() }
}

fn prefixed(opts: &BTreeMap<String, String>, prefix: &str) -> BTreeMap<String, String> {
    opts.iter().filter_map(|(k, v)| Some((k.strip_prefix(prefix)?.to_owned(), v.clone()))).collect()
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// `name=address`; or `name:address`, where the address may have colons.
fn host(text: &str) -> Result<pb::HostIp, Error> {
    let (host, ip) = text
        .split_once('=')
        .or_else(|| text.split_once(':'))
        .ok_or_else(|| invalid("add-hosts", format!("{text:?} is not name=address")))?;
    let ip = ip.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() || ip.parse::<std::net::IpAddr>().is_err() {
        return Err(invalid("add-hosts", format!("{text:?} is not name=address")));
    }
    Ok(pb::HostIp { host: host.to_owned(), ip: ip.to_owned() })
}

/// `name=soft[:hard]`.
fn ulimit(text: &str) -> Result<pb::Ulimit, Error> {
    let parse = || {
        let (name, values) = text.split_once('=')?;
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        Some(pb::Ulimit { name: name.to_owned(), soft: soft.parse().ok()?, hard: hard.parse().ok()? })
    };
    let limit = parse().ok_or_else(|| invalid("ulimit", format!("{text:?} is not name=soft:hard")))?;
    match ULIMITS.contains(&limit.name.as_str()) {
        true => Ok(limit),
        false => Err(invalid("ulimit", format!("{:?} is none of {}", limit.name, ULIMITS.join(", ")))),
    }
}
