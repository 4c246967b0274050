//! Registries: the way from an image's name to the hosts that may have it.
//!
//! Builds, transfers and exports come here; the daemon has one, so that all of them read the same settings and share connections.

use buildd_oci::{
    reference::Reference,
    registry::{
        Registry, Repository,
        auth::Authorizer,
        hosts::{HostOptions, HostsConfig},
    },
};

use crate::error::{Error, Result};

/// Settings and connections.
#[derive(Clone, Debug)]
pub struct Registries {
    client: Registry,
    hosts: HostsConfig,
}

impl Registries {
    /// A client with these settings.
    pub fn new(hosts: HostsConfig) -> Result<Self> {
        Ok(Self { client: Registry::new().map_err(Error::from)?, hosts })
    }

    /// The connections, for files that lie in no registry.
    pub fn client(&self) -> &Registry {
        &self.client
    }

    /// The repository of a name, as `authorizer`'s owner sees it; its settings are read anew, so that an edited file counts at once.
    pub async fn repository(
        &self,
        reference: &Reference,
        options: &HostOptions,
        authorizer: Authorizer,
    ) -> Result<Repository> {
        let (settings, domain, options) =
            (self.hosts.clone(), reference.domain().to_owned(), options.clone());
        let hosts = buildd_fs::blocking::run(move || settings.hosts(&domain, &options)).await?;
        Ok(self.client.repository(reference, hosts, authorizer))
    }
}
