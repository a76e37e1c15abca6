//! Publishes the blocks of a file, in order.

use std::{
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
};

use p2p_client::P2pClient;
use p2p_types::{Bytes, SignedCommitment};
use preconfirmation_types::{Container as _, MAX_TXLIST_BYTES, SIGNED_COMMITMENT_BYTES};
use serde::Deserialize;
use tokio::sync::mpsc;

use super::error::{PublishError, RunError};
use crate::{
    hexadecimal,
    lines::{Line, Lines},
};

/// Most characters of a line: two digits for each byte of the largest block, and what surrounds them.
pub(crate) const MAX_LINE: usize = 2 * (MAX_TXLIST_BYTES + SIGNED_COMMITMENT_BYTES) + 256;

/// Blocks read ahead.
const AHEAD: usize = 4;

/// A line.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    commitment: String,
    txlist: Option<String>,
}

/// What is published.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Block {
    pub(crate) signed: SignedCommitment,
    pub(crate) txlist: Option<Bytes>,
}

impl Block {
    /// Reads a line.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, PublishError> {
        let entry: Entry = serde_json::from_slice(json)?;
        let bytes = |field: &'static str, hex: &str| {
            let decoded = hexadecimal::decode(hex.trim().as_bytes());
            decoded.map(Bytes::from).map_err(|source| PublishError::Hex { field, source })
        };
        let signed = SignedCommitment::from_ssz(&bytes("commitment", &entry.commitment)?)?;
        let txlist = entry.txlist.map(|hex| bytes("txlist", &hex)).transpose()?;
        Ok(Self { signed, txlist })
    }
}

/// A block of a line, or what is wrong with it.
type Numbered = (Option<u64>, Result<Block, PublishError>);

/// Reads blocks until the end, the first that is wrong, or until nobody wants more.
fn read(path: &Path, blocks: &mpsc::Sender<Numbered>) {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) => return drop(blocks.blocking_send((None, Err(error.into())))),
    };
    let mut lines = Lines::new(BufReader::new(file), MAX_LINE);
    loop {
        let numbered = match lines.next() {
            Ok(None) => return,
            Ok(Some((number, Line::Text(text)))) => (Some(number), Block::parse(text)),
            Ok(Some((number, Line::TooLong))) => {
                (Some(number), Err(PublishError::TooLong { limit: MAX_LINE }))
            }
            Err(error) => (None, Err(error.into())),
        };
        let bad = numbered.1.is_err();
        if blocks.blocking_send(numbered).is_err() || bad {
            return;
        }
    }
}

/// Publishes the blocks of a file, in order, each as soon as the one before it is out.
///
/// # Errors
/// [`RunError::Publish`] names the first line that could not be published.
pub(super) async fn publish(client: &P2pClient, path: PathBuf) -> Result<(), RunError> {
    let (sender, mut blocks) = mpsc::channel(AHEAD);
    let reader = tokio::task::spawn_blocking({
        let path = path.clone();
        move || read(&path, &sender)
    });
    while let Some((line, block)) = blocks.recv().await {
        let sent = match block {
            Ok(Block { signed, txlist }) => {
                client.publisher().publish_when_ready(signed, txlist).await.map_err(Into::into)
            }
            Err(error) => Err(error),
        };
        match sent {
            Ok(sent) => tracing::info!(line, ?sent, "published"),
            Err(source) => return Err(RunError::Publish { path, line, source: Box::new(source) }),
        }
    }
    reader.await.map_err(|_| RunError::Died("reader of blocks"))
}

#[cfg(test)]
mod tests {
    use preconfirmation_types::{PreconfCommitment, SigningDomain, SigningKey};

    use super::*;

    #[test]
    fn a_line_is_a_block_or_says_what_is_wrong_with_it() {
        let key = SigningKey::from_bytes([1; 32]).unwrap();
        let signed = PreconfCommitment::default().sign(&key, &SigningDomain::PLACEHOLDER);
        let commitment = alloy_primitives::hex::encode(signed.to_ssz());
        let good = format!(r#"{{"commitment":"0x{commitment}","txlist":"0102"}}"#);
        let block = Block { signed: signed.clone(), txlist: Some(vec![1, 2].into()) };
        assert_eq!(Block::parse(good.as_bytes()).unwrap(), block);
        let alone = format!(r#"{{"commitment":"{commitment}"}}"#);
        assert_eq!(Block::parse(alone.as_bytes()).unwrap(), Block { signed, txlist: None });

        let wrong = |json: String| Block::parse(json.as_bytes()).unwrap_err().to_string();
        assert!(wrong(good.replace("0102", "010")).starts_with("txlist: hex: 3 digits"));
        assert!(wrong(good.replace("0x", "0y")).starts_with("commitment: hex: character 2"));
        assert!(wrong(alone.replace("\"}", "00\"}")).starts_with("commitment: "));
        assert!(wrong("{}".into()).contains("missing field `commitment`"));
        assert!(wrong(good.replace("txlist", "txs")).contains("unknown field `txs`"));
    }
}
