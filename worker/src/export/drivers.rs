//! Drivers: every kind of export by its name. A new one is a file and a line here.

use buildd_oci::archive::Kind;
use buildd_solver::op::OpError;
use futures::future::BoxFuture;

use super::{
    Answer, Export,
    attributes::{IMAGE, TREE},
    export_archive, export_image, export_local, export_tar,
};
use crate::error::{Error, Result};

/// A kind of export.
#[derive(Debug)]
pub(super) struct Driver {
    /// What clients call it.
    pub(super) name: &'static str,
    /// The attributes that it knows; those that make images know annotations, too.
    pub(super) attributes: &'static [&'static str],
    /// Whether it makes an image.
    pub(super) makes_image: bool,
    /// Exports.
    pub(super) export: fn(Export) -> BoxFuture<'static, Result<Answer, OpError>>,
}

const DRIVERS: &[Driver] = &[
    Driver {
        name: "image",
        attributes: IMAGE,
        makes_image: true,
        export: |export| Box::pin(export_image(export)),
    },
    Driver {
        name: "oci",
        attributes: IMAGE,
        makes_image: true,
        export: |export| Box::pin(export_archive(export, Kind::Oci)),
    },
    Driver {
        name: "docker",
        attributes: IMAGE,
        makes_image: true,
        export: |export| Box::pin(export_archive(export, Kind::Both)),
    },
    Driver {
        name: "tar",
        attributes: TREE,
        makes_image: false,
        export: |export| Box::pin(export_tar(export)),
    },
    Driver {
        name: "local",
        attributes: TREE,
        makes_image: false,
        export: |export| Box::pin(export_local(export)),
    },
];

/// The kind that a client asks for.
pub(super) fn find(name: &str) -> Result<&'static Driver> {
    DRIVERS.iter().find(|driver| driver.name == name).ok_or_else(|| {
        let known: Vec<&str> = DRIVERS.iter().map(|driver| driver.name).collect();
        let (last, others) = known.split_last().expect("there are drivers");
        let reason = format!("{} and {last} are known", others.join(", "));
        Error::Invalid { what: "exporter", name: name.to_owned(), reason }
    })
}
