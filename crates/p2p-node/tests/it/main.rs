//! Everything through the real binary, as its users meet it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "helpers of tests, which watch another process in real time"
)]

#[cfg(unix)]
mod addresses;
#[cfg(unix)]
mod browser;
#[cfg(target_os = "linux")]
mod churn;
#[cfg(unix)]
mod clients;
#[cfg(unix)]
mod commands;
#[cfg(unix)]
mod config;
mod db;
mod devnet;
#[cfg(unix)]
mod files;
#[cfg(unix)]
mod guard;
mod guide;
#[cfg(unix)]
mod http;
mod inspect;
mod key;
#[cfg(unix)]
mod killed;
#[cfg(unix)]
mod l1;
#[cfg(unix)]
mod l2;
#[cfg(unix)]
mod lifecycle;
#[cfg(unix)]
mod operate;
#[cfg(unix)]
mod options;
#[cfg(all(unix, feature = "otlp"))]
mod otlp;
#[cfg(unix)]
mod page;
#[cfg(unix)]
mod preconfer;
#[cfg(unix)]
mod refusals;
#[cfg(unix)]
mod rig;
#[cfg(unix)]
mod rpc;
mod run;
#[cfg(unix)]
mod schedules;
#[cfg(unix)]
mod self_checks;
#[cfg(unix)]
mod service;
#[cfg(unix)]
mod shared_key;
