//! Drivers: every kind of source by the prefix of its identifier. A new one is a file and a line here.

use std::sync::Arc;

use buildd_solver::op::{Op, OpError};

use super::{SourceRequest, git, http, image, layout, local, upload};

/// Makes a source.
type Make = fn(&SourceRequest<'_>) -> Result<Arc<dyn Op>, OpError>;

/// The first prefix that an identifier begins with decides: uploads come before the URLs that they look like.
pub(super) const DRIVERS: &[(&str, Make)] = &[
    ("docker-image://", image::make),
    ("oci-layout://", layout::make),
    ("local://", local::make),
    (upload::HOST, upload::make),
    ("git://", git::make),
    ("http://", http::make),
    ("https://", http::make),
];
