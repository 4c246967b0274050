//! Offline: what the frontend hears where no daemon is: the text and its ignore file are there, every image is empty.

use std::{any::Any, collections::BTreeMap, path::Path, sync::Arc};

use async_trait::async_trait;
use buildd_api::buildkit::pb;
use buildd_frontend::{
    Bridge, FrontendRequest, FrontendResult,
    bridge::{BridgeError, BridgeRef, ImageRequest, ResolvedImage, Warning},
    request::SOURCE_OPTION,
};
use buildd_oci::{ErrorKind, config::ImageConfig, digest::Digest, platform::Platform};

/// A Dockerfile and its ignore file.
#[derive(Debug)]
pub(super) struct Offline {
    text: Vec<u8>,
    ignore: Option<String>,
}

impl Offline {
    /// Answers with these.
    pub(super) fn new(text: Vec<u8>, ignore: Option<String>) -> Self {
        Self { text, ignore }
    }

    /// The options with the name of the file, for messages.
    pub(super) fn named(&self, mut opts: BTreeMap<String, String>, file: &str) -> BTreeMap<String, String> {
        let name = Path::new(file).file_name().and_then(|name| name.to_str()).unwrap_or("Dockerfile");
        opts.entry("filename".to_owned()).or_insert_with(|| name.to_owned());
        opts
    }
}

#[async_trait]
impl Bridge for Offline {
    async fn resolve_image_config(&self, request: ImageRequest) -> Result<ResolvedImage, BridgeError> {
        let mut config = ImageConfig {
            os: request.platform.os.clone(),
            architecture: request.platform.architecture.clone(),
            variant: request.platform.variant.clone(),
            ..ImageConfig::default()
        };
        // An image without layers would be read as scratch.
        config.rootfs.diff_ids.push(Digest::of(b""));
        Ok(ResolvedImage { reference: request.reference, digest: None, config: config.to_bytes() })
    }

    async fn solve(&self, _: pb::Definition) -> Result<BridgeRef, BridgeError> {
        let nothing: Arc<dyn Any + Send + Sync> = Arc::new(());
        Ok(BridgeRef(nothing))
    }

    async fn read_file(&self, _: &BridgeRef, path: &str, _: usize) -> Result<Vec<u8>, BridgeError> {
        match (path.ends_with(".dockerignore"), &self.ignore) {
            (false, _) => Ok(self.text.clone()),
            (true, Some(ignore)) if path == ".dockerignore" => Ok(ignore.clone().into_bytes()),
            (true, _) => {
                let cause = std::io::Error::from(std::io::ErrorKind::NotFound);
                Err(BridgeError { kind: ErrorKind::NotFound, cause: Arc::new(cause) })
            }
        }
    }

    async fn newest(&self, _: &BridgeRef) -> Result<Option<i64>, BridgeError> {
        Ok(None)
    }

    async fn frontend_image(&self, request: FrontendRequest) -> Result<FrontendResult, BridgeError> {
        let image = request.opts.get(SOURCE_OPTION).map_or("", String::as_str);
        let cause = std::io::Error::other(format!("only a build can run the image {image}"));
        Err(BridgeError { kind: ErrorKind::FailedPrecondition, cause: Arc::new(cause) })
    }

    async fn warn(&self, _: &str, _: Warning) {}

    fn build_platform(&self) -> Platform {
        Platform::host()
    }
}
