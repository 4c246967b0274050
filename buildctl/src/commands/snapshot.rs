//! `snapshot`: the unpacked layers, under the names that containerd's clients know.

use anyhow::{Context as _, Result};
use buildd_api::containerd::containerd::services::snapshots::v1::{
    Info, Kind, ListSnapshotsRequest, RemoveSnapshotRequest, UsageRequest,
};
use clap::Subcommand;
use serde_json::json;

use crate::{
    client::Client,
    global::Global,
    output::{self, Format, Row, parse_format},
    timestamp::seconds,
};

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotCommand {
    /// List snapshots.
    #[command(visible_alias = "list")]
    Ls {
        /// Whose.
        #[arg(long, default_value = "overlayfs", value_name = "NAME")]
        snapshotter: String,
        /// Print names only.
        #[arg(long, short = 'q')]
        quiet: bool,
        /// How to show them: table, json or {{json .}}.
        #[arg(long, default_value = "table", value_parser = parse_format)]
        format: Format,
    },
    /// Remove snapshots that none stands on.
    #[command(visible_alias = "remove")]
    Rm {
        /// Whose.
        #[arg(long, default_value = "overlayfs", value_name = "NAME")]
        snapshotter: String,
        /// Their names.
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
}

/// Dispatches.
pub(crate) async fn run(global: &Global, command: SnapshotCommand) -> Result<()> {
    let client = Client::connect(global).await?;
    match command {
        SnapshotCommand::Ls { snapshotter, quiet, format } => list(&client, snapshotter, quiet, format).await,
        SnapshotCommand::Rm { snapshotter, names } => {
            for name in names {
                let request = RemoveSnapshotRequest { snapshotter: snapshotter.clone(), key: name.clone() };
                client.snapshots().remove(request).await.with_context(|| format!("remove {name}"))?;
                output::line(&name)?;
            }
            Ok(())
        }
    }
}

async fn list(client: &Client, snapshotter: String, quiet: bool, format: Format) -> Result<()> {
    let request = ListSnapshotsRequest { snapshotter: snapshotter.clone(), filters: Vec::new() };
    let mut pages = client.snapshots().list(request).await?.into_inner();
    let mut rows = Vec::new();
    while let Some(page) = pages.message().await? {
        for info in page.info {
            let size = match quiet {
                true => 0,
                false => size(client, &snapshotter, &info.name).await?,
            };
            rows.push(row(&info, size));
        }
    }
    if quiet {
        let text: String = rows.iter().map(|row| format!("{}\n", row.cells[0])).collect();
        return output::write(text.as_bytes());
    }
    output::show(format, &["NAME", "PARENT", "KIND", "SIZE", "CREATED"], &rows)
}

async fn size(client: &Client, snapshotter: &str, name: &str) -> Result<i64> {
    let request = UsageRequest { snapshotter: snapshotter.to_owned(), key: name.to_owned() };
    Ok(client.snapshots().usage(request).await?.into_inner().size)
}

fn row(info: &Info, size: i64) -> Row {
    let kind = Kind::try_from(info.kind).unwrap_or(Kind::Unknown).as_str_name().to_lowercase();
    let created = seconds(info.created_at);
    Row {
        cells: vec![
            info.name.clone(),
            info.parent.clone(),
            kind.clone(),
            output::size(size.unsigned_abs()),
            output::ago(created, crate::timestamp::now()),
        ],
        json: json!({
            "name": info.name, "parent": info.parent, "kind": kind, "size": size, "created": created,
            "labels": info.labels,
        }),
    }
}
