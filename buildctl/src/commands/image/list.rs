//! `image ls`, `inspect` and `history`: what is there, and how it came about.

use anyhow::{Result, bail};
use buildd_api::containerd::containerd::services::images::v1::Image;
use serde_json::{Value, json};

use super::store::{self, Contents};
use crate::{
    client::Client,
    output::{self, Format, Row, parse_format},
    timestamp::{now, rfc3339, seconds},
};

/// Flags of `image ls`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Only names that contain this.
    #[arg(value_name = "TEXT")]
    contains: Option<String>,
    /// Only the names.
    #[arg(long, short = 'q')]
    quiet: bool,
    /// How to show them: table, json or {{json .}}.
    #[arg(long, default_value = "table", value_parser = parse_format)]
    format: Format,
}

/// Flags of `image history`.
#[derive(Debug, clap::Args)]
pub(crate) struct HistoryArgs {
    /// The image.
    #[arg(value_name = "IMAGE")]
    name: String,
    /// Show whole commands.
    #[arg(long)]
    no_trunc: bool,
    /// How to show it: table, json or {{json .}}.
    #[arg(long, default_value = "table", value_parser = parse_format)]
    format: Format,
}

/// Lists images.
pub(super) async fn list(client: &Client, args: ListArgs) -> Result<()> {
    let mut images = store::list(client).await?;
    if let Some(text) = &args.contains {
        images.retain(|image| image.name.contains(text));
    }
    if args.quiet {
        let names: String = images.iter().map(|image| format!("{}\n", image.name)).collect();
        return output::write(names.as_bytes());
    }
    let mut rows = Vec::new();
    for image in &images {
        rows.push(row(client, image).await);
    }
    output::show(args.format, &["NAME", "DIGEST", "PLATFORMS", "SIZE", "CREATED"], &rows)
}

/// An image whose blobs are incomplete is still listed, so that it can be removed.
async fn row(client: &Client, image: &Image) -> Row {
    let digest = image.target.as_ref().map_or_else(String::new, |target| target.digest.clone());
    let (mut platforms, mut size, mut problem) = (Vec::new(), 0, None);
    for contents in all_contents(client, image).await {
        match contents {
            Ok(contents) => {
                platforms.push(contents.config.platform().to_string());
                size += contents.descriptor.size + contents.manifest.config.size;
                size += contents.manifest.layers.iter().map(|layer| layer.size).sum::<u64>();
            }
            Err(e) => problem = Some(format!("{e:#}")),
        }
    }
    let shown = if problem.is_some() { "incomplete".to_owned() } else { platforms.join(",") };
    let created = seconds(image.created_at);
    let short: String = digest.chars().take("sha256:".len() + 12).collect();
    Row {
        cells: vec![image.name.clone(), short, shown, output::size(size), output::ago(created, now())],
        json: json!({
            "name": image.name, "digest": digest, "platforms": platforms, "size": size,
            "createdAt": rfc3339(created), "labels": image.labels, "problem": problem,
        }),
    }
}

async fn all_contents(client: &Client, image: &Image) -> Vec<Result<Contents>> {
    let manifests = match store::manifests(client, image).await {
        Ok(manifests) => manifests,
        Err(e) => return vec![Err(e)],
    };
    let mut all = Vec::new();
    for descriptor in manifests {
        all.push(store::read_contents(client, descriptor).await);
    }
    all
}

/// Shows manifest and config.
pub(super) async fn inspect(client: &Client, names: &[String], format: Format) -> Result<()> {
    if format == Format::Table {
        bail!("inspect shows json or {{{{json .}}}}");
    }
    let mut rows = Vec::new();
    for name in names {
        let image = store::find(client, name).await?;
        let contents = store::contents(client, &image).await?;
        let config: Value = serde_json::from_slice(&contents.raw_config)?;
        let json = json!({
            "name": image.name,
            "labels": image.labels,
            "createdAt": rfc3339(seconds(image.created_at)),
            "updatedAt": rfc3339(seconds(image.updated_at)),
            "target": store::target(&image)?,
            "manifest": {"descriptor": contents.descriptor, "content": contents.manifest},
            "config": config,
        });
        rows.push(Row { cells: Vec::new(), json });
    }
    output::show(format, &[], &rows)
}

/// Shows the history, newest first.
pub(super) async fn history(client: &Client, args: HistoryArgs) -> Result<()> {
    let image = store::find(client, &args.name).await?;
    let contents = store::contents(client, &image).await?;
    let mut layers = contents.manifest.layers.iter();
    let mut rows = Vec::new();
    for entry in &contents.config.history {
        let layer = if entry.empty_layer { None } else { layers.next() };
        let size = layer.map_or(0, |layer| layer.size);
        let created = entry.created.clone().unwrap_or_default();
        let command = entry.created_by.split_whitespace().collect::<Vec<_>>().join(" ");
        let shown = if args.no_trunc { command.clone() } else { truncate(&command) };
        rows.push(Row {
            cells: vec![created.clone(), shown, output::size(size), entry.comment.clone()],
            json: json!({
                "created": created, "createdBy": entry.created_by, "size": size, "comment": entry.comment,
                "emptyLayer": entry.empty_layer, "layer": layer.map(|layer| layer.digest.to_string()),
            }),
        });
    }
    rows.reverse();
    output::show(args.format, &["CREATED", "CREATED BY", "SIZE", "COMMENT"], &rows)
}

fn truncate(text: &str) -> String {
    /// Columns of a command in the table.
    const COLUMNS: usize = 60;
    if text.chars().count() <= COLUMNS {
        return text.to_owned();
    }
    text.chars().take(COLUMNS - 1).chain(['\u{2026}']).collect()
}
