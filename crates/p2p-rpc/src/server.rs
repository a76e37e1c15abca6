//! The server: takes connections within bounds, refuses who may not call, and ends in an orderly way.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use jsonrpsee::{
    core::BoxError,
    server::{
        BatchRequestConfig, HttpBody, Methods, PingConfig, Server, ServerConfig, ServerHandle, StopHandle,
        stop_channel, ws::is_upgrade_request,
    },
};
use p2p_client::P2pClient;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    RpcConfig, RpcError,
    access::Access,
    backpressure::{Backpressured, InFlight},
    method::Registry,
    metrics,
    node::Node,
    openrpc,
};

/// Most bytes of a request: a list of 2 MiB as hexadecimal digits, and 128 KiB and two bytes for what surrounds it.
const REQUEST_BYTES: u32 = 2 * 2 * 1024 * 1024 + 128 * 1024 + 2;

/// Most bytes of an answer: a block with a list of 2 MiB, twice.
const RESPONSE_BYTES: u32 = 8 * 1024 * 1024;

/// Connections that are served; and, counted apart by jsonrpsee, those that have become WebSockets.
const CONNECTIONS: u32 = 64;

/// Further ones that are told that there are too many; beyond them they are closed without a word.
const REFUSALS: usize = 64;

/// Entries of a batch.
const BATCH: u32 = 100;

/// Subscriptions of a connection.
const SUBSCRIPTIONS: u32 = 8;

/// Messages that wait for a WebSocket.
const MESSAGES: u32 = 16;

/// From the beginning of a request, or the end of the one before, to the end of its head.
const HEAD: Duration = Duration::from_secs(30);

/// Most bytes of a request's head.
const HEAD_BYTES: usize = 64 * 1024;

/// From the head of a request to its answer.
const REQUEST: Duration = Duration::from_secs(30);

/// How long somebody who is refused may take to hear it.
const REFUSAL: Duration = Duration::from_secs(5);

/// Between two pings, and until a WebSocket has to have answered one.
const PING: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(40));

/// How long calls that are running may take to end when the server stops.
const DRAIN: Duration = Duration::from_secs(10);

/// Between two tries to take a connection when the process has no descriptor left.
const PAUSE: Duration = Duration::from_secs(1);

/// A server whose address is bound, to be run once.
#[must_use = "a server answers nobody until it runs"]
pub struct RpcServer {
    listener: TcpListener,
    methods: Methods,
    access: Arc<Access>,
    stop: StopHandle,
}

/// A handle of a server, which stops when the last one is dropped.
#[derive(Debug, Clone)]
pub struct RpcHandle {
    address: SocketAddr,
    server: ServerHandle,
}

impl RpcHandle {
    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more connections, lets the calls that are running end, closes all connections, and returns when that is
    /// done, after 10 s at most: a WebSocket whose caller does not read then ends with the process.
    pub async fn stop(&self) {
        if self.server.stop().is_err() {
            // It has ended before.
            return;
        }
        if timeout(DRAIN, self.server.clone().stopped()).await.is_err() {
            tracing::warn!("callers that do not read their answers are cut off");
        }
    }
}

impl RpcServer {
    /// Binds the address. Nobody is answered before [`run`](Self::run). Needs a Tokio runtime.
    ///
    /// # Errors
    /// [`RpcError::SecretRequired`], [`RpcError::Bind`].
    pub async fn bind(config: RpcConfig, client: P2pClient) -> Result<(RpcHandle, Self), RpcError> {
        let RpcConfig { address, namespaces, secret, hosts, version, chain_id, host } = config;
        if !address.ip().is_loopback() && secret.is_none() {
            return Err(RpcError::SecretRequired { address });
        }
        metrics::describe();
        let mut registry = Registry::new(Some(Arc::new(Node::new(client, version, chain_id, host))));
        openrpc::register(&mut registry, &namespaces)?;
        let document = openrpc::of(&mut registry);
        if let Some(module) = registry.module() {
            module.register_method("rpc.discover", move |_, _, _| document.clone())?;
        }
        let failed = |source| RpcError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (stop, server) = stop_channel();
        let access = Arc::new(Access::new(hosts, secret));
        let server = (
            RpcHandle { address, server },
            Self { listener, methods: registry.into_methods(), access, stop },
        );
        Ok(server)
    }

    /// Serves until it is stopped, and ends when its connections have, after 10 s at most.
    pub async fn run(self) {
        let Self { listener, methods, access, stop } = self;
        let services = Server::builder().set_config(limits()).to_service_builder();
        let (served, refused) =
            (Arc::new(Semaphore::new(CONNECTIONS as usize)), Arc::new(Semaphore::new(REFUSALS)));
        let (mut connections, mut fails) = (JoinSet::new(), false);
        let stopped = stop.clone().shutdown();
        tokio::pin!(stopped);
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut stopped => break,
                accepted = listener.accept() => accepted,
            };
            while connections.try_join_next().is_some() {}
            let stream = match accepted {
                Ok((stream, _)) => stream,
                // It has gone again.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => {
                    // Once an outage.
                    if !std::mem::replace(&mut fails, true) {
                        tracing::warn!(%error, "the JSON-RPC server cannot take connections for now");
                    }
                    sleep(PAUSE).await;
                    continue;
                }
            };
            fails = false;
            // Answers are small and awaited.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "a connection has gone at once");
                continue;
            }
            let Ok(permit) = served.clone().try_acquire_owned() else {
                metrics::refused("connections");
                if let Ok(permit) = refused.clone().try_acquire_owned() {
                    connections.spawn(refuse(stream, permit));
                }
                continue;
            };
            let rpc = TowerToHyperService::new(services.clone().build(methods.clone(), stop.clone()));
            let (access, in_flight) = (access.clone(), InFlight::default());
            let io = Backpressured::new(stream, in_flight.clone());
            let service = service_fn(move |mut request: Request<Incoming>| {
                let upgrades = is_upgrade_request(&request);
                if upgrades {
                    // Of a WebSocket, the next message is read while calls are running.
                    request.extensions_mut().insert(in_flight.clone());
                }
                let answer = access.check(&request, unix_now()).map(|()| rpc.call(request));
                async move {
                    match answer {
                        Ok(answer) if upgrades => answer.await,
                        Ok(answer) => timeout(REQUEST, answer).await.unwrap_or_else(|_| {
                            metrics::refused("timeout");
                            Ok(text(StatusCode::REQUEST_TIMEOUT, "the request took too long"))
                        }),
                        Err(refusal) => {
                            metrics::refused(refusal.label());
                            tracing::debug!(%refusal, "a request is refused");
                            Ok(text(refusal.status(), refusal))
                        }
                    }
                }
            });
            let connection = http().serve_connection(TokioIo::new(io), service).with_upgrades();
            connections.spawn(serve(connection, stop.clone(), permit));
        }
        drop((listener, stop));
        let ended = async { while connections.join_next().await.is_some() {} };
        // Whoever does not read is not waited for; with the set, its connections go.
        drop(timeout(DRAIN, ended).await);
    }
}

/// The limits of what is served.
fn limits() -> ServerConfig {
    let (interval, silence) = PING;
    ServerConfig::builder()
        .max_request_body_size(REQUEST_BYTES)
        .max_response_body_size(RESPONSE_BYTES)
        .max_connections(CONNECTIONS)
        .max_subscriptions_per_connection(SUBSCRIPTIONS)
        .set_batch_request_config(BatchRequestConfig::Limit(BATCH))
        .set_message_buffer_capacity(MESSAGES)
        .enable_ws_ping(PingConfig::new().ping_interval(interval).inactive_limit(silence))
        .build()
}

fn http() -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_BYTES);
    http
}

/// A connection, until it ends or the server stops; then until its calls have ended.
async fn serve<S>(
    connection: http1::UpgradeableConnection<TokioIo<Backpressured<TcpStream>>, S>,
    stop: StopHandle,
    _served: OwnedSemaphorePermit,
) where
    S: hyper::service::HttpService<Incoming, ResBody = HttpBody, Error: Into<BoxError>>,
{
    let stopped = stop.shutdown();
    tokio::pin!(connection, stopped);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = &mut stopped => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection of a caller failed");
    }
}

/// Tells somebody that there are too many.
async fn refuse(stream: TcpStream, _refused: OwnedSemaphorePermit) {
    let service = service_fn(|_: Request<Incoming>| {
        let answer = text(StatusCode::TOO_MANY_REQUESTS, "too many connections");
        std::future::ready(Ok::<_, std::convert::Infallible>(answer))
    });
    let connection = http().keep_alive(false).serve_connection(TokioIo::new(stream), service);
    drop(timeout(REFUSAL, connection).await);
}

fn text(status: StatusCode, message: impl ToString) -> Response<HttpBody> {
    let mut response = Response::new(HttpBody::from(message.to_string()));
    *response.status_mut() = status;
    response
}

/// Seconds since the epoch; zero for a clock before it.
fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl std::fmt::Debug for RpcServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RpcServer")
            .field("listener", &self.listener)
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}
