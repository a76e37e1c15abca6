//! Opening the file: whose it is, how old it is, and who has it.

use std::{fs, io, path::Path};

use p2p_types::{B256, SigningDomain};
use redb::{Database, ReadableDatabase, StorageBackend, TableError, backends::FileBackend};

use super::{
    backend::DatabaseFile,
    fault::{fault, io_fault, retried},
    files::{FileSystem, Folder, ROOT},
    migrate::{MIGRATIONS, Migration},
    owner::Owner,
    tables::{
        COMMITMENTS, DOMAIN_KEY, EVIDENCE, HEIGHTS, META, PROMISES, ROOTS, SCHEMA_KEY, TXLIST_BLOCKS,
        TXLIST_ORDER, TXLISTS,
    },
};
use crate::StorageError;

/// The schema that this version writes.
pub(super) const SCHEMA: u32 = 4;
const _: () = assert!(MIGRATIONS.len() + 1 == SCHEMA as usize);

/// Where the database comes from, and the folder around it; asked again when it has to be opened anew.
pub(super) trait Source: FileSystem {
    fn open(&self, builder: &redb::Builder) -> Result<Database, StorageError>;
    /// Bytes of the database.
    fn len(&self) -> Result<u64, StorageError>;
    /// Whether nothing is written, neither to the database nor beside it.
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
        // The folders of the lists come after the database. One that has lost its bytes is not a new one.
        if is_new && self.path(ROOT).exists() {
            return Err(StorageError::Corrupt { what: "the database, which is missing or empty" });
        }
        let file = backend(FileBackend::new(file).map_err(fault)?);
        let file = DatabaseFile::new(file, self.unsynced.clone(), self.owner.clone());
        let database = builder.create_with_backend(file).map_err(|error| locked(error, &self.owner))?;
        self.owner.tell();
        if is_new {
            sync_folder(&self.root)?;
        }
        Ok(database)
    }
}

/// Why a database cannot be opened, with its owner where somebody has it open.
pub(super) fn locked(error: redb::DatabaseError, owner: &Owner) -> StorageError {
    match fault(error) {
        StorageError::Locked { .. } => StorageError::Locked { owner: owner.read().map(|owner| owner.pid) },
        other => other,
    }
}

/// A new file is on disk when its folder is, and the folder when its own folder is.
fn sync_folder(folder: &Path) -> Result<(), StorageError> {
    let above = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
    let sync = |folder: &Path| fs::File::open(folder)?.sync_all();
    for folder in above.into_iter().chain([folder]).filter(|_| cfg!(unix)) {
        sync(folder).map_err(|error| io_fault(&error))?;
    }
    Ok(())
}

/// Whether a file is what this version works with: then its folders were on disk before.
pub(super) fn is_prepared(database: &Database) -> Result<bool, StorageError> {
    Ok(identity(database)?.is_some_and(|(schema, _)| schema == SCHEMA))
}

/// Makes a file what this version works with: creates the tables of a new one, migrates an older one, and
/// refuses a newer one and one of another chain.
pub(super) fn prepare(database: &Database, domain: &SigningDomain) -> Result<(), StorageError> {
    prepare_with(database, domain, SCHEMA, MIGRATIONS)
}

fn prepare_with(
    database: &Database,
    domain: &SigningDomain,
    schema: u32,
    migrations: &[Migration],
) -> Result<(), StorageError> {
    let found = match identity(database)? {
        None => return create(database, domain, schema),
        Some((_, theirs)) if theirs.0 != *domain.as_bytes() => {
            return Err(StorageError::OtherDomain { found: theirs });
        }
        Some((found, _)) => found,
    };
    if found > schema {
        return Err(StorageError::NewerSchema { found, known: schema });
    }
    let steps = usize::try_from(found).ok().and_then(|found| migrations.get(found.checked_sub(1)?..));
    let steps = steps.ok_or(StorageError::Corrupt { what: "the schema version" })?;
    if steps.is_empty() {
        return Ok(());
    }
    // All steps in one transaction: a crash leaves the old file or the new one.
    let transaction = database.begin_write().map_err(fault)?;
    for migrate in steps {
        migrate(&transaction)?;
    }
    let mut meta = transaction.open_table(META).map_err(fault)?;
    meta.insert(SCHEMA_KEY, &schema.to_be_bytes()[..]).map_err(fault)?;
    drop(meta);
    transaction.commit().map_err(fault)
}

/// Schema and domain of a file; none if it is new.
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
        transaction.open_table(ROOTS).map_err(fault)?;
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
    use redb::{ReadableTable, WriteTransaction};

    use super::*;

    const DOMAIN: SigningDomain = SigningDomain::PLACEHOLDER;

    fn database() -> Database {
        Database::builder().create_with_backend(redb::backends::InMemoryBackend::new()).unwrap()
    }

    #[test]
    fn a_newer_file_and_one_of_another_chain_are_refused() {
        let file = database();
        prepare_with(&file, &DOMAIN, 1, &[]).unwrap();
        prepare_with(&file, &DOMAIN, 1, &[]).unwrap();
        let other = SigningDomain::new(B256::repeat_byte(1));
        let found = B256::from(*DOMAIN.as_bytes());
        assert_eq!(prepare_with(&file, &other, 1, &[]), Err(StorageError::OtherDomain { found }));
        let newer = database();
        prepare_with(&newer, &DOMAIN, 7, &[]).unwrap();
        assert_eq!(prepare(&newer, &DOMAIN), Err(StorageError::NewerSchema { found: 7, known: SCHEMA }));
    }

    #[test]
    fn an_older_file_is_migrated_step_by_step_or_not_at_all() {
        const NOTES: redb::TableDefinition<'_, u32, ()> = redb::TableDefinition::new("notes");
        fn note(transaction: &WriteTransaction, step: u32) -> Result<(), StorageError> {
            transaction.open_table(NOTES).map_err(fault)?.insert(step, ()).map(drop).map_err(fault)
        }
        let fails: Migration = |_| Err(StorageError::Poisoned);
        let steps: [Migration; 3] = [|t| note(t, 1), |t| note(t, 2), |t| note(t, 3)];
        let file = database();
        prepare_with(&file, &DOMAIN, 2, &steps[..1]).unwrap();
        assert!(prepare_with(&file, &DOMAIN, 4, &[steps[0], steps[1], fails]).is_err());
        assert_eq!(identity(&file).unwrap().unwrap().0, 2, "nothing of it is left");
        prepare_with(&file, &DOMAIN, 4, &steps).unwrap();
        assert_eq!(identity(&file).unwrap().unwrap().0, 4);
        let notes = file.begin_read().unwrap().open_table(NOTES).unwrap();
        let notes: Vec<u32> = notes.iter().unwrap().map(|note| note.unwrap().0.value()).collect();
        assert_eq!(notes, [2, 3]);
    }
}
