//! The store port: where sealed entries are kept between runs.
//!
//! An app brings its own [`Store`] (its database, the system's key chain) or takes
//! [`FileStore`](crate::driver::store::FileStore). It never sees what an entry says: everything is sealed under a key
//! of the identity before it gets here, by [`SealedStore`](crate::driver::store::SealedStore). What it does see is
//! which entries there are, how large they are and when they change; and it could bring back an older entry unnoticed.

use std::{error, fmt, io, path::PathBuf, sync::Arc};

/// The most bytes of one entry: 1 MiB. The largest so far, a full address book of 8,192 addresses of 100 bytes, has 0.84.
pub const MAX_VALUE: usize = 1 << 20;

/// The most bytes of an entry's name, so that it fits every file system (255 bytes) with room for endings.
const MAX_NAME: usize = 64;

/// Keeps entries. One value for each key; what was saved last is what is loaded.
///
/// The methods block, and may take as long as a disk takes: the driver calls them where blocking is allowed
/// (`tokio::task::spawn_blocking`), from several threads, and so should an app. An implementation keeps values of up to
/// [`MAX_VALUE`] bytes. It replaces an entry whole or not at all, and returns from `save` and `delete` when a crash
/// cannot undo them any more.
pub trait Store: Send + Sync + 'static {
    /// The entry, or `None` if there is none.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be known whether there is one, or it cannot be read.
    fn load(&self, key: &StoreKey) -> Result<Option<Vec<u8>>, StoreError>;

    /// Makes `value` the entry.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] above [`MAX_VALUE`] bytes, and whatever keeps it from being written. After an error the
    /// entry is the old one or the new one, whole.
    fn save(&self, key: &StoreKey, value: &[u8]) -> Result<(), StoreError>;

    /// Removes the entry, if there is one.
    ///
    /// # Errors
    /// [`StoreError`] if it is, or may be, still there.
    fn delete(&self, key: &StoreKey) -> Result<(), StoreError>;
}

impl<S: Store + ?Sized> Store for Arc<S> {
    fn load(&self, key: &StoreKey) -> Result<Option<Vec<u8>>, StoreError> {
        (**self).load(key)
    }

    fn save(&self, key: &StoreKey, value: &[u8]) -> Result<(), StoreError> {
        (**self).save(key, value)
    }

    fn delete(&self, key: &StoreKey) -> Result<(), StoreError> {
        (**self).delete(key)
    }
}

/// The name of an entry, with the version of what is in it: `addresses/1`. A format that changes gets a new version,
/// and so a new entry; the old one stays readable for those who know it.
///
/// Names are part of the program, never of its input, so there are only as many entries as the program names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreKey(&'static str);

impl StoreKey {
    /// Where nodes were last found: an [`AddressBook`](crate::driver::store::AddressBook).
    pub const ADDRESSES: Self = Self("addresses/1");

    /// The own contact token.
    pub const TOKEN: Self = Self("contact-token/1");

    /// Which calls rang on their first message alone.
    pub const REPLAY: Self = Self("replay/1");

    /// The calls to which a later run can come back.
    pub const RESUME: Self = Self("resume/1");

    /// The number of the own signed record, and the highest numbers of others'.
    pub const RECORDS: Self = Self("records/1");

    /// Whom to tell of a call that they missed.
    pub const MISSED: Self = Self("missed/1");

    /// What peers gave of themselves, in sixteen entries by the last four bits of their keys, since one entry holds
    /// about 800 of them.
    pub(crate) const PEERS: [Self; 16] = [
        Self("peers-0/1"),
        Self("peers-1/1"),
        Self("peers-2/1"),
        Self("peers-3/1"),
        Self("peers-4/1"),
        Self("peers-5/1"),
        Self("peers-6/1"),
        Self("peers-7/1"),
        Self("peers-8/1"),
        Self("peers-9/1"),
        Self("peers-a/1"),
        Self("peers-b/1"),
        Self("peers-c/1"),
        Self("peers-d/1"),
        Self("peers-e/1"),
        Self("peers-f/1"),
    ];

    /// A name of small letters, digits and hyphens that begins with a letter, then `/`, then a version from 1 to 99999;
    /// at most 64 bytes.
    ///
    /// # Errors
    /// [`StoreKeyError`] for any other name.
    pub fn new(name: &'static str) -> Result<Self, StoreKeyError> {
        let error = StoreKeyError { name };
        let (what, version) = name.split_once('/').ok_or(error)?;
        let begins = what.starts_with(|c: char| c.is_ascii_lowercase());
        let plain = what.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let counts = (1..=5).contains(&version.len()) && version.bytes().all(|b| b.is_ascii_digit());
        let fits = name.len() <= MAX_NAME && begins && plain && counts && !version.starts_with('0');
        if fits { Ok(Self(name)) } else { Err(error) }
    }

    /// The name. It holds one `/`, which is no path.
    pub const fn name(&self) -> &'static str {
        self.0
    }
}

impl fmt::Display for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreKey({self})")
    }
}

/// A text that names no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} names no entry: a name looks like addresses/1, in small letters, digits and hyphens")]
pub struct StoreKeyError {
    /// The text.
    name: &'static str,
}

/// Why an entry was not loaded, saved or deleted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// More bytes than are kept. Nothing was changed.
    #[error("the entry {key} has {size} bytes, more than the {max} that are kept: store less, or delete it")]
    TooLarge {
        /// Which entry.
        key: StoreKey,
        /// Its size in bytes.
        size: u64,
        /// The most bytes.
        max: usize,
    },
    /// A file or a directory refuses.
    #[error("cannot {action} {path}: {source} (a store needs a directory that this user can write)")]
    Io {
        /// What was tried: create, lock, read, write, delete.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Where a file should be there is something else.
    #[error("{path} is not a regular file: move it away, or give the store a directory of its own")]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// Others can read or write the directory.
    #[error(
        "the directory {path} is open to other users (mode {mode:03o}): run `chmod 700` on it, or name another \
         directory for the store"
    )]
    Exposed {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Another store, of this process or another one, has the directory open.
    #[error("the directory {path} is in use by another store: end that, share it, or name another directory")]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// An app's own store failed.
    #[error("the app's store failed: {0}")]
    Backend(#[source] Box<dyn error::Error + Send + Sync>),
}

impl StoreError {
    /// The error of an app's own store.
    pub fn backend(error: impl Into<Box<dyn error::Error + Send + Sync>>) -> Self {
        Self::Backend(error.into())
    }
}

/// Why something sealed was not loaded, saved or deleted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealedError {
    /// The store below failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system gave no randomness.
    #[error("the system gave no random bytes, and nothing can be sealed without: try again later")]
    Entropy,
    /// The entry was sealed by another identity, or its first 41 bytes are damaged.
    #[error(
        "the entry {key} was sealed by another identity: start with that one, or give this one its own store"
    )]
    OtherIdentity {
        /// Which entry.
        key: StoreKey,
    },
    /// The entry is cut, was changed, or belongs under another name.
    #[error("the entry {key} is damaged or another entry's: restore it from a backup, or delete it")]
    Damaged {
        /// Which entry.
        key: StoreKey,
    },
    /// The entry is sealed in a way that this version does not know.
    #[error("the entry {key} is sealed in form {found}, which is not known here: update, or delete it")]
    Version {
        /// Which entry.
        key: StoreKey,
        /// The number of the form.
        found: u8,
    },
}

/// Refuses what is larger than [`MAX_VALUE`].
pub(crate) fn check_size(key: &StoreKey, size: u64) -> Result<(), StoreError> {
    if size <= MAX_VALUE as u64 {
        Ok(())
    } else {
        Err(StoreError::TooLarge { key: *key, size, max: MAX_VALUE })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_be_paths_or_collide_are_refused() {
        for good in ["addresses/1", "a/99999", "missed-calls2/10", StoreKey::ADDRESSES.name()] {
            assert_eq!(StoreKey::new(good).map(|k| k.name()), Ok(good));
        }
        for bad in [
            "",
            "/",
            "a",
            "a/",
            "/1",
            "a/0",
            "a/01",
            "a/1/2",
            "a/x",
            "a/-1",
            "a/100000",
            "../1",
            "a.b/1",
            "A/1",
            "a\\b/1",
            "a b/1",
            "1a/1",
            "-a/1",
            "ä/1",
            "a/1\0",
            "a/1 ",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/1",
        ] {
            assert_eq!(StoreKey::new(bad), Err(StoreKeyError { name: bad }));
        }
    }

    #[test]
    fn errors_say_what_failed_and_why() {
        let key = StoreKey::ADDRESSES;
        assert!(check_size(&key, MAX_VALUE as u64).is_ok());
        let error = check_size(&key, MAX_VALUE as u64 + 1).unwrap_err().to_string();
        assert!(error.contains("addresses/1") && error.contains("1048577"), "{error}");
        let error = StoreError::backend("disk full");
        assert_eq!(error.to_string(), "the app's store failed: disk full");
    }
}
