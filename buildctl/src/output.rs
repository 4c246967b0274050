//! Output: tables for people, JSON for programs.
//!
//! A command gives rows that are both: columns of text for the table and a JSON value with everything known. `--format` takes `table`, `json` (one
//! array), and Go's `{{json .}}` (one line an object), which scripts written for other clients send.

use std::io::Write as _;

use anyhow::{Result, bail};
use serde_json::Value;

/// How to show rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Aligned columns.
    Table,
    /// One JSON array.
    Json,
    /// One JSON object a line.
    JsonLines,
}

/// Parses `--format`.
pub(crate) fn parse_format(text: &str) -> Result<Format, String> {
    match text.trim() {
        "table" => Ok(Format::Table),
        "json" => Ok(Format::Json),
        template => {
            let inner = template.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}"));
            match inner.map(|inner| inner.split_whitespace().collect::<Vec<_>>()) {
                Some(words) if words == ["json", "."] => Ok(Format::JsonLines),
                _ => Err("takes table, json or {{json .}}".to_owned()),
            }
        }
    }
}

/// One row: the cells of the table, and the whole as JSON.
#[derive(Debug)]
pub(crate) struct Row {
    /// Text of each column.
    pub(crate) cells: Vec<String>,
    /// Everything known.
    pub(crate) json: Value,
}

/// Shows rows under these column heads.
pub(crate) fn show(format: Format, heads: &[&str], rows: &[Row]) -> Result<()> {
    let text = match format {
        Format::Table => table(heads, rows),
        Format::Json => {
            let all: Vec<&Value> = rows.iter().map(|row| &row.json).collect();
            format!("{}\n", serde_json::to_string_pretty(&all)?)
        }
        Format::JsonLines => rows.iter().map(|row| format!("{}\n", row.json)).collect(),
    };
    write(text.as_bytes())
}

/// Writes to standard output at once.
pub(crate) fn write(bytes: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)?;
    Ok(out.flush()?)
}

/// Writes one line to standard output.
pub(crate) fn line(text: &str) -> Result<()> {
    write(format!("{text}\n").as_bytes())
}

/// A note to the user on standard error.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn table(heads: &[&str], rows: &[Row]) -> String {
    let heads: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
    let lines: Vec<&Vec<String>> = std::iter::once(&heads).chain(rows.iter().map(|row| &row.cells)).collect();
    let width = |column: usize| {
        lines.iter().filter_map(|cells| cells.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let mut out = String::new();
    for cells in lines {
        let padded: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        out.push_str(padded.join("   ").trim_end());
        out.push('\n');
    }
    out
}

/// A size as people read it: decimal units, three digits.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = if unit == 0 || value >= 99.95 {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    format!("{value:.digits$}{}", UNITS[unit])
}

/// Parses a size as people write it: `10`, `10kB`, `1.5GB`, `64MiB`, `64m`.
pub(crate) fn parse_size(text: &str) -> Result<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        _ => bail!("{text:?} is no size: write 512MB or 2GiB"),
    };
    match number.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok((number * factor as f64) as u64),
        _ => bail!("{text:?} is no size: write 512MB or 2GiB"),
    }
}

/// How long ago a time was, as `docker images` says it.
pub(crate) fn ago(seconds: i64, now: i64) -> String {
    const STEPS: [(i64, &str); 6] =
        [(60, "second"), (60, "minute"), (24, "hour"), (7, "day"), (52, "week"), (i64::MAX, "year")];
    let mut value = (now - seconds).max(0);
    for (size, unit) in STEPS {
        if value < size {
            return format!("{value} {unit}{} ago", if value == 1 { "" } else { "s" });
        }
        value /= size;
    }
    String::new()
}

#[cfg(test)]
mod tests;
