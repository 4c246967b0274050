//! `registry`: which hosts serve an image, in which order, with which settings and where each came from.
//!
//! The daemon tells its folders and its configuration file; they are read here as it read them at its start, hosts.toml files as it reads
//! them for each request. With `--hosts-dir` no daemon is asked, as a request with such a folder reads nothing else.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use buildd_api::containerd::containerd::services::introspection::v1::PluginInfoRequest;
use buildd_oci::{
    reference::Reference,
    registry::{
        Registry,
        auth::Authorizer,
        host::{Host, Origin, Scheme},
        hosts::{HostOptions, HostsConfig, known::Known},
    },
};
use clap::Subcommand;
use serde_json::{Value, json};

use crate::{
    client::Client,
    credentials,
    global::Global,
    output::{self, Format, parse_format},
};

/// The daemon's plugin that tells where the settings of registries lie.
const TRANSFER: &str = "io.containerd.transfer.v1";

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum RegistryCommand {
    /// Show the hosts that an image is asked of.
    Explain {
        /// The image, or a registry alone.
        #[arg(value_name = "IMAGE")]
        name: String,
        /// Folder with a folder of hosts.toml for each registry (repeatable); the daemon's settings if not given.
        #[arg(long, value_name = "DIR")]
        hosts_dir: Vec<PathBuf>,
        /// Speak plain HTTP with a registry that no file gives an address.
        #[arg(long)]
        plain_http: bool,
        /// Ask each host and show what it answers.
        #[arg(long)]
        probe: bool,
        /// How to show it: table, json or {{json .}}.
        #[arg(long, default_value = "table", value_parser = parse_format)]
        format: Format,
    },
}

/// Explains.
pub(crate) async fn run(global: &Global, command: RegistryCommand) -> Result<()> {
    let RegistryCommand::Explain { name, hosts_dir, plain_http, probe, format } = command;
    let reference = reference(&name)?;
    let config = match hosts_dir.is_empty() {
        true => of_daemon(global).await?,
        false => HostsConfig { roots: hosts_dir, tables: Vec::new() },
    };
    let options =
        HostOptions { default_scheme: plain_http.then(|| "http".to_owned()), ..HostOptions::default() };
    let hosts = config.hosts(reference.domain(), &options)?;
    let mut shown = Vec::new();
    for host in &hosts {
        let answer = match probe {
            true => Some(answer(&reference, host).await?),
            false => None,
        };
        shown.push((host, answer));
    }
    match format {
        Format::Table => {
            let text: String = shown
                .iter()
                .enumerate()
                .map(|(number, (host, answer))| text(number + 1, host, answer.as_deref()))
                .collect();
            output::write(text.as_bytes())
        }
        Format::Json | Format::JsonLines => {
            let values: Vec<Value> =
                shown.iter().map(|(host, answer)| value(host, answer.as_deref())).collect();
            let text = match format {
                Format::Json => format!("{}\n", serde_json::to_string_pretty(&values)?),
                _ => values.iter().map(|value| format!("{value}\n")).collect(),
            };
            output::write(text.as_bytes())
        }
    }
}

/// What the daemon knows.
async fn of_daemon(global: &Global) -> Result<HostsConfig> {
    let client = Client::connect(global).await?;
    let request =
        PluginInfoRequest { r#type: TRANSFER.to_owned(), id: "local".to_owned(), ..Default::default() };
    let answer = client.introspection().plugin_info(request).await;
    let plugin = answer.context("ask the daemon for its settings")?.into_inner().plugin.unwrap_or_default();
    let told = |name: &str| plugin.exports.get(name).filter(|text| !text.is_empty());
    let flags: Vec<PathBuf> =
        told("hosts_dirs").iter().flat_map(|dirs| dirs.split(':')).map(PathBuf::from).collect();
    let known = match told("config") {
        Some(path) => Known::of_file(&flags, Path::new(path))?,
        None => Known::gather(&flags, None)?,
    };
    for line in known.advice {
        let _ = writeln!(std::io::stderr(), "{line}");
    }
    Ok(known.hosts)
}

/// A name of an image; a registry alone will do. Without a dot it is an image: `alpine:3` has a tag, not a port.
fn reference(name: &str) -> Result<Reference> {
    let host = name.split(':').next().unwrap_or_default();
    let is_registry =
        !name.contains('/') && (host.contains('.') || host == "localhost" || host.starts_with('['));
    let alone = is_registry.then(|| Reference::parse(&format!("{name}/any")).ok()).flatten();
    match alone {
        Some(reference) => Ok(reference),
        None => Ok(Reference::parse(name).with_context(|| format!("explain {name:?}"))?.with_default_tag()),
    }
}

/// What a host alone says of the image.
async fn answer(reference: &Reference, host: &Host) -> Result<String> {
    let repository = Registry::new()?.repository(
        reference,
        vec![host.clone()],
        Authorizer::new(Arc::new(credentials::logins()?)),
    );
    Ok(match repository.resolve().await {
        Ok(found) => format!("{} {}", found.media_type, found.digest),
        Err(error) => format!("{error:#}"),
    })
}

fn scheme(host: &Host) -> &'static str {
    match host.scheme {
        Scheme::Https => "https",
        Scheme::Http => "http",
        Scheme::HttpsOrHttp => "https, else http",
    }
}

fn capabilities(host: &Host) -> Vec<&'static str> {
    let all = [
        ("pull", host.capabilities.pull),
        ("resolve", host.capabilities.resolve),
        ("push", host.capabilities.push),
        ("referrers", host.capabilities.referrers),
    ];
    all.into_iter().filter(|(_, may)| *may).map(|(name, _)| name).collect()
}

fn origin(origin: &Origin) -> String {
    match origin {
        Origin::Default => "default".to_owned(),
        Origin::File(path, Some(line)) => format!("{}:{line}", path.display()),
        Origin::File(path, None) => path.display().to_string(),
        Origin::Config(path, table) => format!("{} [{table}]", path.display()),
        Origin::Request => "this request".to_owned(),
    }
}

fn text(number: usize, host: &Host, answer: Option<&str>) -> String {
    let mut text = format!(
        "{number}. {}{} ({})\n   may: {}\n",
        host.authority,
        host.path,
        scheme(host),
        capabilities(host).join(", ")
    );
    for (setting, from) in &host.origins {
        let value = setting_value(setting, host);
        text.push_str(&format!("   {setting}{value}: {}\n", origin(from)));
    }
    if let Some(answer) = answer {
        text.push_str(&format!("   answers: {answer}\n"));
    }
    text
}

fn setting_value(setting: &str, host: &Host) -> String {
    let files = |paths: Vec<String>| format!(" = {}", paths.join(", "));
    match setting {
        "ca" => files(host.tls.ca.iter().map(|path| path.display().to_string()).collect()),
        "client" => files(host.tls.client.iter().map(|(cert, _)| cert.display().to_string()).collect()),
        "skip_verify" => format!(" = {}", host.tls.skip_verify),
        "header" => files(host.headers.iter().map(|(name, _)| name.clone()).collect()),
        "dial_timeout" => host.dial_timeout.map_or_else(String::new, |timeout| format!(" = {timeout:?}")),
        _ => String::new(),
    }
}

fn value(host: &Host, answer: Option<&str>) -> Value {
    let origins: Vec<Value> = host
        .origins
        .iter()
        .map(|(setting, from)| json!({"setting": setting, "from": origin(from)}))
        .collect();
    json!({
        "host": host.authority,
        "path": host.path,
        "scheme": scheme(host),
        "capabilities": capabilities(host),
        "skipVerify": host.tls.skip_verify,
        "ca": host.tls.ca,
        "headers": host.headers.iter().map(|(name, _)| name).collect::<Vec<_>>(),
        "settings": origins,
        "answer": answer,
    })
}

#[cfg(test)]
mod tests {
    use super::reference;

    #[test]
    fn registries_and_images_are_told_apart() {
        let domain = |name: &str| reference(name).expect("a name").domain().to_owned();
        for (name, wanted) in [
            ("alpine", "docker.io"),
            ("alpine:3", "docker.io"),
            ("ghcr.io", "ghcr.io"),
            ("localhost:5000", "localhost:5000"),
            ("registry.example:5000/a/b:v1", "registry.example:5000"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(domain(name), wanted, "{name}");
        }
    }
}
