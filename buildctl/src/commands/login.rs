//! `login` and `logout`: names and passwords for registries, kept where docker keeps them.
//!
//! A login is proved to the registry before it is kept: what is wrong is never stored, and what was stored before stays.
//!
//! # Invariants
//! A password is never an argument: other users see those.

use std::{
    io::{BufRead as _, IsTerminal as _, Read as _, Write as _},
    path::PathBuf,
    sync::Arc,
};

use anyhow::{Context as _, Result, bail};
use buildd_oci::registry::{
    Error, Registry,
    auth::{Authorizer, Credential, Fixed, Redacted},
    docker_config::{DockerConfig, Kept, Login},
    hosts::HostOptions,
};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use serde_json::json;

use crate::{
    credentials::{self, HUB},
    output::{self, Format, Row},
};

/// Longest name or password; a token may be long.
const LINE_BYTES: u64 = 64 << 10;

/// Flags of `login`.
#[derive(Debug, clap::Args)]
pub(crate) struct LoginArgs {
    /// The registry: HOST or HOST:PORT.
    #[arg(default_value = HUB, value_name = "HOST")]
    host: String,
    /// The name; asked for if absent.
    #[arg(long, short, value_name = "NAME")]
    username: Option<String>,
    /// Read the password from standard input.
    #[arg(long, requires = "username")]
    password_stdin: bool,
    /// List the logins that are kept, and where.
    #[arg(long, conflicts_with_all = ["username", "host"])]
    list: bool,
    /// Speak HTTP without TLS: the password travels in the open.
    #[arg(long)]
    plain_http: bool,
    /// Trust whoever answers.
    #[arg(long)]
    skip_verify: bool,
    /// Folder with the hosts' settings, instead of /etc/containerd/certs.d and /etc/docker/certs.d.
    #[arg(long, value_name = "DIR")]
    hosts_dir: Option<PathBuf>,
}

/// Flags of `logout`.
#[derive(Debug, clap::Args)]
pub(crate) struct LogoutArgs {
    /// The registry: HOST or HOST:PORT.
    #[arg(default_value = HUB, value_name = "HOST")]
    host: String,
}

/// Asks, proves and keeps.
pub(crate) async fn login(args: LoginArgs) -> Result<()> {
    if args.list {
        return list().await;
    }
    let name = credentials::name(&args.host)?;
    let options = HostOptions {
        default_scheme: args.plain_http.then(|| "http".to_owned()),
        host_dir: args.hosts_dir,
        skip_verify: args.skip_verify,
        ..HostOptions::default()
    };
    let host = credentials::host(&name, &options)?;
    // What is wrong with the file is told before anybody types a password.
    let config = DockerConfig::read(&credentials::file()?)?;
    let (username, password) = match args.username {
        Some(username) if args.password_stdin => (username, password_from_stdin()?),
        username => ask(username).await?,
    };
    if username.is_empty() || password.0.is_empty() {
        bail!("log in to {name}: name and password must not be empty");
    }
    let credential = Credential::Basic { username: username.clone(), password: password.clone() };
    let fixed = Fixed { host: host.authority.clone(), credential };
    let authorizer = Authorizer::for_login(Arc::new(fixed));
    let proved = Registry::new()?.ping(&host, &authorizer).await;
    proved.map_err(|error| match error {
        // Its hint would be to log in.
        Error::Credentials { reason, .. } => anyhow::anyhow!("log in to {name}: {reason}"),
        other => anyhow::Error::new(other).context(format!("log in to {name}")),
    })?;
    if authorizer.header(&host, &[]).await?.is_none() {
        let _ =
            writeln!(std::io::stderr(), "{name} did not ask who we are: name and password are not proved");
    }
    let (kept, what) = match authorizer.identity_token() {
        Some(token) => (config.store_identity(&host.authority, &username, &token).await?, "identity token"),
        None => (config.store(&host.authority, &username, &password).await?, "password"),
    };
    match kept {
        Kept::File(path) => output::line(&format!(
            "Login Succeeded\nThe {what} is kept unencrypted in {}; set credsStore there to have a program keep it.",
            path.display()
        )),
        Kept::Helper(helper) => {
            output::line(&format!("Login Succeeded\nThe {what} is kept by docker-credential-{helper}."))
        }
    }
}

async fn list() -> Result<()> {
    let logins = DockerConfig::read(&credentials::file()?)?.list().await?;
    let row = |login: Login| {
        let kept = match login.kept {
            Kept::File(path) => path.display().to_string(),
            Kept::Helper(name) => format!("docker-credential-{name}"),
        };
        Row {
            json: json!({"registry": login.registry, "username": login.username, "keptBy": kept}),
            cells: vec![login.registry, login.username, kept],
        }
    };
    let rows: Vec<Row> = logins.into_iter().map(row).collect();
    output::show(Format::Table, &["REGISTRY", "USER", "KEPT BY"], &rows)
}

/// Forgets.
pub(crate) async fn logout(args: LogoutArgs) -> Result<()> {
    let name = credentials::name(&args.host)?;
    let config = DockerConfig::read(&credentials::file()?)?;
    let known = config.erase(&name).await?;
    output::line(&if known { format!("Logged out of {name}") } else { format!("Not logged in to {name}") })
}

fn password_from_stdin() -> Result<Redacted> {
    let mut text = String::new();
    std::io::stdin().take(LINE_BYTES).read_to_string(&mut text).context("read the password")?;
    Ok(Redacted(text.trim_end_matches(['\r', '\n']).to_owned()))
}

/// Asks on the terminal; a thread waits for the keys, so that Ctrl-C ends us with the terminal as it was.
async fn ask(username: Option<String>) -> Result<(String, Redacted)> {
    if !std::io::stdin().is_terminal() {
        bail!("standard input is no terminal to ask on: give -u NAME and --password-stdin");
    }
    let username = match username {
        Some(username) => username,
        None => read_line("Username: ").await?,
    };
    let silent = Silent::new().context("switch the terminal's echo off")?;
    let password = read_line("Password: ").await;
    drop(silent);
    let _ = writeln!(std::io::stderr());
    Ok((username, Redacted(password?)))
}

async fn read_line(prompt: &str) -> Result<String> {
    let mut out = std::io::stderr();
    let _ = out.write_all(prompt.as_bytes()).and_then(|()| out.flush());
    let (done, line) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = std::io::stdin().lock().take(LINE_BYTES).read_line(&mut line);
        let _ = done.send(read.map(|_| line.trim_end_matches(['\r', '\n']).to_owned()));
    });
    tokio::select! {
        line = line => Ok(line.context("read the terminal")?.context("read the terminal")?),
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
    }
}

/// A terminal that does not show what is typed, until dropped.
#[derive(Debug)]
struct Silent {
    before: Termios,
}

impl Silent {
    fn new() -> rustix::io::Result<Self> {
        let before = tcgetattr(std::io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(std::io::stdin(), OptionalActions::Flush, &silent)?;
        Ok(Self { before })
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Flush, &self.before);
    }
}
