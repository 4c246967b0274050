//! `debug`: what the daemon says of itself. `debug workers` is also how nerdctl asks whether a daemon answers.

use anyhow::Result;
use buildd_api::buildkit::moby::buildkit::v1::{InfoRequest, ListWorkersRequest, types::WorkerRecord};
use clap::Subcommand;
use serde_json::json;

use crate::{
    client::Client,
    global::Global,
    output::{self, Format, Row, parse_format},
};

/// What to look at.
#[derive(Debug, Subcommand)]
pub(crate) enum DebugCommand {
    /// List the workers and their platforms.
    Workers {
        /// Only workers that match. May be repeated.
        #[arg(long, short = 'f', value_name = "FILTER")]
        filter: Vec<String>,
        /// Show labels too.
        #[arg(long, short = 'v')]
        verbose: bool,
        /// How to show them: table, json or {{json .}}.
        #[arg(long, default_value = "table", value_parser = parse_format)]
        format: Format,
    },
    /// Show the daemon's version.
    Info {
        /// How to show it: table, json or {{json .}}.
        #[arg(long, default_value = "table", value_parser = parse_format)]
        format: Format,
    },
}

/// Asks and shows.
pub(crate) async fn run(global: &Global, command: DebugCommand) -> Result<()> {
    let client = Client::connect(global).await?;
    match command {
        DebugCommand::Workers { filter, verbose, format } => {
            let request = ListWorkersRequest { filter };
            let workers = client.control().list_workers(request).await?.into_inner().record;
            let rows: Vec<Row> = workers.iter().map(worker_row).collect();
            output::show(format, &["ID", "PLATFORMS"], &rows)?;
            if verbose && format == Format::Table {
                for worker in &workers {
                    for (key, value) in sorted(worker) {
                        output::line(&format!("{}\t{key}={value}", worker.id))?;
                    }
                }
            }
            Ok(())
        }
        DebugCommand::Info { format } => {
            let version = client.control().info(InfoRequest {}).await?.into_inner().buildkit_version;
            let version = version.unwrap_or_default();
            let row = Row {
                cells: vec![version.package.clone(), version.version.clone(), version.revision.clone()],
                json: json!({"buildkitVersion": {
                    "package": version.package, "version": version.version, "revision": version.revision,
                }}),
            };
            output::show(format, &["PACKAGE", "VERSION", "REVISION"], &[row])
        }
    }
}

fn sorted(worker: &WorkerRecord) -> Vec<(&String, &String)> {
    let mut labels: Vec<_> = worker.labels.iter().collect();
    labels.sort();
    labels
}

fn worker_row(worker: &WorkerRecord) -> Row {
    let platforms: Vec<String> = worker
        .platforms
        .iter()
        .map(|p| {
            let variant = if p.variant.is_empty() { String::new() } else { format!("/{}", p.variant) };
            format!("{}/{}{variant}", p.os, p.architecture)
        })
        .collect();
    let json_platforms: Vec<_> = worker
        .platforms
        .iter()
        .map(|p| json!({"os": p.os, "architecture": p.architecture, "variant": p.variant}))
        .collect();
    Row {
        cells: vec![worker.id.clone(), platforms.join(",")],
        // Compat: the field names that nerdctl reads (moby/buildkit client/workers.go).
        json: json!({"id": worker.id, "labels": worker.labels, "platforms": json_platforms}),
    }
}
