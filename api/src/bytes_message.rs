//! Bytes message: `BytesMessage`, which BuildKit's API has once for each service, with bytes that are shared where the generated types copy them.
//!
//! For the pipes that whole contexts and archives go through: `Control/Session` and `FileSend/DiffCopy`.

use bytes::Bytes;

/// Some bytes of a stream; where they are cut means nothing.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SharedBytes {
    /// Field 1 of all of them.
    #[prost(bytes = "bytes", tag = "1")]
    pub data: Bytes,
}

/// Both ways of a call that has these alone.
pub type SharedBytesCodec = tonic_prost::ProstCodec<SharedBytes, SharedBytes>;

#[cfg(test)]
mod tests;
