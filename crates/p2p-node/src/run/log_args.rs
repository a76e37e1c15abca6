//! Options of a node's log.

use std::{fmt, str::FromStr};

use clap::Args;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use url::Url;

use super::error::RunError;
use crate::log::{self, Spans};

/// Options of a node's log.
#[derive(Debug, Args)]
#[command(next_help_heading = "Log, on stderr")]
pub(super) struct LogArgs {
    /// How much the node logs: `error`, `warn`, `info`, `debug` or `trace`; of the libraries below it warnings are logged
    #[arg(long = "log.level", value_name = "LEVEL", default_value_t = Level(LevelFilter::INFO))]
    level: Level,

    /// What is logged, in place of --log.level: levels of parts of the code, such as `warn,preconfirmation_p2p=debug`
    ///
    /// As in RUST_LOG, which counts where this variable is not set.
    #[arg(long = "log.filter", value_name = "FILTER")]
    filter: Option<Filter>,

    /// `text`, or `json`: an object a line
    #[arg(long = "log.format", value_name = "FORMAT", default_value_t = Format::Text)]
    format: Format,

    /// An OpenTelemetry collector that spans are sent to by OTLP over HTTP, such as `http://127.0.0.1:4318/v1/traces`
    ///
    /// One span for each message, page and publication, whatever is logged. While 2,048 wait, newer ones are dropped. For a
    /// program that was built with the feature `otlp`.
    #[arg(long = "otlp.endpoint", value_name = "URL")]
    collector: Option<Collector>,
}

impl LogArgs {
    /// Begins to log as the options say, and to keep slow spans for callers of `debug`.
    ///
    /// # Errors
    /// [`RunError::Collector`].
    pub(super) fn start(&self, slow_are_kept: bool) -> Result<(), RunError> {
        let filter = self.filter.as_ref().map_or_else(|| self.level.node(), |filter| filter.0.clone());
        let collector = self.collector.as_ref().map(|collector| collector.0.as_str());
        let spans = Spans { collector, slow_are_kept };
        log::start(&filter, self.format == Format::Json, &spans).map_err(RunError::Collector)
    }
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Level(LevelFilter);

impl Level {
    /// What is logged of a node, what its operator follows. p2p_lookahead tells of each outage of L1 once; alloy tells of each
    /// try.
    fn node(self) -> String {
        let below = self.0.min(LevelFilter::WARN);
        let quiet = format!("{below},alloy_pubsub=off,alloy_transport_ws=off,libp2p_gossipsub=error");
        ["p2p_node", "p2p_client", "p2p_catchup", "p2p_lookahead", "p2p_storage", "preconfirmation_p2p"]
            .iter()
            .fold(quiet, |filter, part| format!("{filter},{part}={}", self.0))
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Level {
    type Err = LogError;

    fn from_str(text: &str) -> Result<Self, LogError> {
        match text {
            "error" | "warn" | "info" | "debug" | "trace" => {
                text.parse().map(Self).map_err(|_| LogError::Level)
            }
            _ => Err(LogError::Level),
        }
    }
}

/// What RUST_LOG has.
#[derive(Debug, Clone)]
struct Filter(String);

impl FromStr for Filter {
    type Err = LogError;

    fn from_str(text: &str) -> Result<Self, LogError> {
        match EnvFilter::builder().parse(text) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(error) => Err(LogError::Filter(error.to_string())),
        }
    }
}

/// Where an OpenTelemetry collector is.
#[derive(Debug, Clone)]
struct Collector(Url);

impl FromStr for Collector {
    type Err = LogError;

    fn from_str(text: &str) -> Result<Self, LogError> {
        match Url::parse(text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(Self(url)),
            _ => Err(LogError::Collector),
        }
    }
}

/// The form of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    Json,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

impl FromStr for Format {
    type Err = LogError;

    fn from_str(text: &str) -> Result<Self, LogError> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(LogError::Format),
        }
    }
}

/// Why an option of the log is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// No level.
    #[error("must be `error`, `warn`, `info`, `debug` or `trace`")]
    Level,
    /// No filter.
    #[error("{0}; a filter is a list of levels, such as `warn,preconfirmation_p2p=debug`")]
    Filter(String),
    /// No URL of a collector.
    #[error("must be a URL of http or https, such as `http://127.0.0.1:4318/v1/traces`")]
    Collector,
    /// No form.
    #[error("must be `text` or `json`")]
    Format,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_that_of_the_node_and_libraries_warn_at_most() {
        let filter = |level: &str| level.parse::<Level>().unwrap().node();
        assert_eq!(
            filter("info"),
            "warn,alloy_pubsub=off,alloy_transport_ws=off,libp2p_gossipsub=error,p2p_node=info,p2p_client=info,p2p_catchup=info,\
             p2p_lookahead=info,p2p_storage=info,preconfirmation_p2p=info"
        );
        assert!(filter("trace").starts_with("warn,") && filter("trace").contains("p2p_client=trace"));
        assert!(filter("error").starts_with("error,") && filter("error").contains("p2p_client=error"));
        for level in ["", "off", "3", "INFO"] {
            assert!(level.parse::<Level>().is_err(), "{level}");
        }
    }

    #[test]
    fn a_filter_is_read_as_rust_log_is() {
        assert!("warn,preconfirmation_p2p=debug".parse::<Filter>().is_ok());
        let error = "p2p_node=loud".parse::<Filter>().unwrap_err().to_string();
        assert!(error.contains("preconfirmation_p2p=debug"), "{error}");
    }
}
