//! What of a start can be tried without changing anything: everything but the sockets and the network.

use std::{fs, io, path::Path, sync::Arc};

use p2p_client::{MAINNET_CHAIN_ID, P2pClientError};
use p2p_storage::{DiskConfig, DiskStorage, StorageError};
use preconfirmation_p2p::{Keypair, NetworkConfig, identity};

use super::{
    args::RunArgs,
    chain::Chain,
    datadir::STORE,
    error::{PublishError, RunError},
    l1,
    l2::L2,
    list::flat,
    lookahead::LookaheadSource,
    network,
    open::{from_l1, key_file, load_network},
};
use crate::{clock, domain::Domain};

/// Whether a node could start with these options. Reads what they name, as far as it is there.
///
/// # Errors
/// [`RunError`], as a start would have it.
pub(crate) fn check(args: &RunArgs) -> Result<(), RunError> {
    let preset = args.network.clone().map(load_network).transpose()?;
    let chain = Chain::new(args, preset)?;
    match (from_l1(args, &chain)?, &args.lookahead) {
        (Some(l1), _) => l1::check(l1, flat(&args.l1_rpc))?,
        (None, Some(LookaheadSource::Given(given))) => drop(given.load(clock::now())?),
        (None, _) => {}
    }
    L2::new(flat(&args.l2_rpc), chain.id, chain.l2)?;
    network::warn(&options(args)?, args);
    args.guard.check(chain.id, chain.domain, args.publishing())?;
    args.rpc.check(args.datadir.as_deref())?;
    args.datadir.as_deref().map_or(Ok(()), |path| datadir(path, &chain))
}

/// What the network's file, or a default that depends on other options, says where no option does.
///
/// # Errors
/// [`RunError`], where there is no chain without more options.
pub(crate) fn derived(args: &RunArgs) -> Result<[(&'static str, String); 4], RunError> {
    let chain = Chain::new(args, args.network.clone().map(load_network).transpose()?)?;
    Ok([
        ("chain-id", chain.id.to_string()),
        ("p2p.chain-id", chain.p2p_id.to_string()),
        ("domain", Domain(chain.domain).to_string()),
        ("slasher", chain.slasher.to_string()),
    ])
}

/// What can be told of the options before anything is opened or made: the network's settings, the key if there is one, and
/// what is to be published.
pub(super) fn options(args: &RunArgs) -> Result<NetworkConfig, RunError> {
    let (option, path) = key_file(args);
    // A pipe can be read only once.
    let key = path.filter(|path| path.is_file()).map(|path| identity::load(&path)).transpose();
    let key = key.map_err(|source| RunError::Identity { option, source })?.flatten();
    // The chain has no part in what is checked.
    let mut config = NetworkConfig::new(MAINNET_CHAIN_ID, key.unwrap_or_else(Keypair::generate_secp256k1));
    network::configure(&mut config, args)?;
    let settings = config.check().map_err(|error| P2pClientError::Network(Arc::new(error.into())));
    settings.map_err(|error| network::failed(error, args, option))?;
    if let Some(path) = &args.peers.peerstore {
        let option = "--p2p.peerstore.path";
        writable(path).map_err(|source| RunError::NetworkDir { option, path: path.clone(), source })?;
    }
    if let Some(path) = &args.publish {
        let found =
            if path.is_file() { fs::File::open(path).map(drop) } else { fs::metadata(path).map(drop) };
        found.map_err(|error| {
            let source = Box::new(PublishError::Read(error));
            RunError::Publish { path: path.clone(), line: None, source }
        })?;
    }
    Ok(config)
}

/// Whether a directory is there and ours, or can be made.
fn datadir(path: &Path, chain: &Chain) -> Result<(), RunError> {
    let failed = |source| RunError::Datadir { path: path.to_owned(), source };
    let option = "--datadir";
    writable(path).map_err(|source| RunError::NetworkDir { option, path: path.to_owned(), source })?;
    let store = path.join(STORE);
    if !DiskStorage::exists(&store) {
        return Ok(());
    }
    match DiskStorage::open_read_only(&store, DiskConfig::recommended(chain.domain)) {
        // The node that will be restarted has it.
        Ok(_) | Err(StorageError::Locked { .. }) => Ok(()),
        Err(source) => Err(failed(source)),
    }
}

/// Whether files can be made in a directory, or the directory itself.
fn writable(path: &Path) -> io::Result<()> {
    let found = path.ancestors().map(|path| if path.as_os_str().is_empty() { Path::new(".") } else { path });
    for path in found {
        match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(found) if !found.is_dir() => return Err(io::ErrorKind::NotADirectory.into()),
            Ok(_) => {
                #[cfg(unix)]
                rustix::fs::access(path, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)?;
                return Ok(());
            }
        }
    }
    Ok(())
}
