//! `dial-stdio`: a byte pipe between standard input and output and the daemon's socket.
//!
//! Other clients run it through ssh or in a container and speak gRPC through it.

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, copy, split},
    net::{TcpStream, UnixStream},
};

use crate::{connection::Address, global::Global, private_daemon};

/// Copies both ways until the daemon closes its end.
pub(crate) async fn run(global: &Global) -> Result<()> {
    let address = match &global.addr {
        Some(text) if !text.is_empty() => Address::parse(text)?,
        _ => {
            private_daemon::connect_or_start().await?;
            Address::Unix(private_daemon::default_socket())
        }
    };
    match address {
        Address::Unix(path) => {
            let stream = UnixStream::connect(&path)
                .await
                .with_context(|| format!("no daemon answers at {}", path.display()))?;
            pipe(stream).await
        }
        Address::Tcp(address) => {
            let stream = TcpStream::connect(&address)
                .await
                .with_context(|| format!("no daemon answers at tcp://{address}"))?;
            pipe(stream).await
        }
    }
}

async fn pipe<S: AsyncRead + AsyncWrite + Send + 'static>(stream: S) -> Result<()> {
    let (mut from_daemon, mut to_daemon) = split(stream);
    let upward = tokio::spawn(async move {
        let copied = copy(&mut tokio::io::stdin(), &mut to_daemon).await;
        // The half-close tells the daemon that no more calls come.
        let _ = to_daemon.shutdown().await;
        copied
    });
    let mut stdout = tokio::io::stdout();
    copy(&mut from_daemon, &mut stdout).await.context("copy from the daemon")?;
    stdout.flush().await?;
    upward.abort();
    Ok(())
}
