//! Namespaced: the content store as one namespace sees it, for everything that copies blobs.

use std::{io::Read, sync::Arc};

use buildd_oci::{
    blob::{Ingester, Provider},
    descriptor::Descriptor,
    digest::Digest,
};

use super::Content;
use crate::{
    error::{Error, Result},
    label::Labels,
};

/// The store as one namespace sees it.
#[derive(Clone, Debug)]
pub struct Namespaced {
    content: Arc<Content>,
    ns: String,
}

impl Namespaced {
    pub(super) fn new(content: Arc<Content>, ns: &str) -> Self {
        Self { content, ns: ns.to_owned() }
    }

    /// Reads `buf.len()` bytes at `offset`.
    pub fn read_at(&self, digest: &Digest, offset: u64, buf: &mut [u8]) -> Result<()> {
        let blob = self.content.open_blob(digest)?;
        blob.read_exact_at(buf, offset).map_err(Error::file("read", self.content.blob(digest)))
    }
}

fn store_error(operation: &'static str, digest: Digest) -> impl FnOnce(Error) -> buildd_oci::Error {
    move |error| match error {
        Error::NotFound { .. } => buildd_oci::Error::BlobNotFound { digest },
        error => buildd_oci::Error::Store { operation, digest, kind: error.kind(), source: Box::new(error) },
    }
}

impl Provider for Namespaced {
    fn open(&self, descriptor: &Descriptor) -> std::result::Result<Box<dyn Read + Send>, buildd_oci::Error> {
        let fail = |error| store_error("open blob", descriptor.digest)(error);
        self.content.info(&self.ns, &descriptor.digest).map_err(fail)?;
        Ok(Box::new(self.content.open_blob(&descriptor.digest).map_err(fail)?))
    }
}

impl Ingester for Namespaced {
    fn exists(&self, digest: &Digest) -> std::result::Result<bool, buildd_oci::Error> {
        match self.content.info(&self.ns, digest) {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(store_error("look for blob", *digest)(error)),
        }
    }

    fn ingest(
        &self,
        expected: &Descriptor,
        data: &mut dyn Read,
    ) -> std::result::Result<(), buildd_oci::Error> {
        let name = format!("copy-{}", expected.digest);
        let mut work = || {
            let mut writer = self.content.writer(&self.ns, &name, expected.size, Some(expected.digest))?;
            writer.seek(0)?;
            writer.copy_from(data)?;
            writer.commit(expected.size, Some(expected.digest), &Labels::new())
        };
        match work() {
            Ok(_) | Err(Error::AlreadyExists { .. }) => Ok(()),
            Err(error) => Err(store_error("store blob", expected.digest)(error)),
        }
    }
}
