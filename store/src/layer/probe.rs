//! Probe: which form layers take on this machine, found out by trying.
//!
//! Asked once when the store is opened, and by `buildd doctor`. A tiny layer file is written and mounted, and an overlay laid over that mount:
//! what works then works for every layer.

use std::{
    io,
    path::{Path, PathBuf},
};

use buildd_fs::{
    overlay::{Overlay, OverlayError, attach, detach, detached, erofs},
    path::through,
};
use buildd_oci::compress::Growth;

use super::{Entry, LayerFileWriter, LayerWriter};
use crate::error::{Error, Result};

/// What the configuration says about the form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LayerFormat {
    /// Layer files where the kernel mounts them, folders elsewhere.
    #[default]
    Auto,
    /// Layer files; a machine that cannot mount them is refused.
    File,
    /// Folders.
    Directory,
}

/// How new layers are made.
#[derive(Clone, Copy, Debug, Default)]
pub struct LayerRules {
    /// Their form.
    pub form: LayerFormat,
    /// What a compressed one may unpack to.
    pub growth: Growth,
}

impl From<LayerFormat> for LayerRules {
    fn from(form: LayerFormat) -> Self {
        Self { form, ..Self::default() }
    }
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probed {
    /// Whether new layers are files.
    pub files: bool,
    /// Whether an overlay takes a layer's mount that has no place in the tree.
    pub detached: bool,
}

impl Probed {
    /// The form in words.
    pub fn as_str(self) -> &'static str {
        match (self.files, self.detached) {
            (true, true) => "layers are files, mounted where steps need them",
            (true, false) => "layers are files, mounted below the root",
            (false, _) => "layers are folders",
        }
    }
}

/// The form of new layers, tried out in `scratch`.
pub fn probe(wish: LayerFormat, scratch: &Path) -> Result<Probed> {
    let folders = Probed { files: false, detached: false };
    match (try_file(scratch), wish) {
        (Ok(detached), LayerFormat::Directory) => Ok(Probed { files: false, detached }),
        (Err(_), LayerFormat::Directory) => Ok(folders),
        (Ok(detached), _) => Ok(Probed { files: true, detached }),
        (Err(error), LayerFormat::Auto) => {
            tracing::info!(error = cause(&error), "layers are folders: the kernel mounts no layer files");
            Ok(folders)
        }
        (Err(error), LayerFormat::File) => Err(Error::Precondition {
            what: "layer form",
            name: "file".to_owned(),
            reason: format!(
                "does not work on this kernel ({}): set layer-form to auto or directory",
                cause(&error)
            ),
        }),
    }
}

fn cause(error: &Error) -> String {
    let source = std::error::Error::source(error).map(|source| format!(": {source}"));
    format!("{error}{}", source.unwrap_or_default())
}

/// Whether the overlay takes a mount without a place; an error if it takes no layer file at all.
fn try_file(scratch: &Path) -> Result<bool> {
    let dir = tempfile::tempdir_in(scratch).map_err(Error::file("create folder", scratch))?;
    let path = dir.path().join("layer");
    let mut writer = LayerFileWriter::new(&path)?;
    writer.entry(&Entry::directory("d".into()), &mut io::empty())?;
    writer.finish()?;
    let fail = |what: &'static str| OverlayError::mount(what, scratch);
    let layer = erofs(&path, None).map_err(fail("layer file"))?;
    // A lone read-only layer has nothing to be stacked on.
    let [empty, place] = ["empty", "place"].map(|name| dir.path().join(name));
    for folder in [&empty, &place] {
        std::fs::create_dir(folder).map_err(Error::file("create folder", folder))?;
    }
    let stack = |lower: PathBuf| detached(&Overlay { lowers: vec![lower, empty.clone()], upper: None });
    if stack(through(&layer)).is_ok() {
        return Ok(true);
    }
    attach(&layer, &place).map_err(fail("layer file"))?;
    let stacked = stack(place.clone());
    detach(&place)?;
    Ok(stacked.map(|_| false).map_err(fail("overlay over a layer file"))?)
}
