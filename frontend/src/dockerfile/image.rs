//! Image config under construction: what metadata instructions change, and the history of all of them.
//!
//! The exporter later fills in layers and times.

use std::collections::BTreeMap;

use buildd_oci::{
    config::{History, ImageConfig},
    platform::Platform,
};

/// PATH of an image that sets none.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The config of an image with nothing in it.
pub fn empty(platform: &Platform) -> ImageConfig {
    ImageConfig {
        os: platform.os.clone(),
        architecture: platform.architecture.clone(),
        variant: platform.variant.clone(),
        ..ImageConfig::default()
    }
}

/// The environment of a config as pairs.
pub fn environment(image: &ImageConfig) -> Vec<(String, String)> {
    let env = image.config.env.iter().flatten();
    env.map(|entry| {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        (name.to_owned(), value.to_owned())
    })
    .collect()
}

/// Where the variables of a config stand in its list.
#[derive(Clone, Debug, Default)]
pub struct Places(BTreeMap<String, usize>);

impl Places {
    /// Those of a config.
    pub fn of(image: &ImageConfig) -> Self {
        let mut places = BTreeMap::new();
        for (place, (name, _)) in environment(image).into_iter().enumerate() {
            places.entry(name).or_insert(place);
        }
        Self(places)
    }

    /// Whether a variable is set.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Sets a variable of the config, in its old place if it has one.
    pub fn set(&mut self, image: &mut ImageConfig, name: &str, value: &str) {
        let env = image.config.env.get_or_insert_default();
        let place = *self.0.entry(name.to_owned()).or_insert(env.len());
        let entry = format!("{name}={value}");
        match env.get_mut(place) {
            Some(old) => *old = entry,
            None => env.push(entry),
        }
    }
}

/// Adds an entry to the history.
pub fn record(image: &mut ImageConfig, created_by: String, layer: Layer) {
    image.history.push(History {
        created_by,
        comment: "buildkit.dockerfile.v0".to_owned(),
        empty_layer: layer == Layer::None,
        ..History::default()
    });
}

/// Whether an instruction makes a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// It changes files.
    Made,
    /// It changes metadata only.
    None,
}
