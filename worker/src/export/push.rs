//! Push: an exported image under each of its names into the names' registries.

use std::sync::Arc;

use buildd_oci::{
    descriptor::Descriptor,
    reference::Reference,
    registry::{
        auth::{Anonymous, Authorizer},
        hosts::HostOptions,
    },
};
use buildd_store::transfer::{
    progress::Watch,
    push::{self, PushRequest},
};

use super::Attributes;
use crate::{
    error::{Error, Result},
    session::Session,
    worker::Worker,
};

/// Pushes what was made; the client's session answers for credentials.
pub(super) async fn push(
    worker: &Arc<Worker>,
    session: Option<Arc<dyn Session>>,
    target: &Descriptor,
    attributes: &Attributes,
    watch: &Watch,
) -> Result<()> {
    if attributes.names.is_empty() {
        let reason = "a push needs a name".to_owned();
        return Err(Error::Invalid { what: "exporter attribute", name: "push".to_owned(), reason });
    }
    let authorizer =
        session.map_or_else(|| Authorizer::new(Arc::new(Anonymous)), |session| session.authorizer());
    let options = HostOptions { skip_verify: attributes.insecure, ..HostOptions::default() };
    for name in &attributes.names {
        let mut reference = Reference::parse(name)?;
        if attributes.push_by_digest {
            reference = Reference::parse(&reference.name())?.with_digest(target.digest);
        }
        let repository = worker.registries.repository(&reference, &options, authorizer.clone()).await?;
        let request =
            PushRequest { ns: worker.namespace.clone(), target: target.clone(), platforms: Vec::new() };
        push::push(&worker.store, &reference, &repository, request, watch).await?;
    }
    Ok(())
}
