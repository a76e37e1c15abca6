//! The data directory: what one run leaves to the next.

use std::{
    io,
    path::{Path, PathBuf},
    time::Instant,
};

use discv5::Enr;
use tokio::task::JoinHandle;

use super::{NetworkService, keeping::unix_now};
use crate::{
    config::after,
    disk,
    peer_book::{self, KnownPeer},
    rate_limiter::Start,
};

const PEERS_FILE: &str = "peers.json";
const RECORD_FILE: &str = "enr";
const STARTED_FILE: &str = "started";

/// A record has at most 300 bytes, a third more as text.
const MAX_RECORD_TEXT: u64 = 1024;

/// The files of the data directory. At most one write is under way.
pub(super) struct Files {
    directory: PathBuf,
    /// When the change that waits will be written.
    due: Option<Instant>,
    writing: Option<JoinHandle<bool>>,
    record_changed: bool,
    /// Whether the last write failed, so that an outage is told once.
    failing: bool,
}

impl Files {
    /// Makes the directory where it is missing. Blocks on the disk.
    pub(super) fn open(directory: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(&directory)?;
        Ok(Self { directory, due: None, writing: None, record_changed: false, failing: false })
    }

    /// The peers of an earlier run. Blocks on the disk.
    pub(super) fn peers(&self, chain_id: u64) -> Vec<KnownPeer> {
        load_peers(&self.directory.join(PEERS_FILE), chain_id)
    }

    /// The node's record of an earlier run. Blocks on the disk.
    pub(super) fn record(&self) -> Option<Enr> {
        load_record(&self.directory.join(RECORD_FILE))
    }

    /// Whether this directory, and so probably this identity, has been used before. Leaves a mark, an empty file: what
    /// matters is only whether a run may have ended within the last ten seconds, and nothing that is written at the end
    /// of a run survives a crash. Blocks on the disk.
    pub(super) fn start(&self) -> Start {
        let marked = std::fs::File::create_new(self.directory.join(STARTED_FILE));
        // Directories of versions that left no mark have peers. Where no mark can be left, the careful answer is right.
        if marked.is_ok() && !self.directory.join(PEERS_FILE).exists() {
            Start::First
        } else {
            Start::Restart
        }
    }

    /// The node's record has changed.
    pub(super) fn record_changed(&mut self, now: Instant) {
        self.record_changed = true;
        self.due = Some(now);
    }
}

impl NetworkService {
    /// Hands what has changed to a thread that may wait for the disk.
    pub(super) fn write_down(&mut self, now: Instant) {
        let Some(files) = &mut self.keeping.files else {
            return;
        };
        if let Some(writing) = files.writing.take_if(|writing| writing.is_finished()) {
            // It has ended, so its result is there at once.
            let written = futures::FutureExt::now_or_never(writing);
            files.failing = !matches!(written, Some(Ok(true)));
            if files.failing {
                files.record_changed = true;
                files.due = Some(after(now, self.config.peers.save_after));
            }
        }
        if self.keeping.book.take_changed() && files.due.is_none() {
            files.due = Some(after(now, self.config.peers.save_after));
        }
        if files.writing.is_none() && files.due.is_some_and(|due| due <= now) {
            self.write_files();
        }
    }

    fn write_files(&mut self) {
        let peers = &self.peers;
        let known = self.keeping.book.known(unix_now(), |peer| peers.contains_key(peer));
        let Some(files) = &mut self.keeping.files else {
            return;
        };
        files.due = None;
        let record_changed = std::mem::take(&mut files.record_changed);
        let record = self.keeping.record.as_ref().filter(|_| record_changed).map(Enr::to_base64);
        let (directory, chain_id, was_failing) =
            (files.directory.clone(), self.config.chain_id, files.failing);
        files.writing = Some(tokio::task::spawn_blocking(move || {
            let mut written = peer_book::save(&directory.join(PEERS_FILE), chain_id, &known);
            if let Some(record) = record {
                let path = directory.join(RECORD_FILE);
                written = written.and(disk::replace(&path, record.as_bytes()).map_err(Into::into));
            }
            if let Err(error) = &written
                && !was_failing
            {
                tracing::warn!(directory = %directory.display(), %error, "the known peers cannot be written down");
            }
            written.is_ok()
        }));
    }

    /// Writes down what is known at the end, after what is being written.
    pub(super) async fn write_at_the_end(&mut self) {
        self.written().await;
        self.write_files();
        self.written().await;
    }

    async fn written(&mut self) {
        if let Some(writing) = self.keeping.files.as_mut().and_then(|files| files.writing.take()) {
            drop(writing.await);
        }
    }
}

/// The peers of an earlier run. A file that cannot be used is told of, kept aside, and the book starts empty.
fn load_peers(path: &Path, chain_id: u64) -> Vec<KnownPeer> {
    match peer_book::load(path, chain_id) {
        Ok(known) => known,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the known peers cannot be used, starting without");
            set_aside(path);
            Vec::new()
        }
    }
}

/// Our own record of an earlier run.
fn load_record(path: &Path) -> Option<Enr> {
    let text = match disk::read(path, MAX_RECORD_TEXT) {
        Ok(text) => text?,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the node's record cannot be read, making a new one");
            set_aside(path);
            return None;
        }
    };
    match text.trim().parse() {
        Ok(record) => Some(record),
        Err(reason) => {
            tracing::warn!(path = %path.display(), %reason, "the node's record is damaged, making a new one");
            set_aside(path);
            None
        }
    }
}

fn set_aside(path: &Path) {
    match disk::set_aside(path) {
        Ok(aside) => tracing::warn!(aside = %aside.display(), "kept for you to look at"),
        Err(error) => tracing::warn!(path = %path.display(), %error, "cannot be kept aside"),
    }
}
