//! `version`: of this client and of the daemon that answers.

use anyhow::Result;
use serde_json::json;

use crate::{
    client::Client,
    global::Global,
    output::{self, Format, Row, parse_format},
};

/// Flags of `version`.
#[derive(Debug, clap::Args)]
pub(crate) struct VersionArgs {
    /// How to show it: table, json or {{json .}}.
    #[arg(long, default_value = "table", value_parser = parse_format)]
    format: Format,
    /// Only the client's, without asking a daemon.
    #[arg(long)]
    client: bool,
}

/// Shows both versions.
pub(crate) async fn run(global: &Global, args: VersionArgs) -> Result<()> {
    let row = |part: &str, version: &str, revision: &str| Row {
        cells: [part, version, revision].map(str::to_owned).to_vec(),
        json: json!({"component": part, "version": version, "revision": revision}),
    };
    let mut rows = vec![row("buildctl", env!("CARGO_PKG_VERSION"), "")];
    if !args.client {
        let client = Client::connect(global).await?;
        let answer = client.version().version(()).await?.into_inner();
        rows.push(row("buildd", &answer.version, &answer.revision));
    }
    output::show(args.format, &["COMPONENT", "VERSION", "REVISION"], &rows)
}
