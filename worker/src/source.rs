//! Sources: what a build begins with: images, files of the client, files of servers and repositories.
//!
//! A source pins itself when its key is asked for and is made from the pin: what a name points at may change meanwhile.

use std::{collections::HashMap, sync::Arc};

use buildd_api::buildkit::pb;
use buildd_oci::{ErrorKind, platform::Platform};
use buildd_solver::op::{Op, OpContext, OpError};

use crate::{
    error::{Unsupported, op_error},
    worker::Worker,
};

mod drivers;
mod git;
mod http;
mod image;
mod layout;
mod local;
mod upload;

pub use layout::LayoutImage;

/// Longest value of a header that a secret may be.
const MAX_HEADER: usize = 16 << 10;

/// What a source is asked to be.
#[derive(Debug)]
struct SourceRequest<'a> {
    worker: &'a Arc<Worker>,
    /// The whole identifier.
    identifier: &'a str,
    /// What comes after its scheme.
    name: &'a str,
    /// The platform of the build.
    platform: Platform,
    attrs: HashMap<String, String>,
}

/// The source behind an identifier.
pub(crate) fn resolve(
    worker: &Arc<Worker>,
    op: &pb::SourceOp,
    platform: Option<&pb::Platform>,
) -> Result<Arc<dyn Op>, OpError> {
    let identifier = op.identifier.as_str();
    let found =
        drivers::DRIVERS.iter().find_map(|(prefix, make)| Some((identifier.strip_prefix(prefix)?, make)));
    let Some((name, make)) = found else {
        let what = format!("source {identifier:?}");
        return Err(OpError::new(ErrorKind::Unimplemented, Unsupported { what }));
    };
    let attrs = op.attrs.clone().into_iter().collect();
    make(&SourceRequest { worker, identifier, name, platform: platform_of(platform), attrs })
}

fn platform_of(wire: Option<&pb::Platform>) -> Platform {
    wire.map_or_else(Platform::host, |wire| Platform::new(&wire.os, &wire.architecture, &wire.variant))
}

/// A secret of the client as one line of text, for a header; None if the client has none of that id.
async fn secret_text(worker: &Worker, cx: &OpContext, id: &str) -> Result<Option<String>, OpError> {
    let Some(bytes) = worker.secret(cx, id).await? else { return Ok(None) };
    let text = String::from_utf8(bytes).ok().map(|text| text.trim().to_owned());
    let fits =
        |text: &String| !text.is_empty() && text.len() <= MAX_HEADER && !text.contains(char::is_control);
    match text.filter(fits) {
        Some(text) => Ok(Some(text)),
        None => Err(op_error(crate::Error::Invalid {
            what: "secret",
            name: id.to_owned(),
            reason: "it is not one line of text, as a header must be".to_owned(),
        })),
    }
}
