//! Watch: how far the parts of a pull or a push are, for those who show it.
//!
//! The transfer writes, `containerd.types.transfer.Progress` and a build's status are made from what is read here, at the reader's own pace.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU8, AtomicU64, Ordering},
};

use buildd_oci::{descriptor::Descriptor, media_type};

/// Where a blob is on its way; the words are containerd's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Others go first.
    Waiting,
    /// Its bytes come.
    Downloading,
    /// Its bytes go.
    Uploading,
    /// It is being unpacked.
    Extracting,
    /// It was there.
    Exists,
    /// The registry took it from another repository.
    Mounted,
    /// It is done.
    Complete,
}

const PHASES: [Phase; 7] = [
    Phase::Waiting,
    Phase::Downloading,
    Phase::Uploading,
    Phase::Extracting,
    Phase::Exists,
    Phase::Mounted,
    Phase::Complete,
];

impl Phase {
    /// The word that clients know it by.
    pub fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Downloading => "downloading",
            Self::Uploading => "uploading",
            Self::Extracting => "extracting",
            Self::Exists => "already exists",
            Self::Mounted => "mounted",
            Self::Complete => "complete",
        }
    }

    /// Whether nothing more will happen.
    pub fn is_end(self) -> bool {
        matches!(self, Self::Exists | Self::Mounted | Self::Complete)
    }
}

/// One blob on its way.
#[derive(Debug)]
pub struct Part {
    /// `layer-sha256:...`, `manifest-...`, `index-...`, `config-...`: containerd's names.
    pub name: String,
    /// The name of the document that points at it; empty for the root.
    pub parent: String,
    /// What it is.
    pub descriptor: Descriptor,
    done: AtomicU64,
    phase: AtomicU8,
}

impl Part {
    /// Bytes so far.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Where it is.
    pub fn phase(&self) -> Phase {
        PHASES[usize::from(self.phase.load(Ordering::Relaxed))]
    }

    pub(crate) fn add(&self, bytes: usize) {
        self.done.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn set_done(&self, bytes: u64) {
        self.done.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn enter(&self, phase: Phase) {
        let number = PHASES.iter().position(|known| *known == phase).unwrap_or_default();
        if phase.is_end() {
            self.set_done(self.descriptor.size);
        }
        self.phase.store(u8::try_from(number).unwrap_or_default(), Ordering::Relaxed);
    }
}

/// All parts of one transfer, in the order in which they became known.
#[derive(Clone, Debug, Default)]
pub struct Watch(Arc<Mutex<Vec<Arc<Part>>>>);

impl Watch {
    /// The parts known by now.
    pub fn parts(&self) -> Vec<Arc<Part>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A further part.
    pub(crate) fn add(&self, descriptor: &Descriptor, parent: &str) -> Arc<Part> {
        let part = Arc::new(Part {
            name: name(descriptor),
            parent: parent.to_owned(),
            descriptor: descriptor.clone(),
            done: AtomicU64::new(0),
            phase: AtomicU8::new(0),
        });
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&part));
        part
    }
}

/// What containerd calls a blob in refs and in progress.
pub(crate) fn name(descriptor: &Descriptor) -> String {
    let kind = match descriptor.media_type.as_str() {
        index if media_type::is_index(index) => "index",
        manifest if media_type::is_manifest(manifest) => "manifest",
        layer if media_type::is_layer(layer) => "layer",
        config if media_type::is_config(config) => "config",
        _ => "unknown",
    };
    format!("{kind}-{}", descriptor.digest)
}
