//! Global arguments: what `FROM` lines can use, and what `ARG name` without a value finds.
//!
//! Automatic platform arguments first, then the `ARG`s before the first `FROM`; a build-arg of the client beats both.

use buildd_oci::platform::Platform;

use crate::{
    dockerfile::{
        expand::Lexer,
        instruction::{Instruction, Located},
        named::Named,
        options::{Epoch, Options},
    },
    error::Fault,
    request::EPOCH_ARGUMENT,
};

/// Arguments every step sees without asking, and that are no part of what it is.
const PROXIES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

/// The global arguments of a build for `target`.
pub fn globals(
    meta: &[Located],
    options: &Options,
    build: &Platform,
    target: &Platform,
    escape: char,
) -> Result<Named<String>, Fault> {
    let stage = if options.target.is_empty() { "default" } else { &options.target };
    let mut args: Vec<(String, String)> = Vec::new();
    for (prefix, platform) in [("BUILD", build), ("TARGET", target)] {
        for (suffix, value) in [
            ("PLATFORM", platform.to_string()),
            ("OS", platform.os.clone()),
            ("OSVERSION", platform.os_version.clone()),
            ("ARCH", platform.architecture.clone()),
            ("VARIANT", platform.variant.clone()),
        ] {
            args.push((format!("{prefix}{suffix}"), value));
        }
    }
    args.push(("TARGETSTAGE".to_owned(), stage.to_owned()));
    for (name, value) in &mut args {
        if let Some(given) = options.build_args.get(name) {
            value.clone_from(given);
        }
    }
    let mut args: Named<String> = args.into_iter().collect();
    for located in meta {
        let Instruction::Arg(list) = &located.instruction else { continue };
        for (name, default) in list {
            let value = match (options.build_args.get(name).or(bound(name, options).as_ref()), default) {
                (Some(given), _) => given.clone(),
                // What it names has no time.
                (None, _) if name == EPOCH_ARGUMENT && options.epoch == Epoch::None => continue,
                (None, Some(default)) => {
                    let expanded = Lexer::new(escape).expand(default, &args);
                    expanded.map_err(|fault| fault.at(located.lines))?.text
                }
                (None, None) => continue,
            };
            args.set(name, value);
        }
    }
    Ok(args)
}

/// The time that bounds those of a result, as the value of the argument that asks for it.
fn bound(name: &str, options: &Options) -> Option<String> {
    match options.epoch {
        Epoch::At(seconds) if name == EPOCH_ARGUMENT => Some(seconds.to_string()),
        _ => None,
    }
}

/// The time that bounds those of a result: of the client or of the text before its first `FROM`, else of the stage that is built.
pub fn epoch(options: &Options, in_stage: Option<&str>) -> Result<Option<i64>, Fault> {
    match (options.epoch, in_stage) {
        (Epoch::At(seconds), _) => Ok(Some(seconds)),
        (Epoch::None, Some(text)) if !text.is_empty() => text.parse().map(Some).map_err(|_| {
            Fault::new(format!("{EPOCH_ARGUMENT} {text:?} is not a number of seconds"))
                .hint("a context or a stage is named by the client, or by an ARG before the first FROM")
        }),
        (Epoch::None | Epoch::Unknown, _) => Ok(None),
    }
}

/// The proxies that the client gave, if any.
pub fn proxies(options: &Options) -> Option<buildd_api::buildkit::pb::ProxyEnv> {
    let value = |wanted: &str| {
        let given = options.build_args.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        given.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let [http, https, ftp, no, all] = PROXIES.map(value);
    let proxies = buildd_api::buildkit::pb::ProxyEnv {
        http_proxy: http,
        https_proxy: https,
        ftp_proxy: ftp,
        no_proxy: no,
        all_proxy: all,
    };
    (proxies != Default::default()).then_some(proxies)
}
