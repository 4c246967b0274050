//! Entitlements: what a build may do beyond its sandbox, if daemon and client both say so.
//!
//! # Sources
//! moby/buildkit `util/entitlements`.

use std::collections::BTreeSet;

use buildd_api::buildkit::pb::{self, NetMode, SecurityMode, op};
use prost::Message;
use tonic::Status;

/// What this build was granted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Granted(BTreeSet<String>);

/// Grants what the client asks for and the daemon allows.
pub(crate) fn grant(asked: &[String], allowed: &[String]) -> Result<Granted, Status> {
    for entitlement in asked {
        if !allowed.contains(entitlement) {
            return Err(Status::permission_denied(format!(
                "granting entitlement {entitlement} is not allowed by build daemon configuration"
            )));
        }
    }
    Ok(Granted(asked.iter().cloned().collect()))
}

impl Granted {
    /// Refuses a definition with a step that needs more.
    pub(crate) fn check(&self, definition: &pb::Definition) -> Result<(), Status> {
        for bytes in &definition.def {
            let vertex = pb::Op::decode(bytes.as_slice())
                .map_err(|error| Status::invalid_argument(format!("decode the definition: {error}")))?;
            let Some(op::Op::Exec(exec)) = vertex.op else { continue };
            self.check_step(exec.network(), exec.security())?;
        }
        Ok(())
    }

    /// Refuses a network and a mode of containment that need more.
    pub(crate) fn check_step(&self, network: NetMode, security: SecurityMode) -> Result<(), Status> {
        let needs = [
            ("network.host", network == NetMode::Host),
            ("security.insecure", security == SecurityMode::Insecure),
        ];
        for (entitlement, needed) in needs {
            if needed && !self.0.contains(entitlement) {
                return Err(Status::permission_denied(format!("{entitlement} is not allowed")));
            }
        }
        Ok(())
    }
}
