//! Reads the files that the options name: schedule, key, store.

use std::{path::PathBuf, sync::Arc, time::Duration};

use p2p_storage::{DiskConfig, DiskStorage, MemoryStorage, SdkStorage};
use p2p_types::{Base, SigningDomain};
use p2p_validation::Lookahead;
use preconfirmation_p2p::{Keypair, identity};
use tokio::{task::spawn_blocking, time::timeout};

use super::{
    args::RunArgs,
    chain::Chain,
    datadir::{KEY, L1 as L1_DIR, STORE},
    error::RunError,
    l1::L1,
    l2::L2,
    list::flat,
    lookahead::LookaheadSource,
    preset::{L1Chain, NetworkSource, Preset},
};
use crate::clock;

/// How long a schedule and a key may take to be read: each may come through a pipe, from a program that has to start first.
const READ: Duration = Duration::from_secs(10);

/// What the options name, read.
pub(super) struct Opened {
    pub(super) chain: Chain,
    pub(super) lookahead: Arc<dyn Lookahead>,
    /// None where the schedule comes from elsewhere.
    pub(super) l1: Option<L1>,
    /// None where nothing tells what is settled but the options.
    pub(super) l2: Option<L2>,
    pub(super) storage: Arc<dyn SdkStorage>,
    pub(super) identity: Keypair,
    pub(super) base: Option<Base>,
    /// The option that named the key.
    pub(super) key: &'static str,
}

/// Reads what the options name. Opening a store takes as long as it takes.
pub(super) async fn open(args: &RunArgs) -> Result<Opened, RunError> {
    let preset = match args.network.clone() {
        Some(source) => Some(read("--network", move || load_network(source)).await?),
        None => None,
    };
    let chain = Chain::new(args, preset)?;
    let (lookahead, l1) = schedule(args, &chain).await?;
    let l2 = L2::new(flat(&args.l2_rpc), chain.id, chain.l2)?;
    // Before the key, which is made where there is none: a store that is not ours leaves nothing behind.
    let (datadir, domain) = (args.datadir.clone(), chain.domain);
    let opened = spawn_blocking(move || store(datadir, domain));
    let (storage, kept) = opened.await.map_err(|_| RunError::Died("opening"))??;
    let (key, path) = key_file(args);
    let identity = match path {
        Some(path) => {
            let load = move || identity::load_or_create(&path);
            read(key, move || load().map_err(|source| RunError::Identity { option: key, source })).await?
        }
        None => Keypair::generate_secp256k1(),
    };
    // What the contracts have settled stays settled, whatever the command line still says.
    let base = args.base.map(|base| base.0).into_iter().chain(kept).max_by_key(|base| base.number);
    // Where L2 tells it, that is waited for: it may have gone back meanwhile.
    let base = base.filter(|_| l2.is_none());
    if base.is_none() && l2.is_none() {
        tracing::warn!(
            "no --l2.rpc, no --base: what is authentic is forwarded, but nothing is stored or shown"
        );
    }
    Ok(Opened { chain, lookahead, l1, l2, storage, identity, base, key })
}

/// Reads the file of a network.
pub(super) fn load_network(source: NetworkSource) -> Result<Preset, RunError> {
    source.load().map_err(|error| RunError::Network { network: source.to_string(), source: error })
}

/// The file of the node's key, if it is kept, and the option that says so.
pub(super) fn key_file(args: &RunArgs) -> (&'static str, Option<PathBuf>) {
    match (&args.priv_path, &args.datadir) {
        (Some(path), _) => ("--p2p.priv.path", Some(path.clone())),
        (None, datadir) => ("--datadir", datadir.as_ref().map(|path| path.join(KEY))),
    }
}

/// The L1 that the schedule comes from; none where it is given.
pub(super) fn from_l1(args: &RunArgs, chain: &Chain) -> Result<Option<L1Chain>, RunError> {
    match (&args.lookahead, &chain.l1) {
        (None | Some(LookaheadSource::L1), Some(of)) => Ok(Some(of.clone())),
        (None | Some(LookaheadSource::L1), None) => Err(RunError::NoNetwork),
        (Some(LookaheadSource::Given(given)), _) if !flat(&args.l1_rpc).is_empty() => {
            Err(RunError::NotFromL1 { lookahead: given.to_string() })
        }
        (Some(LookaheadSource::Given(_)), _) => Ok(None),
    }
}

/// The schedule, and L1 where it comes from there.
async fn schedule(args: &RunArgs, chain: &Chain) -> Result<(Arc<dyn Lookahead>, Option<L1>), RunError> {
    match (from_l1(args, chain)?, args.lookahead.clone()) {
        (None, Some(LookaheadSource::Given(given))) => {
            Ok((read("--lookahead", move || given.load(clock::now())).await?, None))
        }
        (Some(of), _) => {
            let datadir = args.datadir.as_ref().map(|path| path.join(L1_DIR));
            let l1 = L1::start(of, flat(&args.l1_rpc), datadir)?;
            Ok((l1.lookahead.clone(), Some(l1)))
        }
        (None, _) => Err(RunError::NoNetwork),
    }
}

/// Opens the store, and reads the base that it has. Blocks on the disk.
fn store(
    datadir: Option<PathBuf>,
    domain: SigningDomain,
) -> Result<(Arc<dyn SdkStorage>, Option<Base>), RunError> {
    let Some(path) = datadir else {
        return Ok((Arc::new(MemoryStorage::default()), None));
    };
    let failed = |source| RunError::Datadir { path: path.clone(), source };
    let storage = DiskStorage::open(path.join(STORE), DiskConfig::recommended(domain)).map_err(failed)?;
    let storage: Arc<dyn SdkStorage> = Arc::new(storage);
    let base = storage.base().map_err(failed)?;
    Ok((storage, base))
}

/// Reads a file that may be a pipe. The thread of one that does not end is left behind.
async fn read<T: Send + 'static>(
    option: &'static str,
    work: impl FnOnce() -> Result<T, RunError> + Send + 'static,
) -> Result<T, RunError> {
    match timeout(READ, spawn_blocking(work)).await {
        Ok(read) => read.map_err(|_| RunError::Died("reading"))?,
        Err(_) => Err(RunError::TimedOut { option, limit: READ }),
    }
}
