//! A relay in user space that holds every byte back for a while, each way, at any throughput.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{Instant, sleep_until},
};

/// Chunks under way in one direction of a connection: 1024 of at most 64 KiB.
const UNDER_WAY: usize = 1024;

/// Relays to `to` for ever. Returns where it listens.
///
/// # Errors
/// If no port can be had.
pub async fn relay(to: SocketAddr, delay: Duration) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((from, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(onward) = TcpStream::connect(to).await else { return };
                // Without this, the kernel's own delays would be measured too.
                if from.set_nodelay(true).and(onward.set_nodelay(true)).is_err() {
                    return;
                }
                let ((from_read, from_write), (to_read, to_write)) = (from.into_split(), onward.into_split());
                tokio::join!(carry(from_read, to_write, delay), carry(to_read, from_write, delay));
            });
        }
    });
    Ok(address)
}

async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, delay: Duration) {
    let (sender, mut receiver) = mpsc::channel::<(Instant, Vec<u8>)>(UNDER_WAY);
    let read = async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(bytes) = from.read(&mut buffer).await
            && bytes > 0
        {
            if sender.send((Instant::now() + delay, buffer[..bytes].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let write = async move {
        while let Some((due, bytes)) = receiver.recv().await {
            sleep_until(due).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(read, write);
}
