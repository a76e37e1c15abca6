//! Opening the database: creation, schema version, chain, and the lock.

use std::{fs, io, path::Path};

use p2p_types::{B256, SigningDomain};
use redb::{Database, ReadableDatabase, StorageBackend, TableError, backends::FileBackend};

use super::{
    backend::DatabaseFile,
    fault::{fault, io_fault, retried},
    files::{FileSystem, Folder, ROOT},
    owner::Owner,
    tables::{
        COMMITMENTS, DOMAIN_KEY, EVIDENCE, HEIGHTS, META, PROMISES, SCHEMA_KEY, TXLIST_BLOCKS, TXLIST_ORDER,
        TXLISTS,
    },
};
use crate::StorageError;

/// The schema version that this software reads and writes.
pub(super) const SCHEMA: u32 = 1;

/// Opens the database in its folder; called again when it has to be reopened.
pub(super) trait Source: FileSystem {
    fn open(&self, builder: &redb::Builder) -> Result<Database, StorageError>;
    /// Bytes of the database.
    fn len(&self) -> Result<u64, StorageError>;
    /// Whether neither the database nor its folder is written.
    fn is_read_only(&self) -> bool {
        false
    }
}

pub(super) const DATABASE: &str = "store.redb";

impl Source for Folder {
    fn open(&self, builder: &redb::Builder) -> Result<Database, StorageError> {
        self.open_as(builder, |file| file)
    }

    fn len(&self) -> Result<u64, StorageError> {
        fs::metadata(self.path(DATABASE)).map(|file| file.len()).map_err(|error| io_fault(&error))
    }
}

impl Folder {
    /// Opens the database by way of a backend around its file.
    pub(super) fn open_as<B: StorageBackend>(
        &self,
        builder: &redb::Builder,
        backend: impl FnOnce(FileBackend) -> B,
    ) -> Result<Database, StorageError> {
        let open = || {
            fs::create_dir_all(&self.root)?;
            let mut how = fs::OpenOptions::new();
            let file = how.read(true).write(true).create(true).truncate(false).open(self.path(DATABASE))?;
            let is_empty = file.metadata()?.len() == 0;
            Ok((file, is_empty))
        };
        let (file, is_new) = retried(open).map_err(|error: io::Error| io_fault(&error))?;
        // The folders of the lists are created after the database, so a database that is empty beside them has lost its bytes.
        if is_new && self.path(ROOT).exists() {
            return Err(StorageError::Corrupt { what: "the database, which is missing or empty" });
        }
        let file = backend(FileBackend::new(file).map_err(fault)?);
        let file = DatabaseFile::new(file, self.unsynced.clone(), self.owner.clone());
        let database = builder.create_with_backend(file).map_err(|error| locked(error, &self.owner));
        if let (true, Err(error)) = (is_new, &database)
            && !matches!(error, StorageError::Locked { .. })
        {
            // Half of a database, of a full disk say, would be damaged for whoever tries again.
            fs::remove_file(self.path(DATABASE)).ok();
        }
        let database = database?;
        self.owner.write_name();
        if is_new {
            sync_folder(&self.root)?;
        }
        Ok(database)
    }
}

/// The error of opening a database, with its owner where another process has it open.
pub(super) fn locked(error: redb::DatabaseError, owner: &Owner) -> StorageError {
    match fault(error) {
        StorageError::Locked { .. } => StorageError::Locked { owner: owner.read().map(|owner| owner.pid) },
        other => other,
    }
}

/// Syncs the entry of a new file in its folder, and of the folder in its parent.
fn sync_folder(folder: &Path) -> Result<(), StorageError> {
    let above = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
    let sync = |folder: &Path| fs::File::open(folder)?.sync_all();
    for folder in above.into_iter().chain([folder]).filter(|_| cfg!(unix)) {
        sync(folder).map_err(|error| io_fault(&error))?;
    }
    Ok(())
}

/// Whether a database has been prepared before, and its folders with it.
pub(super) fn is_prepared(database: &Database) -> Result<bool, StorageError> {
    Ok(identity(database)?.is_some_and(|(schema, _)| schema == SCHEMA))
}

/// Creates the tables of a new database; refuses one of another schema or chain.
pub(super) fn prepare(database: &Database, domain: &SigningDomain) -> Result<(), StorageError> {
    match identity(database)? {
        None => create(database, domain, SCHEMA),
        Some((_, found)) if found.0 != *domain.as_bytes() => Err(StorageError::OtherDomain { found }),
        Some((found, _)) if found != SCHEMA => Err(StorageError::UnknownSchema { found, known: SCHEMA }),
        Some(_) => Ok(()),
    }
}

/// Schema and domain of a database; none if it is new.
fn identity(database: &Database) -> Result<Option<(u32, B256)>, StorageError> {
    let transaction = database.begin_read().map_err(fault)?;
    let meta = match transaction.open_table(META) {
        Err(TableError::TableDoesNotExist(_))
            if transaction.list_tables().map_err(fault)?.next().is_none() =>
        {
            return Ok(None);
        }
        meta => meta.map_err(fault)?,
    };
    let (schema, domain) = (meta.get(SCHEMA_KEY).map_err(fault)?, meta.get(DOMAIN_KEY).map_err(fault)?);
    let schema = schema.and_then(|bytes| bytes.value().try_into().ok()).map(u32::from_be_bytes);
    let domain = domain.and_then(|bytes| B256::try_from(bytes.value()).ok());
    match (schema, domain) {
        (Some(schema), Some(domain)) => Ok(Some((schema, domain))),
        _ => Err(StorageError::Corrupt { what: "the schema version" }),
    }
}

fn create(database: &Database, domain: &SigningDomain, schema: u32) -> Result<(), StorageError> {
    let transaction = database.begin_write().map_err(fault)?;
    {
        let mut meta = transaction.open_table(META).map_err(fault)?;
        meta.insert(SCHEMA_KEY, &schema.to_be_bytes()[..]).map_err(fault)?;
        meta.insert(DOMAIN_KEY, &domain.as_bytes()[..]).map_err(fault)?;
        transaction.open_table(COMMITMENTS).map_err(fault)?;
        transaction.open_table(HEIGHTS).map_err(fault)?;
        transaction.open_table(TXLISTS).map_err(fault)?;
        transaction.open_table(TXLIST_BLOCKS).map_err(fault)?;
        transaction.open_table(TXLIST_ORDER).map_err(fault)?;
        transaction.open_table(EVIDENCE).map_err(fault)?;
        transaction.open_table(PROMISES).map_err(fault)?;
    }
    transaction.commit().map_err(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOMAIN: SigningDomain = SigningDomain::PLACEHOLDER;

    fn database() -> Database {
        Database::builder().create_with_backend(redb::backends::InMemoryBackend::new()).unwrap()
    }

    #[test]
    fn a_file_of_another_schema_or_chain_is_refused() {
        let file = database();
        prepare(&file, &DOMAIN).unwrap();
        prepare(&file, &DOMAIN).unwrap();
        let other = SigningDomain::new(B256::repeat_byte(1));
        let found = B256::from(*DOMAIN.as_bytes());
        assert_eq!(prepare(&file, &other), Err(StorageError::OtherDomain { found }));
        for found in [0, SCHEMA + 1] {
            let file = database();
            create(&file, &DOMAIN, found).unwrap();
            let refused = StorageError::UnknownSchema { found, known: SCHEMA };
            assert_eq!(prepare(&file, &DOMAIN), Err(refused));
        }
    }
}
