//! Global arguments: what `FROM` lines can use, and what `ARG name` without a value finds.
//!
//! Automatic platform arguments first, then the `ARG`s before the first `FROM`; a build-arg of the client beats both.

use buildd_oci::platform::Platform;

use crate::{
    dockerfile::{
        expand::Lexer,
        instruction::{Instruction, Located},
        named::Named,
        options::Options,
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
            let value = match (options.build_args.get(name), default) {
                (Some(given), _) => given.clone(),
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

/// The time that bounds those of a result: of the client, of the text before its first `FROM`, or of the stage that is built.
pub fn epoch(
    options: &Options,
    globals: &Named<String>,
    in_stage: Option<&str>,
) -> Result<Option<i64>, Fault> {
    let given =
        options.build_args.get(EPOCH_ARGUMENT).or_else(|| globals.get(EPOCH_ARGUMENT)).map(String::as_str);
    let Some(text) = given.or(in_stage).filter(|text| !text.is_empty()) else { return Ok(None) };
    let fault = || {
        Fault::new(format!("{EPOCH_ARGUMENT} {text:?} is not a number of seconds"))
            .hint("times of contexts and stages are not looked up: write the seconds since 1970")
    };
    text.parse().map(Some).map_err(|_| fault())
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
