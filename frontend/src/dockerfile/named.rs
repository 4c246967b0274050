//! Named values in order: the variables of a stage, as the instructions of a very long text set them one by one.
//!
//! Lowering and the global arguments keep what `ENV` and `ARG` set in it.
//!
//! # Invariants
//! Every name is there once. Setting, moving and finding take the logarithm of the number of names: a text may set a name on every line.

use std::collections::BTreeMap;

use super::expand::Environment;

/// Values by name, in the order in which they were last set.
#[derive(Clone, Debug)]
pub struct Named<V> {
    places: BTreeMap<String, u64>,
    entries: BTreeMap<u64, (String, V)>,
    next: u64,
}

impl<V> Default for Named<V> {
    fn default() -> Self {
        Self { places: BTreeMap::new(), entries: BTreeMap::new(), next: 0 }
    }
}

impl<V> Named<V> {
    /// Sets a value; its name goes to the end, wherever it was.
    pub fn set(&mut self, name: &str, value: V) {
        if let Some(place) = self.places.insert(name.to_owned(), self.next) {
            self.entries.remove(&place);
        }
        self.entries.insert(self.next, (name.to_owned(), value));
        self.next += 1;
    }

    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&V> {
        let place = self.places.get(name)?;
        self.entries.get(place).map(|(_, value)| value)
    }

    /// All, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &V)> {
        self.entries.values().map(|(name, value)| (name.as_str(), value))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl<V> FromIterator<(String, V)> for Named<V> {
    fn from_iter<I: IntoIterator<Item = (String, V)>>(pairs: I) -> Self {
        let mut named = Self::default();
        pairs.into_iter().for_each(|(name, value)| named.set(&name, value));
        named
    }
}

impl Environment for Named<String> {
    fn value(&self, name: &str) -> Option<String> {
        self.get(name).cloned()
    }
}

#[cfg(test)]
mod tests;
