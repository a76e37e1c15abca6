//! `p2p-node publish`: blocks from a file to a running node, by its JSON-RPC.

use std::{
    fs::File,
    io::{self, BufReader, Read, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use alloy_primitives::hex;
use clap::Args;
use p2p_rpc::{JwtSecret, SecretError};
use preconfirmation_types::Container as _;
use reqwest::{Client, StatusCode, header, redirect};
use serde_json::{Value, json};
use tokio::runtime::Builder;
use url::Url;

use crate::{
    lines::{Line, Lines},
    run::{Block, MAX_LINE, PublishError},
};

/// How long an answer may take: the node stores a block before it answers.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Most bytes of an answer.
const ANSWER: usize = 1 << 20;

/// Publish blocks through a running node
///
/// Calls preconf_publishCommitment of the node's JSON-RPC (--rpc.addr of `run`) for each block, in order, and writes each answer as a
/// line of JSON to stdout. The first block that is refused ends it.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit code: 0 if all were published, 1 if one was not: the line says which and why.")]
pub(crate) struct PublishArgs {
    /// The blocks: a JSON object a line, {\"commitment\": hex SSZ, \"txlist\": hex}; `-` is stdin
    ///
    /// A handover without a block has no `txlist`.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// The node's JSON-RPC
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8550")]
    rpc: Url,

    /// The file with the secret that the node shares with its callers
    #[arg(long = "rpc.jwt-secret", value_name = "FILE")]
    jwt_secret: Option<PathBuf>,
}

/// Why not all was published.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishCommandError {
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("--rpc.jwt-secret {}: {source}", path.display())]
    Secret { path: PathBuf, source: SecretError },
    #[error("--rpc.jwt-secret {}: there is no such file", .0.display())]
    NoSecret(PathBuf),
    #[error("no runtime: {0}")]
    Runtime(#[source] io::Error),
    #[error("no HTTP client: {0}")]
    Client(#[source] reqwest::Error),
    #[error("line {line}: {source}")]
    Block { line: u64, source: PublishError },
    #[error("line {line}: {} does not answer: {source}", of(.source))]
    Http { line: u64, source: reqwest::Error },
    #[error("line {line}: {url} answers {code}{}", hint(*.code))]
    Code { line: u64, url: Url, code: StatusCode },
    #[error("line {line}: {url} does not answer as a node does")]
    Foreign { line: u64, url: Url },
    #[error("line {line}: refused, code {code}: {message}")]
    Refused { line: u64, code: i64, message: String },
    #[error("writing stdout: {0}")]
    Output(#[source] io::Error),
}

fn of(error: &reqwest::Error) -> String {
    error.url().map_or_else(|| "the node".to_owned(), Url::to_string)
}

fn hint(code: StatusCode) -> &'static str {
    if code == StatusCode::UNAUTHORIZED { ": it wants a token, see --rpc.jwt-secret" } else { "" }
}

/// Publishes the blocks of a file.
///
/// # Errors
/// [`PublishCommandError`].
pub(crate) fn run(args: &PublishArgs) -> Result<ExitCode, PublishCommandError> {
    // Signals end the process: what has been answered is published.
    let runtime = Builder::new_current_thread().enable_all().build().map_err(PublishCommandError::Runtime)?;
    let node = Node::new(args)?;
    let read = |source| PublishCommandError::Read { path: args.file.clone(), source };
    let input: Box<dyn Read> = if args.file == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(&args.file).map_err(read)?)
    };
    let mut lines = Lines::new(BufReader::new(input), MAX_LINE);
    while let Some((line, text)) = lines.next().map_err(read)? {
        let block = match text {
            Line::Text(text) => Block::parse(text),
            Line::TooLong => Err(PublishError::TooLong { limit: MAX_LINE }),
        };
        let block = block.map_err(|source| PublishCommandError::Block { line, source })?;
        let answer = runtime.block_on(node.publish(line, &block))?;
        writeln!(io::stdout(), "{answer}").map_err(PublishCommandError::Output)?;
    }
    Ok(ExitCode::SUCCESS)
}

struct Node {
    client: Client,
    url: Url,
    secret: Option<JwtSecret>,
}

impl Node {
    fn new(args: &PublishArgs) -> Result<Self, PublishCommandError> {
        let secret = args.jwt_secret.as_ref().map(|path| {
            // The node makes it.
            if !path.exists() {
                return Err(PublishCommandError::NoSecret(path.clone()));
            }
            JwtSecret::load_or_create(path)
                .map_err(|source| PublishCommandError::Secret { path: path.clone(), source })
        });
        // A node is asked directly, wherever this host's web browsers go.
        let client = Client::builder().redirect(redirect::Policy::none()).no_proxy().timeout(TIMEOUT).build();
        let client = client.map_err(PublishCommandError::Client)?;
        Ok(Self { client, url: args.rpc.clone(), secret: secret.transpose()? })
    }

    async fn publish(&self, line: u64, block: &Block) -> Result<Value, PublishCommandError> {
        let params = json!([{
            "commitment": hex::encode_prefixed(block.signed.to_ssz()),
            "txList": block.txlist.as_ref().map(hex::encode_prefixed),
        }]);
        let body =
            json!({ "jsonrpc": "2.0", "id": line, "method": "preconf_publishCommitment", "params": params });
        let mut request = self
            .client
            .post(self.url.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .body(body.to_string());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if let Some(token) = self.secret.as_ref().and_then(|secret| secret.token(now)) {
            request = request.bearer_auth(token);
        }
        let failed = |source| PublishCommandError::Http { line, source };
        let mut response = request.send().await.map_err(failed)?;
        let (url, code) = (self.url.clone(), response.status());
        if code != StatusCode::OK {
            return Err(PublishCommandError::Code { line, url, code });
        }
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if answer.len() + chunk.len() > ANSWER {
                return Err(PublishCommandError::Foreign { line, url });
            }
            answer.extend_from_slice(&chunk);
        }
        let answer: Value = serde_json::from_slice(&answer)
            .map_err(|_| PublishCommandError::Foreign { line, url: url.clone() })?;
        match (answer.get("result"), answer.get("error")) {
            (Some(result), None) => Ok(result.clone()),
            (_, Some(error)) => Err(PublishCommandError::Refused {
                line,
                code: error.get("code").and_then(Value::as_i64).unwrap_or_default(),
                message: error.get("message").and_then(Value::as_str).unwrap_or_default().to_owned(),
            }),
            (None, None) => Err(PublishCommandError::Foreign { line, url }),
        }
    }
}
