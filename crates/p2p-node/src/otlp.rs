//! Spans to an OpenTelemetry collector, by OTLP over HTTP.
//!
//! The node's libraries open a span for each message of gossip, each page and each publication. A thread of its own sends them, 512 at a
//! time; while 2,048 wait, newer ones are dropped, which the log says once and, with their number, at the end.

use std::{sync::OnceLock, time::Duration};

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tracing::{Metadata, Subscriber};
use tracing_subscriber::{Layer, filter::filter_fn, registry::LookupSpan};

/// How long the collector has for an answer, and the last spans at the end.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The spans of which crates are sent.
const OURS: [&str; 3] = ["p2p_", "preconfirmation_", "rpc"];

/// What sends them; one in a process.
static PROVIDER: OnceLock<SdkTracerProvider> = OnceLock::new();

/// A layer that sends spans to the collector at a URL, whose path for traces is `/v1/traces`.
///
/// # Errors
/// What is wrong with the URL or this host's TLS.
pub(crate) fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(
    endpoint: &str,
) -> Result<impl Layer<S> + use<S>, ExporterBuildError> {
    let exporter =
        SpanExporter::builder().with_http().with_endpoint(endpoint).with_timeout(TIMEOUT).build()?;
    let resource = Resource::builder().with_service_name(env!("CARGO_PKG_NAME")).build();
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
    let tracer = provider.tracer(env!("CARGO_PKG_NAME"));
    // There is one log in a process.
    drop(PROVIDER.set(provider));
    let is_sent = |metadata: &Metadata<'_>| {
        metadata.is_span() && OURS.iter().any(|crates| metadata.target().starts_with(crates))
    };
    Ok(tracing_opentelemetry::layer().with_tracer(tracer).with_filter(filter_fn(is_sent)))
}

/// Sends what is left, for five seconds at most.
pub(crate) fn finish() {
    if let Some(provider) = PROVIDER.get()
        && let Err(error) = provider.shutdown_with_timeout(TIMEOUT)
    {
        tracing::warn!(%error, "the last spans were not sent");
    }
}
