//! Hostile registries: BLOB, MAN and NET cases of the specification.
