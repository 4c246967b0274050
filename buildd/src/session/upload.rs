//! Upload: what a client streams once, into a file.

use std::{fs::File, path::PathBuf};

use buildd_api::buildkit::moby::upload::v1::{BytesMessage, upload_client::UploadClient};
use buildd_oci::ErrorKind;
use buildd_store::Error;
use buildd_worker::session::SessionError;
use tokio::io::AsyncWriteExt;
use tonic::{Request, transport::Channel};

use super::calls::{failed, refused};
use crate::session::transport::MESSAGE_LIMIT;

/// Bytes of one upload: stops a stream without end before the disk is full.
const MAX_UPLOAD: u64 = 1 << 40;

/// Pulls what is offered under `path`.
pub(super) async fn pull(channel: Channel, path: &str, into: File) -> Result<(), SessionError> {
    let what = format!("pull upload {path:?}");
    let bad = |kind, reason: &str| SessionError { kind, message: format!("{what}: {reason}") };
    let mut request = Request::new(futures::stream::pending::<BytesMessage>());
    let value = path.parse().map_err(|_| bad(ErrorKind::InvalidArgument, "it is not plain text"))?;
    request.metadata_mut().insert("urlpath", value);
    request.metadata_mut().insert("urlhost", "buildkit-session".parse().expect("a plain name"));
    let mut client = UploadClient::new(channel)
        .max_decoding_message_size(MESSAGE_LIMIT)
        .max_encoding_message_size(MESSAGE_LIMIT);
    let mut pieces = client.pull(request).await.map_err(|status| refused(&what, &status))?.into_inner();
    let mut into = tokio::fs::File::from_std(into);
    let failure = |source| {
        let error = Error::File { operation: "write", path: PathBuf::from("the upload"), source };
        failed(error.kind(), &what, &error)
    };
    let mut size = 0;
    while let Some(piece) = pieces.message().await.map_err(|status| refused(&what, &status))? {
        size += piece.data.len() as u64;
        if size > MAX_UPLOAD {
            return Err(bad(ErrorKind::ResourceExhausted, "it has no end"));
        }
        into.write_all(&piece.data).await.map_err(failure)?;
    }
    into.flush().await.map_err(failure)
}
