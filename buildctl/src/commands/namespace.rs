//! `namespace`: the parts of the daemon's store, each with images and containers of its own.

use std::collections::HashMap;

use anyhow::{Context as _, Result};
use buildd_api::containerd::containerd::services::namespaces::v1::{
    CreateNamespaceRequest, DeleteNamespaceRequest, ListNamespacesRequest, Namespace,
};
use clap::Subcommand;
use serde_json::json;

use crate::{
    client::Client,
    global::Global,
    output::{self, Format, Row, parse_format},
};

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum NamespaceCommand {
    /// List namespaces.
    #[command(visible_alias = "list")]
    Ls {
        /// Print names only.
        #[arg(long, short = 'q')]
        quiet: bool,
        /// How to show them: table, json or {{json .}}.
        #[arg(long, default_value = "table", value_parser = parse_format)]
        format: Format,
    },
    /// Make a namespace.
    Create {
        /// Its name.
        #[arg(value_name = "NAME")]
        name: String,
        /// Notes on it: KEY=VALUE.
        #[arg(value_name = "LABEL", value_parser = label)]
        labels: Vec<(String, String)>,
    },
    /// Remove namespaces that are empty.
    #[command(visible_alias = "remove")]
    Rm {
        /// Their names.
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
}

/// Dispatches.
pub(crate) async fn run(global: &Global, command: NamespaceCommand) -> Result<()> {
    let client = Client::connect(global).await?;
    match command {
        NamespaceCommand::Ls { quiet, format } => {
            let request = ListNamespacesRequest { filter: String::new() };
            let mut all = client.namespaces().list(request).await?.into_inner().namespaces;
            all.sort_by(|a, b| a.name.cmp(&b.name));
            if quiet {
                let text: String = all.iter().map(|namespace| format!("{}\n", namespace.name)).collect();
                return output::write(text.as_bytes());
            }
            let rows: Vec<Row> = all.iter().map(row).collect();
            output::show(format, &["NAME", "LABELS"], &rows)
        }
        NamespaceCommand::Create { name, labels } => {
            let namespace = Namespace { name: name.clone(), labels: HashMap::from_iter(labels) };
            let request = CreateNamespaceRequest { namespace: Some(namespace) };
            client.namespaces().create(request).await.with_context(|| format!("make namespace {name}"))?;
            output::line(&name)
        }
        NamespaceCommand::Rm { names } => {
            for name in names {
                let request = DeleteNamespaceRequest { name: name.clone() };
                client
                    .namespaces()
                    .delete(request)
                    .await
                    .with_context(|| format!("remove namespace {name}"))?;
                output::line(&name)?;
            }
            Ok(())
        }
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it as KEY=VALUE".to_owned()),
    }
}

fn row(namespace: &Namespace) -> Row {
    Row {
        cells: vec![namespace.name.clone(), super::labels(&namespace.labels)],
        json: json!({"name": namespace.name, "labels": namespace.labels}),
    }
}
