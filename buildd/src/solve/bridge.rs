//! Bridge: what our own frontend may ask of its build.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use buildd_api::buildkit::{
    moby::buildkit::v1::{StatusResponse, VertexWarning},
    pb,
};
use buildd_frontend::{
    FrontendRequest, FrontendResult,
    bridge::{Bridge, BridgeError, BridgeRef, ImageRequest, ResolvedImage, Warning},
};
use buildd_oci::{ErrorKind, platform::Platform};
use buildd_solver::result::OpResult;
use tonic::Status;

use super::{build::Build, files::ReadTarget, frontend_container, image};
use crate::status;

/// A build as its frontend sees it.
#[derive(Debug)]
pub(super) struct BuildBridge {
    build: Arc<Build>,
    depth: usize,
    failure: Mutex<Option<Status>>,
}

/// A status that a frontend passes on.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Failed(String);

impl BuildBridge {
    /// A build's bridge for a frontend that is `depth` deep.
    pub(super) fn new(build: Arc<Build>, depth: usize) -> Self {
        Self { build, depth, failure: Mutex::default() }
    }

    /// A failure as the frontend sees it; the status itself is kept.
    fn fail(&self, status: Status) -> BridgeError {
        let error = Self::error(&status);
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(status);
        error
    }

    /// The first failed vertex: its place and exit code do not fit through the frontend's error.
    pub(super) fn failure(&self) -> Option<Status> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The files of a built definition.
    fn place(&self, built: &BridgeRef) -> Result<ReadTarget, BridgeError> {
        let result = built.0.downcast_ref::<Option<OpResult>>().ok_or_else(|| BridgeError {
            kind: ErrorKind::Internal,
            cause: Arc::new(Failed("a result of another daemon".to_owned())),
        })?;
        Ok(ReadTarget::Tree(Arc::clone(&self.build.worker), result.clone()))
    }

    fn error(status: &Status) -> BridgeError {
        let cause = Arc::new(Failed(status.message().to_owned()));
        BridgeError { kind: status::kind(status.code()), cause }
    }
}

#[async_trait]
impl Bridge for BuildBridge {
    async fn resolve_image_config(&self, request: ImageRequest) -> Result<ResolvedImage, BridgeError> {
        let ImageRequest { reference, platform, resolve_mode, log_name, layout } = &request;
        let resolve = async {
            match layout {
                Some(store) => image::resolve_layout(&self.build, reference, platform, store, "").await,
                None => image::resolve(&self.build, reference, platform, resolve_mode).await,
            }
        };
        let resolved = self.build.stage(log_name, resolve).await;
        let (digest, config) = resolved.map_err(|status| Self::error(&status))?;
        Ok(ResolvedImage { reference: request.reference, digest: Some(digest), config })
    }

    async fn solve(&self, definition: pb::Definition) -> Result<BridgeRef, BridgeError> {
        match self.build.solve(&definition).await {
            Ok(result) => Ok(BridgeRef(Arc::new(result))),
            Err(status) => Err(self.fail(status)),
        }
    }

    async fn frontend_image(&self, request: FrontendRequest) -> Result<FrontendResult, BridgeError> {
        let result = frontend_container::run(&self.build, request.opts, request.inputs, self.depth).await;
        result.map_err(|status| self.fail(status))
    }

    async fn read_file(&self, built: &BridgeRef, path: &str, limit: usize) -> Result<Vec<u8>, BridgeError> {
        let read = self.place(built)?.read(path, limit).await;
        read.map_err(|status| Self::error(&status))
    }

    async fn newest(&self, built: &BridgeRef) -> Result<Option<i64>, BridgeError> {
        let newest = self.place(built)?.newest().await;
        newest.map_err(|status| Self::error(&status))
    }

    async fn warn(&self, vertex: &str, warning: Warning) {
        let mut message = VertexWarning {
            vertex: vertex.to_owned(),
            level: 1,
            short: warning.short.into_bytes(),
            detail: warning.detail.into_iter().map(String::into_bytes).collect(),
            url: warning.url,
            ..VertexWarning::default()
        };
        if let Some(source) = warning.source {
            message.info = Some(pb::SourceInfo {
                filename: source.info.filename,
                data: source.info.data,
                language: source.info.language,
                definition: None,
            });
            let position = |at: buildd_api::error_detail::Position| {
                Some(pb::Position { line: at.line, character: at.character })
            };
            let ranges = source.ranges.iter();
            message.ranges =
                ranges.map(|r| pb::Range { start: position(r.start), end: position(r.end) }).collect();
        }
        self.build.tell(StatusResponse { warnings: vec![message], ..StatusResponse::default() });
    }

    fn build_platform(&self) -> Platform {
        Platform::host()
    }
}
