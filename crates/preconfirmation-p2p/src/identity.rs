//! The key that a node is known by, kept in a file.
//!
//! A key file is text: 64 hexadecimal digits, with or without `0x`, are the 32 bytes of a secp256k1 secret, as
//! in the `p2p.priv.path` of an OP node. `ed25519:` in front of them makes it an ed25519 secret, `secp256k1:`
//! says what holds anyway. Space around it is ignored. It may also come through a pipe: a FIFO, or `/dev/stdin`.
//!
//! Nobody but its owner may read or change a key file. A read-only file (0440) may be readable by its group: so secrets
//! are mounted into containers.
//!
//! Discovery needs a secp256k1 key, because the records of discv5 are signed with one.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use enr::CombinedKey;
use libp2p::identity::{DecodingError, Keypair, ed25519, secp256k1};
use zeroize::Zeroizing;

/// Longest key file in bytes; one with a key and much space around it is shorter.
const MAX_FILE_BYTES: u64 = 4096;

const SECRET_BYTES: usize = 32;
const ED25519: &str = "ed25519:";
const SECP256K1: &str = "secp256k1:";

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The file is there and cannot be read.
    #[error("cannot read the key file {}: is it a file that this user may read?", path.display())]
    Read {
        /// The key file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no file and none can be made.
    #[error("cannot create the key file {}: make its directory writable or choose another path", path.display())]
    Create {
        /// The key file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others than its owner may read or change the file, and with it be this node.
    #[error(
        "the key file {} has mode {mode:03o}, which lets others at it: run `chmod 600 {}` (a mounted secret may be 0440), \
         and make a new key if others may have read it",
        path.display(),
        path.display()
    )]
    Exposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file does not hold a key.
    #[error("the key file {} holds no key: repair it, or move it away and a new one is made", path.display())]
    Malformed {
        /// The key file.
        path: PathBuf,
        /// What is wrong with it.
        source: KeyError,
    },
}

/// Why a text is no key. The text is a secret, so none of it is shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The number of hexadecimal digits is wrong.
    #[error("a key has 64 hexadecimal digits, not {digits} characters")]
    Length {
        /// Characters where the digits should be.
        digits: usize,
    },
    /// A character is no hexadecimal digit.
    #[error("character {index} of the key is no hexadecimal digit")]
    Digit {
        /// Its place, from zero at the first digit.
        index: usize,
    },
    /// The bytes are no secret of the curve: zero, or not below its order.
    #[error("these 32 bytes are no secret key of the curve")]
    Secret(#[source] DecodingError),
}

/// The identity in a key file; if there is no such file, a new secp256k1 key in a new one. Its directory is
/// made where it is missing. A new file appears whole or not at all, with rights for its owner only (0600);
/// where two processes make it at once, both get the same key. Blocks on the disk, and on a pipe until it is closed.
///
/// # Errors
/// [`IdentityError`] says which file, and what to do about it.
pub fn load_or_create(path: &Path) -> Result<Keypair, IdentityError> {
    if let Some(found) = load(path)? {
        return Ok(found);
    }
    match create(path)? {
        Some(created) => Ok(created),
        // Somebody else was faster.
        None => load(path)?.ok_or_else(|| IdentityError::Create {
            path: path.to_owned(),
            source: io::ErrorKind::NotFound.into(),
        }),
    }
}

/// A new secp256k1 identity in a new key file, as [`load_or_create`] makes it, or nothing if there is a file, which stays as it is.
///
/// # Errors
/// [`IdentityError::Create`].
pub fn create(path: &Path) -> Result<Option<Keypair>, IdentityError> {
    write_new(path).map_err(|source| IdentityError::Create { path: path.to_owned(), source })
}

/// The identity of a text, in the format of a key file.
///
/// # Errors
/// [`KeyError`] tells what is wrong with it.
pub fn from_hex(text: &str) -> Result<Keypair, KeyError> {
    let text = text.trim();
    let (is_ed25519, digits) = match text.strip_prefix(ED25519) {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix(SECP256K1).unwrap_or(text)),
    };
    let mut secret = bytes(digits.strip_prefix("0x").unwrap_or(digits))?;
    if is_ed25519 {
        let secret = ed25519::SecretKey::try_from_bytes(secret.as_mut_slice()).map_err(KeyError::Secret)?;
        Ok(ed25519::Keypair::from(secret).into())
    } else {
        let secret = secp256k1::SecretKey::try_from_bytes(secret.as_mut_slice()).map_err(KeyError::Secret)?;
        Ok(secp256k1::Keypair::from(secret).into())
    }
}

/// The identity in a key file, or nothing if there is no file. Blocks as [`load_or_create`] does.
///
/// # Errors
/// [`IdentityError`] says what to do about the file.
pub fn load(path: &Path) -> Result<Option<Keypair>, IdentityError> {
    let failed = |source| IdentityError::Read { path: path.to_owned(), source };
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    // Of what is open, so that nobody can swap it in between.
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(failed(io::ErrorKind::IsADirectory.into()));
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
        // The bits of a terminal or another device say nothing of what is typed there.
        let has_rights = metadata.is_file() || metadata.file_type().is_fifo();
        let mode = metadata.permissions().mode() & 0o777;
        if has_rights && is_exposed(mode) {
            return Err(IdentityError::Exposed { path: path.to_owned(), mode });
        }
    }
    // A pipe has no length; one byte more than may be tells that there is too much.
    let mut text = Zeroizing::new(String::new());
    io::Read::take(file, MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(failed(io::ErrorKind::FileTooLarge.into()));
    }
    let malformed = |source| IdentityError::Malformed { path: path.to_owned(), source };
    from_hex(&text).map(Some).map_err(malformed)
}

/// Whether others than the owner may read or change a file: but for a group that may read what nobody may write.
#[cfg(unix)]
const fn is_exposed(mode: u32) -> bool {
    let group_reads = mode & 0o040 != 0;
    mode & 0o037 != 0 || (group_reads && mode & 0o200 != 0)
}

/// Writes a new key, or nothing if there is a file already.
fn write_new(path: &Path) -> io::Result<Option<Keypair>> {
    let key = secp256k1::Keypair::generate();
    let secret = Zeroizing::new(key.secret().to_bytes());
    let mut text = Zeroizing::new(String::with_capacity(2 * SECRET_BYTES + 1));
    for byte in secret.iter() {
        for digit in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(digit.into(), 16));
        }
    }
    text.push('\n');

    let directory = crate::disk::directory_of(path);
    fs::create_dir_all(directory)?;
    // Has rights for its owner only, from the first moment on.
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => {}
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
        Err(error) => return Err(error.error),
    }
    crate::disk::sync_directory(directory)?;
    Ok(Some(key.into()))
}

/// 32 bytes from their digits.
fn bytes(digits: &str) -> Result<Zeroizing<[u8; SECRET_BYTES]>, KeyError> {
    let count = digits.chars().count();
    if count != 2 * SECRET_BYTES {
        return Err(KeyError::Length { digits: count });
    }
    let mut bytes = Zeroizing::new([0; SECRET_BYTES]);
    for (index, digit) in digits.chars().enumerate() {
        let value = digit.to_digit(16).and_then(|value| u8::try_from(value).ok());
        let (Some(value), Some(byte)) = (value, bytes.get_mut(index / 2)) else {
            return Err(KeyError::Digit { index });
        };
        *byte = (*byte << 4) | value;
    }
    Ok(bytes)
}

/// The key that signs the node's record (ENR), if the identity is a secp256k1 key.
pub(crate) fn enr_key(identity: &Keypair) -> Option<CombinedKey> {
    let secret = identity.clone().try_into_secp256k1().ok()?;
    let mut secret = Zeroizing::new(secret.secret().to_bytes());
    CombinedKey::secp256k1_from_bytes(secret.as_mut_slice()).ok()
}

#[cfg(test)]
mod tests {
    use libp2p::identity::KeyType;

    use super::*;

    /// The order of secp256k1, which is one more than its largest secret.
    const ORDER: &str = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn write(path: &Path, text: &str, mode: u32) {
        fs::write(path, text).unwrap();
        #[cfg(unix)]
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    }

    #[test]
    fn the_same_key_again_after_the_first_start() {
        let directory = directory();
        let path = directory.path().join("not/there/yet/key");
        let first = load_or_create(&path).unwrap();
        assert_eq!(first.key_type(), KeyType::Secp256k1);
        let again = load_or_create(&path).unwrap();
        assert_eq!(first.public(), again.public());
        // What an operator can paste elsewhere.
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.len(), 65);
        assert_eq!(from_hex(&text).unwrap().public(), first.public());
        // Nothing is left beside it.
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_new_key_is_for_its_owner_only_and_an_exposed_one_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = directory();
        let path = directory.path().join("key");
        let key = load_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        for mode in [0o640, 0o604, 0o620, 0o644, 0o666, 0o444, 0o460, 0o450, 0o441] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = load_or_create(&path).unwrap_err();
            assert!(
                matches!(&error, IdentityError::Exposed { mode: found, .. } if *found == mode),
                "{error}"
            );
            let text = error.to_string();
            assert!(text.contains("chmod 600") && text.contains(&format!("{mode:o}")), "{text}");
        }
        for mode in [0o400, 0o440] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(load_or_create(&path).unwrap().public(), key.public());
        }
    }

    #[test]
    fn starts_at_the_same_time_agree_on_one_key() {
        let directory = directory();
        let path = directory.path().join("key");
        let keys: Vec<_> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..8).map(|_| scope.spawn(|| load_or_create(&path).unwrap())).collect();
            starts.into_iter().map(|start| start.join().unwrap().public()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]));
    }

    #[test]
    fn both_kinds_of_keys_with_and_without_prefixes() {
        let digits = "0123456789abcdef".repeat(4);
        let secp256k1 = from_hex(&digits).unwrap();
        assert_eq!(secp256k1.key_type(), KeyType::Secp256k1);
        let same = [
            format!("0x{digits}"),
            format!(" {digits}\r\n"),
            digits.to_uppercase(),
            format!("secp256k1:{digits}"),
            format!("secp256k1:0x{digits}"),
        ];
        for text in same {
            assert_eq!(from_hex(&text).unwrap().public(), secp256k1.public(), "{text:?}");
        }
        let ed25519 = from_hex(&format!("ed25519:0x{digits}")).unwrap();
        assert_eq!(ed25519.key_type(), KeyType::Ed25519);
        let directory = directory();
        let path = directory.path().join("key");
        write(&path, &format!("ed25519:{digits}\n"), 0o600);
        assert_eq!(load_or_create(&path).unwrap().public(), ed25519.public());
    }

    #[test]
    fn what_is_no_key_is_refused_and_left_alone() {
        let directory = directory();
        let path = directory.path().join("key");
        let good = "01".repeat(32);
        let refused = |text: &str| {
            write(&path, text, 0o600);
            let error = load_or_create(&path).unwrap_err();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            match error {
                IdentityError::Malformed { source, .. } => source,
                other => panic!("{other}"),
            }
        };
        assert!(matches!(refused(""), KeyError::Length { digits: 0 }));
        assert!(matches!(refused(&good[1..]), KeyError::Length { digits: 63 }));
        assert!(matches!(refused(&format!("{good}00")), KeyError::Length { digits: 66 }));
        assert!(matches!(refused(&format!("{}g", &good[1..])), KeyError::Digit { index: 63 }));
        assert!(matches!(refused(&format!("é{}", &good[1..])), KeyError::Digit { index: 0 }));
        assert!(matches!(refused(&"00".repeat(32)), KeyError::Secret(_)));
        assert!(matches!(refused(ORDER), KeyError::Secret(_)));

        write(&path, &" ".repeat(5000), 0o600);
        assert!(matches!(load_or_create(&path), Err(IdentityError::Read { .. })));
        assert!(matches!(load_or_create(directory.path()), Err(IdentityError::Read { .. })));
    }

    #[test]
    fn a_path_that_cannot_be_made_is_named() {
        let directory = directory();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        let path = file.join("key");
        let error = load_or_create(&path).unwrap_err();
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }
}
