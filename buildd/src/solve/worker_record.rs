//! The worker as clients see it: its id, labels and platforms.

use std::collections::{BTreeMap, HashMap};

use buildd_api::buildkit::{
    moby::buildkit::v1::types::{BuildkitVersion, GcPolicy, WorkerRecord},
    pb,
};
use buildd_oci::platform::Platform;
use buildd_runtime::emulation;
use serde_json::json;

use crate::{config::Rule, solve::Builds};

/// The version that clients compare features by.
pub(crate) fn version() -> BuildkitVersion {
    BuildkitVersion {
        package: "buildd".to_owned(),
        version: concat!("v", env!("CARGO_PKG_VERSION"), "+buildd").to_owned(),
        revision: String::new(),
    }
}

fn gc_policy(rule: &Rule) -> GcPolicy {
    let bytes = |bytes: Option<u64>| i64::try_from(bytes.unwrap_or(0)).unwrap_or(i64::MAX);
    let nanos = |age: std::time::Duration| u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
    GcPolicy {
        all: rule.policy.all,
        keep_duration: bytes(rule.policy.keep_duration.map(nanos)),
        filters: rule.filters.clone(),
        reserved_space: bytes(rule.policy.reserved),
        max_used_space: bytes(rule.policy.max_used),
        min_free_space: bytes(rule.policy.min_free),
    }
}

fn platform(of: Platform) -> pb::Platform {
    pb::Platform { os: of.os, architecture: of.architecture, variant: of.variant, ..pb::Platform::default() }
}

/// The one worker as the program of a frontend reads it from its environment.
pub(crate) fn list(id: &str, labels: &BTreeMap<String, String>) -> String {
    let WorkerRecord { id, labels, platforms, .. } = record(id, labels, &[]);
    let labels: BTreeMap<_, _> = labels.into_iter().collect();
    let platforms = platforms.iter().map(|platform| {
        let mut one = json!({ "architecture": platform.architecture, "os": platform.os });
        if !platform.variant.is_empty() {
            one["variant"] = json!(platform.variant);
        }
        one
    });
    json!([{ "id": id, "labels": labels, "platforms": platforms.collect::<Vec<_>>() }]).to_string()
}

/// Says whether a probe has found steps contained; the daemon's owner cannot say it instead.
const SANDBOX: &str = "io.buildd.worker.sandbox";

/// The one worker, as clients are told of it.
pub(crate) fn of(builds: &Builds) -> WorkerRecord {
    let mut record = record(&builds.uuid, &builds.labels, builds.collector.rules());
    let sandboxed = if builds.worker.executor.is_sandboxed() { "proven" } else { "unproven" };
    record.labels.insert(SANDBOX.to_owned(), sandboxed.to_owned());
    record
}

/// The one worker, and the rules that its cache is cut back by.
fn record(id: &str, labels: &BTreeMap<String, String>, rules: &[Rule]) -> WorkerRecord {
    let ours = [
        ("org.mobyproject.buildkit.worker.executor", "oci"),
        ("org.mobyproject.buildkit.worker.snapshotter", "overlayfs"),
        ("org.mobyproject.buildkit.worker.network", "host"),
    ];
    let ours = ours.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
    let labels = ours.chain(labels.clone()).collect::<HashMap<_, _>>();
    let runs = [Platform::host()].into_iter().chain(emulation::platforms());
    WorkerRecord {
        id: id.to_owned(),
        labels,
        platforms: runs.map(platform).collect(),
        gc_policy: rules.iter().map(gc_policy).collect(),
        buildkit_version: Some(version()),
        ..WorkerRecord::default()
    }
}
