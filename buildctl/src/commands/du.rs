//! `du`: the records of the build cache and their sizes.

use anyhow::Result;
use buildd_api::buildkit::{
    google::protobuf::Timestamp,
    moby::buildkit::v1::{DiskUsageRequest, UsageRecord},
};
use serde_json::json;

use crate::{
    client::Client,
    global::Global,
    output::{self, Format, Row, parse_format},
};

/// Flags of `du`.
#[derive(Debug, clap::Args)]
pub(crate) struct DuArgs {
    /// Only records that match: `type==regular`, `id~=abc`. May be repeated.
    #[arg(long, short = 'f', value_name = "FILTER")]
    filter: Vec<String>,
    /// Show every field of each record.
    #[arg(long, short = 'v')]
    verbose: bool,
    /// How to show them: table, json or {{json .}}.
    #[arg(long, default_value = "table", value_parser = parse_format)]
    format: Format,
}

/// Shows the records, then the sums.
pub(crate) async fn run(global: &Global, args: DuArgs) -> Result<()> {
    let client = Client::connect(global).await?;
    let request = DiskUsageRequest { filter: args.filter, age_limit: 0 };
    let mut records = client.control().disk_usage(request).await?.into_inner().record;
    records.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
    let rows: Vec<Row> = records.iter().map(row).collect();
    if args.format != Format::Table {
        return output::show(args.format, &[], &rows);
    }
    if args.verbose {
        for row in &rows {
            output::line(&serde_json::to_string_pretty(&row.json)?)?;
        }
    } else {
        output::show(args.format, &["ID", "RECLAIMABLE", "SIZE", "LAST USED", "DESCRIPTION"], &rows)?;
    }
    output::write(sums(&records).as_bytes())
}

/// One record, for `du` and `prune`.
pub(super) fn row(record: &UsageRecord) -> Row {
    let used = record.last_used_at.as_ref().map(|at| output::ago(at.seconds, crate::timestamp::now()));
    Row {
        cells: vec![
            format!("{}{}", record.id, if record.mutable { "*" } else { "" }),
            (!record.in_use).to_string(),
            output::size(record.size.unsigned_abs()),
            used.unwrap_or_default(),
            record.description.clone(),
        ],
        json: json!({
            "id": record.id,
            "mutable": record.mutable,
            "inUse": record.in_use,
            "shared": record.shared,
            "size": record.size,
            "createdAt": record.created_at.as_ref().map(unix),
            "lastUsedAt": record.last_used_at.as_ref().map(unix),
            "usageCount": record.usage_count,
            "description": record.description,
            "recordType": record.record_type,
            "parents": record.parents,
        }),
    }
}

fn unix(at: &Timestamp) -> i64 {
    at.seconds
}

fn sums(records: &[UsageRecord]) -> String {
    let sum = |keep: &dyn Fn(&UsageRecord) -> bool| {
        output::size(
            records.iter().filter(|record| keep(record)).map(|record| record.size.unsigned_abs()).sum(),
        )
    };
    format!("Reclaimable:  {}\nTotal:        {}\n", sum(&|record| !record.in_use), sum(&|_| true))
}
