//! Meta: records of what clients name: images, containers, leases, namespaces.
//!
//! Each is rows of the database with containerd's fields, and tells what it changed as an event.

pub mod container;
pub mod image;
pub mod lease;
pub mod namespace;
