//! A relay in user space that holds every byte back for a while, each way, at any throughput.

#![allow(clippy::disallowed_methods, reason = "it delays real traffic by real time")]
#![allow(clippy::indexing_slicing, reason = "a read is no longer than its buffer")]

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// Chunks under way in one direction of a connection: 1024 of at most 64 KiB.
const UNDER_WAY: usize = 1024;

/// Relays TCP connections to `to` until the process ends. Returns where it listens.
///
/// # Errors
/// If no port can be had.
pub fn relay(to: SocketAddr, delay: Duration) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for from in listener.incoming().flatten() {
            // A connection that fails is one that has ended.
            thread::spawn(move || connect(from, to, delay).ok());
        }
    });
    Ok(address)
}

fn connect(from: TcpStream, to: SocketAddr, delay: Duration) -> io::Result<()> {
    let onward = TcpStream::connect(to)?;
    // Without this, the kernel's own delays would be measured too.
    from.set_nodelay(true)?;
    onward.set_nodelay(true)?;
    carry(from.try_clone()?, onward.try_clone()?, delay);
    carry(onward, from, delay);
    Ok(())
}

/// One direction, on two threads.
fn carry(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let (sender, receiver) = mpsc::sync_channel::<(Instant, Vec<u8>)>(UNDER_WAY);
    thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(bytes @ 1..) = from.read(&mut buffer) {
            if sender.send((Instant::now() + delay, buffer[..bytes].to_vec())).is_err() {
                return;
            }
        }
    });
    thread::spawn(move || {
        for (due, bytes) in receiver {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                return;
            }
        }
        // Whoever has closed the other end has nobody to tell.
        drop(to.shutdown(Shutdown::Write));
    });
}
