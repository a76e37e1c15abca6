//! The data directory: what one run leaves to the next.

use std::{
    io,
    path::{Path, PathBuf},
    time::Instant,
};

use discv5::Enr;
use tokio::task::JoinHandle;

use super::{NetworkService, unix_now};
use crate::{
    config::{NetworkConfig, after},
    disk,
    error::NetworkError,
    peer_manager::{self, KnownPeer, Start},
};

const PEERS_FILE: &str = "peers.json";
const ENR_FILE: &str = "enr";
const STARTED_FILE: &str = "started";

/// An ENR has at most 300 bytes, a third more as text.
const MAX_ENR_TEXT: u64 = 1024;

/// The files of the data directory. At most one write is under way.
pub(super) struct Files {
    directory: PathBuf,
    /// When the change that waits will be written.
    due: Option<Instant>,
    writing: Option<JoinHandle<bool>>,
    enr_changed: bool,
    /// Whether the last write failed, so that an outage is logged once.
    failing: bool,
}

/// What an earlier run has left in the data directory.
pub(super) struct Saved {
    /// `None` without a data directory.
    pub(super) files: Option<Files>,
    pub(super) peers: Vec<KnownPeer>,
    pub(super) enr: Option<Enr>,
    pub(super) start: Start,
}

impl Saved {
    /// Reads the data directory, if there is to be one. Blocks on the disk.
    pub(super) fn load(config: &NetworkConfig) -> Result<Self, NetworkError> {
        let Some(directory) = &config.data_dir else {
            return Ok(Self { files: None, peers: Vec::new(), enr: None, start: Start::Restart });
        };
        let failed = |source| NetworkError::DataDir { path: directory.clone(), source };
        let files = Files::open(directory.clone()).map_err(failed)?;
        let (peers, enr, start) = (files.peers(config.chain_id), files.enr(), files.start());
        Ok(Self { files: Some(files), peers, enr, start })
    }
}

impl Files {
    /// Makes the directory where it is missing. Blocks on the disk.
    fn open(directory: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(&directory)?;
        Ok(Self { directory, due: None, writing: None, enr_changed: false, failing: false })
    }

    /// The peers of an earlier run. Blocks on the disk.
    fn peers(&self, chain_id: u64) -> Vec<KnownPeer> {
        load_peers(&self.directory.join(PEERS_FILE), chain_id)
    }

    /// The node's ENR of an earlier run. Blocks on the disk.
    fn enr(&self) -> Option<Enr> {
        load_enr(&self.directory.join(ENR_FILE))
    }

    /// Whether this directory, and so probably this identity, has been used before. Leaves a mark, an empty file: what
    /// matters is only whether a run may have ended within the last ten seconds, and nothing that is written at the end
    /// of a run survives a crash. Blocks on the disk.
    fn start(&self) -> Start {
        let marked = std::fs::File::create_new(self.directory.join(STARTED_FILE));
        // Directories of versions that left no mark have peers. Where no mark can be left, a restart is the safe answer.
        if marked.is_ok() && !self.directory.join(PEERS_FILE).exists() {
            Start::First
        } else {
            Start::Restart
        }
    }

    /// The node's ENR has changed.
    pub(super) fn enr_changed(&mut self, now: Instant) {
        self.enr_changed = true;
        self.due = Some(now);
    }
}

impl NetworkService {
    /// Hands what has changed to a thread that may wait for the disk.
    pub(super) fn save_changes(&mut self, now: Instant) {
        let Some(files) = &mut self.files else {
            return;
        };
        if let Some(writing) = files.writing.take_if(|writing| writing.is_finished()) {
            // It has ended, so its result is there at once.
            let written = futures::FutureExt::now_or_never(writing);
            files.failing = !matches!(written, Some(Ok(true)));
            if files.failing {
                files.enr_changed = true;
                files.due = Some(after(now, self.config.peers.save_after));
            }
        }
        if self.peers.take_changed() && files.due.is_none() {
            files.due = Some(after(now, self.config.peers.save_after));
        }
        if files.writing.is_none() && files.due.is_some_and(|due| due <= now) {
            self.write_files();
        }
    }

    fn write_files(&mut self) {
        let known = self.peers.known_peers(unix_now());
        let Some(files) = &mut self.files else {
            return;
        };
        files.due = None;
        let enr_changed = std::mem::take(&mut files.enr_changed);
        let enr = self.discovery.enr.as_ref().filter(|_| enr_changed).map(Enr::to_base64);
        let (directory, chain_id, was_failing) =
            (files.directory.clone(), self.config.chain_id, files.failing);
        files.writing = Some(tokio::task::spawn_blocking(move || {
            let mut written = peer_manager::save(&directory.join(PEERS_FILE), chain_id, &known);
            if let Some(enr) = enr {
                let path = directory.join(ENR_FILE);
                written = written.and(disk::replace(&path, enr.as_bytes()).map_err(Into::into));
            }
            if let Err(error) = &written
                && !was_failing
            {
                tracing::warn!(directory = %directory.display(), %error, "the known peers cannot be saved");
            }
            written.is_ok()
        }));
    }

    /// Saves what is known at shutdown, after what is being written.
    pub(super) async fn save_all(&mut self) {
        self.written().await;
        self.write_files();
        self.written().await;
    }

    async fn written(&mut self) {
        if let Some(writing) = self.files.as_mut().and_then(|files| files.writing.take()) {
            drop(writing.await);
        }
    }
}

/// The peers of an earlier run. A file that cannot be used is logged and kept aside, and no peer is known.
fn load_peers(path: &Path, chain_id: u64) -> Vec<KnownPeer> {
    match peer_manager::load(path, chain_id) {
        Ok(known) => known,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the saved peers cannot be used, starting without them");
            set_aside(path);
            Vec::new()
        }
    }
}

/// The node's ENR of an earlier run.
fn load_enr(path: &Path) -> Option<Enr> {
    let text = match disk::read(path, MAX_ENR_TEXT) {
        Ok(text) => text?,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the saved ENR cannot be read, making a new one");
            set_aside(path);
            return None;
        }
    };
    match text.trim().parse() {
        Ok(enr) => Some(enr),
        Err(reason) => {
            tracing::warn!(path = %path.display(), %reason, "the saved ENR is damaged, making a new one");
            set_aside(path);
            None
        }
    }
}

fn set_aside(path: &Path) {
    match disk::set_aside(path) {
        Ok(aside) => tracing::warn!(aside = %aside.display(), "the file is kept aside"),
        Err(error) => tracing::warn!(path = %path.display(), %error, "the file cannot be kept aside"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use libp2p::{PeerId, identity::Keypair};

    use super::*;
    use crate::Network;

    #[tokio::test]
    async fn a_change_is_saved_after_the_time_set() {
        let directory = tempfile::tempdir().unwrap();
        let mut config = NetworkConfig::new(1, Keypair::generate_ed25519());
        config.data_dir = Some(directory.path().to_owned());
        config.peers.save_after = Duration::from_secs(77);
        let (_handle, _events, mut service) = Network::new(config).unwrap();
        let (peer, now) = (PeerId::random(), Instant::now());
        service.peers.on_reached(peer, "/ip4/127.0.0.1/tcp/1".parse().unwrap(), 1, now);
        service.save_changes(now);
        service.save_changes(now + Duration::from_secs(76));
        assert!(service.files.as_ref().is_some_and(|files| files.writing.is_none()));
        service.save_changes(now + Duration::from_secs(77));
        service.written().await;
        let known = load_peers(&directory.path().join(PEERS_FILE), 1);
        assert_eq!(known.iter().map(|known| known.peer).collect::<Vec<_>>(), [peer]);
    }
}
