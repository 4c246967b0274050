//! Frontends: what turns a text into LLB.
//!
//! The daemon hands a [`FrontendRequest`] to [`dockerfile::solve`] and executes what comes back. All a frontend may ask of the daemon goes
//! through [`Bridge`]; it opens no file and no socket itself.
#![forbid(unsafe_code)]

pub mod bridge;
pub mod dockerfile;
pub mod error;
pub mod excerpt;
pub mod request;

pub use bridge::Bridge;
pub use error::Error;
pub use request::{FrontendRequest, FrontendResult, REQUEST_OPTION};

#[cfg(test)]
#[path = "../../tests/src/random.rs"]
mod random;
