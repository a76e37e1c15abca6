//! An HTTP server for operators: as many connections as its descriptors allow, each for as long as one request takes.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};

use crate::run::error::RunError;

/// From the connection to the end of the request's head.
const HEAD: Duration = Duration::from_secs(3);

/// From the connection to the end of the answer: a scrape of the metrics over a slow line.
const REQUEST: Duration = Duration::from_secs(10);

/// Most bytes of a request's head that are held: a request for a path and what browsers add.
const HEAD_BYTES: usize = 16 * 1024;

/// Between two tries to take a connection when the process has no descriptor left.
const PAUSE: Duration = Duration::from_secs(1);

/// An endpoint whose address is bound.
pub(in crate::run) struct Endpoint {
    option: &'static str,
    listener: TcpListener,
    pub(in crate::run) address: SocketAddr,
    connections: usize,
    cut: Arc<Cut>,
}

/// Connections that an endpoint has closed before they were answered.
#[derive(Debug, Default)]
pub(super) struct Cut {
    displaced: AtomicU64,
    slow: AtomicU64,
}

impl Cut {
    /// For a newer one, as there were too many.
    pub(super) fn displaced(&self) -> u64 {
        self.displaced.load(Ordering::Relaxed)
    }

    /// As they asked or read too slowly.
    pub(super) fn slow(&self) -> u64 {
        self.slow.load(Ordering::Relaxed)
    }
}

impl Endpoint {
    /// Binds the address of an option, for at most so many connections at a time.
    pub(in crate::run) async fn bind(
        option: &'static str,
        address: SocketAddr,
        connections: usize,
    ) -> Result<Self, RunError> {
        let failed = |source| RunError::Bind { option, value: address.to_string(), source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { option, listener, address, connections, cut: Arc::default() })
    }

    /// Counts what is closed unanswered.
    pub(super) fn cut(&self) -> Arc<Cut> {
        self.cut.clone()
    }

    /// Serves indefinitely. Where there are as many connections as may be, the oldest is closed for a new one: a client
    /// that connects and says nothing keeps nobody out.
    pub(super) async fn serve(self, routes: Router) -> Infallible {
        let Self { option, listener, connections, cut, .. } = self;
        let mut tasks = JoinSet::new();
        let mut oldest_first: VecDeque<AbortHandle> = VecDeque::new();
        let mut fails = false;
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                // It has gone again.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => {
                    // Once an outage.
                    if !std::mem::replace(&mut fails, true) {
                        tracing::warn!(option, %error, "cannot take connections for now");
                    }
                    sleep(PAUSE).await;
                    continue;
                }
            };
            fails = false;
            while tasks.try_join_next().is_some() {}
            oldest_first.retain(|connection| !connection.is_finished());
            while tasks.len() >= connections {
                if let Some(oldest) = oldest_first.pop_front() {
                    oldest.abort();
                    cut.displaced.fetch_add(1, Ordering::Relaxed);
                }
                // Its descriptor is free once it has ended.
                tasks.join_next().await;
            }
            oldest_first.push_back(tasks.spawn(answer(stream, routes.clone(), cut.clone())));
        }
    }
}

/// Answers one request. Whoever is too slow for that is cut off.
async fn answer(stream: TcpStream, routes: Router, cut: Arc<Cut>) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    match timeout(REQUEST, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an HTTP connection failed"),
        Err(_) => {
            cut.slow.fetch_add(1, Ordering::Relaxed);
            tracing::debug!("an HTTP connection took too long");
        }
    }
}
