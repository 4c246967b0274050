//! The worker as clients see it: its id, labels and platforms.

use std::collections::{BTreeMap, HashMap};

use buildd_api::buildkit::{
    moby::buildkit::v1::types::{BuildkitVersion, WorkerRecord},
    pb,
};
use buildd_oci::platform::Platform;

/// The version that clients compare features by.
pub(crate) fn version() -> BuildkitVersion {
    BuildkitVersion {
        package: "buildd".to_owned(),
        version: concat!("v", env!("CARGO_PKG_VERSION"), "+buildd").to_owned(),
        revision: String::new(),
    }
}

/// The one worker.
pub(crate) fn record(id: &str, labels: &BTreeMap<String, String>) -> WorkerRecord {
    let ours = [
        ("org.mobyproject.buildkit.worker.executor", "oci"),
        ("org.mobyproject.buildkit.worker.snapshotter", "overlayfs"),
        ("org.mobyproject.buildkit.worker.network", "host"),
    ];
    let ours = ours.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
    let labels = ours.chain(labels.clone()).collect::<HashMap<_, _>>();
    let host = Platform::host();
    let platform = pb::Platform {
        os: host.os,
        architecture: host.architecture,
        variant: host.variant,
        ..pb::Platform::default()
    };
    WorkerRecord {
        id: id.to_owned(),
        labels,
        platforms: vec![platform],
        buildkit_version: Some(version()),
        ..WorkerRecord::default()
    }
}
