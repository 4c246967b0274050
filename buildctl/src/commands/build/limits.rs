//! Limits: docker's flags for how much of the machine a RUN may take, as options of the Dockerfile frontend.
//!
//! The frontend checks the values; here only sizes become bytes.

use anyhow::{Context as _, Result};

use crate::output::parse_size;

/// How much of the machine a RUN may take.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Docker's flags")]
pub(crate) struct Limits {
    /// Memory of a RUN: 512MB.
    #[arg(long, short = 'm', value_name = "SIZE")]
    memory: Option<String>,
    /// Memory and swap of a RUN together: 1GB, or -1 for as much swap as there is.
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    memory_swap: Option<String>,
    /// A RUN's part of the processors beside others: 1024 is an equal one.
    #[arg(long, short = 'c', value_name = "SHARES")]
    cpu_shares: Option<String>,
    /// Microseconds over which --cpu-quota is counted.
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<String>,
    /// Microseconds of processor time that a RUN may use in a period.
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    cpu_quota: Option<String>,
    /// Processors that a RUN may use: 0-2,4.
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes that a RUN may use: 0-1.
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
}

impl Limits {
    /// The options that were given, by name.
    pub(super) fn options(&self) -> Result<Vec<(&'static str, String)>> {
        let size = |flag: &'static str, text: &Option<String>| match text.as_deref() {
            None => Ok(None),
            Some("-1") => Ok(Some("-1".to_owned())),
            Some(text) => parse_size(text).context(flag).map(|size| Some(size.to_string())),
        };
        let all = [
            ("memory", size("--memory", &self.memory)?),
            ("memswap", size("--memory-swap", &self.memory_swap)?),
            ("cpushares", self.cpu_shares.clone()),
            ("cpuperiod", self.cpu_period.clone()),
            ("cpuquota", self.cpu_quota.clone()),
            ("cpusetcpus", self.cpuset_cpus.clone()),
            ("cpusetmems", self.cpuset_mems.clone()),
        ];
        Ok(all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect())
    }
}
