//! `content`: the blobs of the daemon's store.

use std::io::Write as _;

use anyhow::{Context as _, Result};
use buildd_api::containerd::containerd::services::content::v1::{
    DeleteContentRequest, Info, ListContentRequest, ReadContentRequest,
};
use clap::Subcommand;
use serde_json::json;

use crate::{
    client::Client,
    global::Global,
    output::{self, Format, Row, parse_format},
    timestamp::{now, seconds},
};

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum ContentCommand {
    /// List blobs.
    #[command(visible_alias = "list")]
    Ls {
        /// Only blobs that match containerd's filter: size>1000, labels."a"==b (repeatable).
        #[arg(long, short = 'f', value_name = "FILTER")]
        filter: Vec<String>,
        /// Print digests only.
        #[arg(long, short = 'q')]
        quiet: bool,
        /// How to show them: table, json or {{json .}}.
        #[arg(long, default_value = "table", value_parser = parse_format)]
        format: Format,
    },
    /// Write a blob to standard output.
    #[command(visible_alias = "cat")]
    Get {
        /// Its digest.
        #[arg(value_name = "DIGEST")]
        digest: String,
    },
    /// Remove blobs.
    #[command(visible_alias = "remove")]
    Rm {
        /// Their digests.
        #[arg(required = true, value_name = "DIGEST")]
        digests: Vec<String>,
    },
}

/// Dispatches.
pub(crate) async fn run(global: &Global, command: ContentCommand) -> Result<()> {
    let client = Client::connect(global).await?;
    match command {
        ContentCommand::Ls { filter, quiet, format } => list(&client, filter, quiet, format).await,
        ContentCommand::Get { digest } => get(&client, digest).await,
        ContentCommand::Rm { digests } => {
            for digest in digests {
                let request = DeleteContentRequest { digest: digest.clone() };
                client.content().delete(request).await.with_context(|| format!("remove {digest}"))?;
                output::line(&digest)?;
            }
            Ok(())
        }
    }
}

async fn list(client: &Client, filters: Vec<String>, quiet: bool, format: Format) -> Result<()> {
    let mut pages = client.content().list(ListContentRequest { filters }).await?.into_inner();
    let mut blobs = Vec::new();
    while let Some(page) = pages.message().await? {
        blobs.extend(page.info);
    }
    if quiet {
        let text: String = blobs.iter().map(|blob| format!("{}\n", blob.digest)).collect();
        return output::write(text.as_bytes());
    }
    let rows: Vec<Row> = blobs.iter().map(row).collect();
    output::show(format, &["DIGEST", "SIZE", "CREATED", "LABELS"], &rows)
}

fn row(blob: &Info) -> Row {
    let created = seconds(blob.created_at);
    Row {
        cells: vec![
            blob.digest.clone(),
            output::size(blob.size.unsigned_abs()),
            output::ago(created, now()),
            super::labels(&blob.labels),
        ],
        json: json!({"digest": blob.digest, "size": blob.size, "created": created, "labels": blob.labels}),
    }
}

async fn get(client: &Client, digest: String) -> Result<()> {
    let request = ReadContentRequest { digest: digest.clone(), offset: 0, size: 0 };
    let mut pieces =
        client.content().read(request).await.with_context(|| format!("read {digest}"))?.into_inner();
    let mut out = std::io::stdout().lock();
    while let Some(piece) = pieces.message().await? {
        out.write_all(&piece.data)?;
    }
    Ok(out.flush()?)
}
