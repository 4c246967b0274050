//! `lease`: what keeps things from being collected while somebody works with them.

use anyhow::{Context as _, Result};
use buildd_api::containerd::containerd::services::leases::v1::{
    DeleteRequest, Lease, ListRequest, ListResourcesRequest,
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
pub(crate) enum LeaseCommand {
    /// List leases.
    #[command(visible_alias = "list")]
    Ls {
        /// Print ids only.
        #[arg(long, short = 'q')]
        quiet: bool,
        /// How to show them: table, json or {{json .}}.
        #[arg(long, default_value = "table", value_parser = parse_format)]
        format: Format,
    },
    /// End leases.
    #[command(visible_alias = "remove")]
    Rm {
        /// Collect what they kept before the answer.
        #[arg(long)]
        sync: bool,
        /// Their ids.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
}

/// Dispatches.
pub(crate) async fn run(global: &Global, command: LeaseCommand) -> Result<()> {
    let client = Client::connect(global).await?;
    match command {
        LeaseCommand::Ls { quiet, format } => {
            let leases = client.leases().list(ListRequest { filters: Vec::new() }).await?.into_inner().leases;
            if quiet {
                let text: String = leases.iter().map(|lease| format!("{}\n", lease.id)).collect();
                return output::write(text.as_bytes());
            }
            let mut rows = Vec::new();
            for lease in &leases {
                let request = ListResourcesRequest { id: lease.id.clone() };
                let held = client.leases().list_resources(request).await?.into_inner().resources;
                rows.push(row(lease, held.len()));
            }
            output::show(format, &["ID", "CREATED", "HOLDS", "LABELS"], &rows)
        }
        LeaseCommand::Rm { sync, ids } => {
            for id in ids {
                let request = DeleteRequest { id: id.clone(), sync };
                client.leases().delete(request).await.with_context(|| format!("end lease {id}"))?;
                output::line(&id)?;
            }
            Ok(())
        }
    }
}

fn row(lease: &Lease, held: usize) -> Row {
    let created = seconds(lease.created_at);
    Row {
        cells: vec![
            lease.id.clone(),
            output::ago(created, crate::timestamp::now()),
            held.to_string(),
            super::labels(&lease.labels),
        ],
        json: json!({"id": lease.id, "created": created, "holds": held, "labels": lease.labels}),
    }
}
