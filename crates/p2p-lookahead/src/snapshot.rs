//! What was learned, on disk: a file that is replaced as a whole, and believed only as far as L1 confirms it.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use alloy_primitives::Address;
use serde::{Deserialize, Serialize};
use tokio::fs;

use crate::{L1Config, config::Source, ledger::Ledger, schedule::Generation};

/// Raised when the form changes: another one is not read, and everything is learned again.
const VERSION: u32 = 1;
/// A file that is longer is none of ours: 1,575 epochs of 32 slots have 15 MiB.
const LONGEST: u64 = 64 << 20;

/// What has to be the same for a file to be of use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Subject {
    version: u32,
    chain_id: u64,
    source: Address,
    genesis: u64,
    slot_seconds: u64,
    slots_per_epoch: u64,
    generation: Generation,
    signers: Vec<(Address, Address)>,
}

#[derive(Serialize, Deserialize)]
struct File<L> {
    subject: Subject,
    ledger: L,
}

/// Where the ledger outlives the process.
pub(crate) struct Snapshot {
    path: PathBuf,
    subject: Subject,
}

impl Snapshot {
    pub(crate) fn new(dir: &Path, config: &L1Config, generation: Generation) -> Self {
        let (Source::Inbox(source) | Source::Contract(source)) = config.source;
        let subject = Subject {
            version: VERSION,
            chain_id: config.chain_id,
            source,
            genesis: config.time.genesis.get(),
            slot_seconds: config.time.slot_seconds.get(),
            slots_per_epoch: config.time.slots_per_epoch.get(),
            generation,
            signers: config.signers.iter().map(|(from, to)| (*from, *to)).collect(),
        };
        Self { path: dir.join("lookahead.json"), subject }
    }

    /// What an earlier run has learned. None if there is nothing, or nothing of use: that costs questions, no more.
    pub(crate) async fn read(&self) -> Option<Ledger> {
        match self.try_read().await {
            Ok(file) => file.filter(|file| file.subject == self.subject).map(|file| file.ledger),
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "the saved schedule is not read; it is learned again");
                None
            }
        }
    }

    async fn try_read(&self) -> std::io::Result<Option<File<Ledger>>> {
        let length = match fs::metadata(&self.path).await {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if length > LONGEST {
            return Err(std::io::Error::new(ErrorKind::FileTooLarge, "longer than any saved schedule"));
        }
        let bytes = fs::read(&self.path).await?;
        Ok(Some(serde_json::from_slice(&bytes)?))
    }

    /// Replaces the file. What fails is told and tried again with the next change.
    pub(crate) async fn write(&self, ledger: &Ledger) {
        if let Err(error) = self.try_write(ledger).await {
            tracing::warn!(path = %self.path.display(), %error, "the schedule is not saved");
        }
    }

    async fn try_write(&self, ledger: &Ledger) -> std::io::Result<()> {
        let json = serde_json::to_vec(&File { subject: self.subject.clone(), ledger })?;
        if let Some(dir) = self.path.parent() {
            fs::create_dir_all(dir).await?;
        }
        let new = self.path.with_extension("new");
        fs::write(&new, json).await?;
        fs::File::open(&new).await?.sync_all().await?;
        fs::rename(&new, &self.path).await
    }
}

#[cfg(test)]
mod tests {
    use p2p_types::UnixSeconds;

    use super::*;
    use crate::{L1Head, ledger::Fact};

    fn config() -> L1Config {
        let source = Source::Contract(Address::repeat_byte(1));
        L1Config::recommended(vec![], 1, UnixSeconds::new(0), source)
    }

    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        ledger.extend(&[L1Head {
            number: 5,
            hash: Default::default(),
            parent: Default::default(),
            timestamp: 60,
        }]);
        ledger.learn([(5, Fact::Operator { epoch: 0, from: 0, signer: Address::repeat_byte(2) })]);
        ledger
    }

    #[tokio::test]
    async fn a_ledger_is_read_back_where_the_subject_is_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let nested = dir.path().join("l1");
        let snapshot = Snapshot::new(&nested, &config(), Generation::Whitelist);
        assert_eq!(snapshot.read().await, None, "nothing yet");
        snapshot.write(&ledger()).await;
        assert_eq!(snapshot.read().await, Some(ledger()));
        let others: [fn(&mut L1Config); 3] = [
            |c| c.chain_id = 2,
            |c| c.source = Source::Contract(Address::repeat_byte(9)),
            |c| c.signers.extend([(Address::ZERO, Address::ZERO)]),
        ];
        for change in others {
            let mut config = config();
            change(&mut config);
            assert_eq!(Snapshot::new(&nested, &config, Generation::Whitelist).read().await, None);
        }
        assert_eq!(Snapshot::new(&nested, &config(), Generation::StoreV1).read().await, None);
    }

    #[tokio::test]
    async fn a_damaged_file_is_no_ledger() {
        let dir = tempfile::tempdir().unwrap();
        let snapshot = Snapshot::new(dir.path(), &config(), Generation::Whitelist);
        snapshot.write(&ledger()).await;
        let path = dir.path().join("lookahead.json");
        let bytes = std::fs::read(&path).unwrap();
        for cut in [0, 1, bytes.len() / 2, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            assert_eq!(snapshot.read().await, None, "{cut}");
        }
    }
}
