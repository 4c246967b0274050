//! The Dockerfile frontend: text, instructions, stages, LLB.
//!
//! [`solve`] is the road from a client's options to the definitions that the daemon executes.

pub mod expand;
pub mod instruction;
pub mod lines;

use crate::{Bridge, Error, FrontendRequest, FrontendResult};

/// Builds what `request` asks for.
pub async fn solve(request: &FrontendRequest, bridge: &dyn Bridge) -> Result<FrontendResult, Error> {
    let _ = (request, bridge.build_platform());
    Ok(FrontendResult::default())
}
