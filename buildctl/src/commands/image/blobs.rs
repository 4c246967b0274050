//! Blobs: reading, writing and recompressing blobs of the daemon's store, over the Content service.
//!
//! `convert` comes here. A blob on its way lies in a temporary file: a layer may be larger than memory.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufWriter, Read, Seek as _, Write},
};

use anyhow::{Context as _, Result, ensure};
use buildd_api::containerd::containerd::{
    services::content::v1::{
        Info, InfoRequest, ReadContentRequest, UpdateRequest, WriteAction, WriteContentRequest,
    },
    types,
};
use buildd_oci::{
    compress::{self, Compression, Growth},
    descriptor::Descriptor,
    digest::{Algorithm, Digest, Digester},
    manifest::Manifest,
};
use tokio::{io::AsyncReadExt as _, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::store;
use crate::client::Client;

/// Notes on a blob.
pub(super) type Labels = HashMap<String, String>;

/// Bytes of one message.
const PIECE: usize = 1 << 20;
/// Messages that are on the way.
const QUEUE: usize = 4;

/// A layer in a new form.
#[derive(Debug)]
pub(super) struct Recoded {
    pub(super) file: File,
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) diff_id: Digest,
}

/// Says something beside the result.
pub(super) fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// A descriptor as containerd's services have it.
pub(super) fn wire(descriptor: &Descriptor) -> types::Descriptor {
    types::Descriptor {
        media_type: descriptor.media_type.clone(),
        digest: descriptor.digest.to_string(),
        size: i64::try_from(descriptor.size).unwrap_or(i64::MAX),
        annotations: descriptor.annotations.clone().into_iter().collect(),
    }
}

/// The first blob of a manifest that is not here, if one is not.
pub(super) async fn missing(client: &Client, manifest: &Descriptor) -> Result<Option<Digest>> {
    if !is_here(client, &manifest.digest).await? {
        return Ok(Some(manifest.digest));
    }
    let parsed = Manifest::parse(&store::read(client, manifest).await?)?;
    for blob in parsed.layers.iter().chain([&parsed.config]) {
        if !is_here(client, &blob.digest).await? {
            return Ok(Some(blob.digest));
        }
    }
    Ok(None)
}

async fn is_here(client: &Client, digest: &Digest) -> Result<bool> {
    match client.content().info(InfoRequest { digest: digest.to_string() }).await {
        Ok(_) => Ok(true),
        Err(status) if status.code() == Code::NotFound => Ok(false),
        Err(status) => Err(status).with_context(|| format!("look for blob {digest}")),
    }
}

/// A blob's bytes in a temporary file, read from its start.
pub(super) async fn fetch(client: &Client, blob: &Descriptor) -> Result<File> {
    let failed = || format!("read blob {}", blob.digest);
    let request = ReadContentRequest { digest: blob.digest.to_string(), ..ReadContentRequest::default() };
    let mut pieces = client.content().read(request).await.with_context(failed)?.into_inner();
    let mut file = tempfile::tempfile().context("make a temporary file")?;
    let mut digester = blob.digest.algorithm().digester();
    while let Some(piece) = pieces.message().await.with_context(failed)? {
        digester.update(&piece.data);
        file.write_all(&piece.data).context("write a temporary file")?;
    }
    ensure!(digester.finish() == blob.digest, "blob {} is corrupt", blob.digest);
    file.rewind().context("read a temporary file")?;
    Ok(file)
}

/// The same layer in another form.
pub(super) fn recode(from: File, becomes: Compression) -> Result<Recoded> {
    let tar = compress::reader(from, Growth::default()).context("decompress")?;
    let mut tar = Hashed { inner: tar, digester: Algorithm::Sha256.digester() };
    let file = tempfile::tempfile().context("make a temporary file")?;
    let out = Hashed { inner: BufWriter::new(file), digester: Algorithm::Sha256.digester() };
    let mut writer = compress::Writer::new(out, becomes, None).context("compress")?;
    io::copy(&mut tar, &mut writer).context("recompress")?;
    let out = writer.finish().context("compress")?;
    let mut file = out.inner.into_inner().context("write a temporary file")?;
    file.rewind().context("read a temporary file")?;
    let size = out.digester.size();
    Ok(Recoded { file, digest: out.digester.finish(), size, diff_id: tar.digester.finish() })
}

/// Stores a manifest or an index.
pub(super) async fn put_document(
    client: &Client,
    kind: &str,
    bytes: &[u8],
    labels: Labels,
) -> Result<Descriptor> {
    let descriptor = Descriptor::new(kind, Digest::of(bytes), bytes.len() as u64);
    let mut file = tempfile::tempfile().context("make a temporary file")?;
    file.write_all(bytes).and_then(|()| file.rewind()).context("write a temporary file")?;
    put(client, &descriptor, file, &labels).await?;
    Ok(descriptor)
}

/// Stores a blob with notes; of one that is here already the notes are added to.
pub(super) async fn put(client: &Client, blob: &Descriptor, file: File, labels: &Labels) -> Result<()> {
    let (queue, messages) = mpsc::channel(QUEUE);
    let mut content = client.content();
    let answered = async {
        let mut answers = content.write(ReceiverStream::new(messages)).await?.into_inner();
        while answers.message().await?.is_some() {}
        Ok::<_, tonic::Status>(())
    };
    let (sent, answered) = tokio::join!(send(blob, file, labels, queue), answered);
    match answered {
        Err(status) if status.code() == Code::AlreadyExists => note(client, blob, labels).await,
        Err(status) => Err(status).with_context(|| format!("write blob {}", blob.digest)),
        Ok(()) => sent,
    }
}

async fn send(
    blob: &Descriptor,
    file: File,
    labels: &Labels,
    queue: mpsc::Sender<WriteContentRequest>,
) -> Result<()> {
    let size = i64::try_from(blob.size).context("a size")?;
    // Of our own: what another command left half written is not gone on with.
    let name = format!("buildctl-convert-{}", crate::id::new_id());
    let message = |offset: i64, data: Vec<u8>| WriteContentRequest {
        action: WriteAction::Write.into(),
        r#ref: name.clone(),
        total: size,
        expected: blob.digest.to_string(),
        offset,
        data,
        ..WriteContentRequest::default()
    };
    let (mut file, mut offset) = (tokio::fs::File::from_std(file), 0);
    loop {
        let mut data = Vec::with_capacity(PIECE);
        (&mut file).take(PIECE as u64).read_to_end(&mut data).await.context("read a temporary file")?;
        let read = i64::try_from(data.len()).context("a size")?;
        let mut next = message(offset, data);
        if read == 0 {
            next.action = WriteAction::Commit.into();
            next.labels = labels.clone();
        }
        // A daemon that wants no more says why in its answer.
        if queue.send(next).await.is_err() || read == 0 {
            return Ok(());
        }
        offset += read;
    }
}

async fn note(client: &Client, blob: &Descriptor, labels: &Labels) -> Result<()> {
    let info = Info { digest: blob.digest.to_string(), labels: labels.clone(), ..Info::default() };
    let paths = labels.keys().map(|name| format!("labels.{name}")).collect();
    let request = UpdateRequest { info: Some(info), update_mask: Some(prost_types::FieldMask { paths }) };
    client.content().update(request).await.with_context(|| format!("note on blob {}", blob.digest))?;
    Ok(())
}

/// Hashes what passes.
struct Hashed<T> {
    inner: T,
    digester: Digester,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.digester.update(&buffer[..count]);
        Ok(count)
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.digester.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
