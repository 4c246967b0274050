//! `prune`: removes records of the build cache that nothing needs.

use std::time::Duration;

use anyhow::{Result, bail};
use buildd_api::buildkit::moby::buildkit::v1::PruneRequest;

use super::du;
use crate::{
    client::Client,
    global::Global,
    output::{self, Format, parse_format, parse_size},
};

/// Flags of `prune`.
#[derive(Debug, clap::Args)]
pub(crate) struct PruneArgs {
    /// Only records that match. May be repeated.
    #[arg(long, short = 'f', value_name = "FILTER")]
    filter: Vec<String>,
    /// Also what the daemon keeps for itself.
    #[arg(long)]
    all: bool,
    /// Keep what was used within this time: 24h, 30m.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    keep_duration: Option<Duration>,
    /// Keep this much: 5GB.
    #[arg(long, visible_alias = "keep-storage", value_name = "SIZE")]
    reserved_space: Option<String>,
    /// Remove until no more than this is used.
    #[arg(long, value_name = "SIZE")]
    max_used_space: Option<String>,
    /// Remove until this much of the disk is free.
    #[arg(long, value_name = "SIZE")]
    min_free_space: Option<String>,
    /// How to show what was removed: table, json or {{json .}}.
    #[arg(long, default_value = "table", value_parser = parse_format)]
    format: Format,
}

/// Prunes, and shows what went.
pub(crate) async fn run(global: &Global, args: PruneArgs) -> Result<()> {
    let request = PruneRequest {
        filter: args.filter,
        all: args.all,
        keep_duration: args
            .keep_duration
            .map_or(0, |time| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)),
        reserved_space: bytes(args.reserved_space.as_deref())?,
        max_used_space: bytes(args.max_used_space.as_deref())?,
        min_free_space: bytes(args.min_free_space.as_deref())?,
    };
    let client = Client::connect(global).await?;
    let mut removed = client.control().prune(request).await?.into_inner();
    let (mut rows, mut total) = (Vec::new(), 0);
    while let Some(record) = removed.message().await? {
        total += record.size.unsigned_abs();
        rows.push(du::row(&record));
    }
    output::show(args.format, &["ID", "RECLAIMABLE", "SIZE", "LAST USED", "DESCRIPTION"], &rows)?;
    if args.format == Format::Table {
        output::line(&format!("Total:        {}", output::size(total)))?;
    }
    Ok(())
}

fn bytes(text: Option<&str>) -> Result<i64> {
    let size = text.map(parse_size).transpose()?.unwrap_or(0);
    Ok(i64::try_from(size).unwrap_or(i64::MAX))
}

/// Parses Go's durations as far as people write them: `90s`, `1h30m`, `24h`.
fn parse_duration(text: &str) -> Result<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let seconds: u64 = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => bail!("{text:?} is no duration: write 90s, 30m or 24h"),
        };
        let Some(part) = number.parse::<u64>().ok().and_then(|n| n.checked_mul(seconds)) else {
            bail!("{text:?} is no duration: write 90s, 30m or 24h");
        };
        total = total.saturating_add(Duration::from_secs(part));
        rest = tail;
    }
    Ok(total)
}

#[cfg(test)]
mod tests;
