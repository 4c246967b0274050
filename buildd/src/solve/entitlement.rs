//! Entitlements: what a build may do beyond its sandbox, if daemon and client both say so.
//!
//! Devices have one of their own, for all (`device`) or by name (`device=vendor/class=name`); those that their administrator gives to every
//! build need none.
//!
//! # Sources
//! moby/buildkit `util/entitlements`, `docs/cdi.md`.

use std::collections::BTreeSet;

use buildd_api::buildkit::pb::{self, NetMode, SecurityMode, op};
use buildd_runtime::device::Devices;
use prost::Message;
use tonic::Status;

/// The entitlement of devices.
const DEVICE: &str = "device";

/// What this build was granted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Granted(BTreeSet<String>);

/// Grants what the client asks for and the daemon allows.
pub(crate) fn grant(asked: &[String], allowed: &[String]) -> Result<Granted, Status> {
    for entitlement in asked {
        let kind = if entitlement.starts_with("device=") { DEVICE } else { entitlement };
        if !allowed.iter().any(|allowed| allowed == kind) {
            return Err(Status::permission_denied(format!(
                "granting entitlement {entitlement} is not allowed by build daemon configuration\n\
                 hint: name it where buildd runs: insecure-entitlements = [\"{kind}\"] in its configuration, or \
                 --allow-insecure-entitlement {kind}"
            )));
        }
    }
    Ok(Granted(asked.iter().cloned().collect()))
}

impl Granted {
    /// Refuses a definition with a step that needs more.
    pub(crate) fn check(&self, definition: &pb::Definition, devices: &Devices) -> Result<(), Status> {
        for bytes in &definition.def {
            let vertex = pb::Op::decode(bytes.as_slice())
                .map_err(|error| Status::invalid_argument(format!("decode the definition: {error}")))?;
            let Some(op::Op::Exec(exec)) = vertex.op else { continue };
            self.check_step(exec.network(), exec.security())?;
            for device in &exec.cdi_devices {
                self.check_device(&device.name, devices)?;
            }
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
                return Err(denied(&format!("{entitlement} is not allowed"), entitlement));
            }
        }
        Ok(())
    }

    fn check_device(&self, name: &str, devices: &Devices) -> Result<(), Status> {
        let by_name = format!("{DEVICE}={name}");
        if self.0.contains(DEVICE) || self.0.contains(&by_name) || devices.allowed(name) {
            return Ok(());
        }
        Err(denied(&format!("device {name} is requested by the build but not allowed"), DEVICE))
    }
}

fn denied(what: &str, entitlement: &str) -> Status {
    Status::permission_denied(format!("{what}\nhint: the build has to ask for it: --allow {entitlement}"))
}
