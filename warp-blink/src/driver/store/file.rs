//! Entries in files of a directory.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use crate::ports::store::{MAX_VALUE, Store, StoreError, StoreKey, check_size};

/// The file whose lock says that a directory is in use. It stays, empty, when the store is closed.
const LOCK: &str = "lock";

/// Keeps each entry in a file of its own: `addresses/1` in `addresses-1.sealed`.
///
/// The directory belongs to this user alone (mode 0700, files 0600) and to one store at a time, until that is dropped;
/// several phones with one identity can share one store in an [`Arc`](std::sync::Arc). An entry is written beside and
/// then renamed, so that a crash leaves the old one or the new one. Each save waits for the disk twice: a program that
/// has much to say should gather it.
///
/// Where the file system knows no locks, nothing keeps two processes from the same directory, and the last one to save
/// wins. On Windows the permissions are those that the directory inherits.
#[derive(Debug)]
pub struct FileStore {
    dir: PathBuf,
    lock: File,
    /// Held while a file changes: the name beside an entry is always the same, so that a crash leaves at most one.
    changing: Mutex<()>,
}

impl FileStore {
    /// Opens the store in this directory, and creates the directory and those above it if they are missing.
    ///
    /// # Errors
    /// [`StoreError::Exposed`] if other users can look into the directory or change it, [`StoreError::InUse`] if another
    /// store has it open, and [`StoreError::Io`] if it cannot be created or written.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, StoreError> {
        let dir = dir.as_ref();
        // Absolute, so that it stays the same directory when the process changes its own.
        let dir = std::path::absolute(dir).map_err(io_error("create", dir))?;
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::DirBuilderExt;
            builder.mode(0o700);
        }
        builder.create(&dir).map_err(io_error("create", &dir))?;
        check_mode(&dir)?;
        let path = dir.join(LOCK);
        let lock = private().create(true).truncate(false).open(&path).map_err(io_error("lock", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::InUse { path: dir }),
            Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => {
                tracing::warn!("the store's file system knows no locks: nothing keeps another process out");
            }
            Err(TryLockError::Error(e)) => return Err(io_error("lock", &path)(e)),
        }
        Ok(Self { dir, lock, changing: Mutex::new(()) })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The entry's file, and the one that is written beside it. No two names share a file: a version holds no hyphen.
    fn paths(&self, key: &StoreKey) -> (PathBuf, PathBuf) {
        let name = key.name().replace('/', "-");
        (self.dir.join(format!("{name}.sealed")), self.dir.join(format!("{name}.new")))
    }
}

impl Store for FileStore {
    fn load(&self, key: &StoreKey) -> Result<Option<Vec<u8>>, StoreError> {
        let (path, _) = self.paths(key);
        // Asked before opening: opening a pipe would wait for its other end.
        match fs::metadata(&path) {
            Ok(found) if found.is_file() => check_size(key, found.len())?,
            Ok(_) => return Err(StoreError::NotAFile { path }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io_error("read", &path)(e)),
        }
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io_error("read", &path)(e)),
        };
        let mut value = Vec::new();
        file.take(MAX_VALUE as u64 + 1).read_to_end(&mut value).map_err(io_error("read", &path))?;
        check_size(key, value.len() as u64)?;
        Ok(Some(value))
    }

    fn save(&self, key: &StoreKey, value: &[u8]) -> Result<(), StoreError> {
        check_size(key, value.len() as u64)?;
        let (path, beside) = self.paths(key);
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        remove(&beside)?;
        if let Err(error) = write_new(&beside, value) {
            // What is left is not the entry; the next save removes it if this does not.
            let _ = fs::remove_file(&beside);
            return Err(io_error("write", &beside)(error));
        }
        if let Err(error) = fs::rename(&beside, &path) {
            let _ = fs::remove_file(&beside);
            return Err(io_error("write", &path)(error));
        }
        sync_directory(&self.dir)
    }

    fn delete(&self, key: &StoreKey) -> Result<(), StoreError> {
        let (path, beside) = self.paths(key);
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        remove(&beside)?;
        remove(&path)?;
        sync_directory(&self.dir)
    }
}

impl Drop for FileStore {
    fn drop(&mut self) {
        // Closing the file would do, were it not for child processes that are just being started and still have it
        // open. If this fails, closing is what remains.
        let _ = self.lock.unlock();
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError::Io { action, path: path.to_owned(), source }
}

/// Opens files that are readable and writable by their owner alone.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options
}

fn write_new(path: &Path, value: &[u8]) -> io::Result<()> {
    let mut file = private().create_new(true).open(path)?;
    file.write_all(value)?;
    file.sync_all()
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(io_error("delete", path)(e)),
        _ => Ok(()),
    }
}

#[cfg(unix)]
fn check_mode(dir: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(dir).map_err(io_error("read", dir))?.permissions().mode() & 0o777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(StoreError::Exposed { path: dir.to_owned(), mode }) }
}

#[cfg(not(unix))]
fn check_mode(_: &Path) -> Result<(), StoreError> {
    Ok(())
}

/// A rename and a removal are on the disk only when the directory is.
#[cfg(unix)]
fn sync_directory(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io_error("write", dir))
}

#[cfg(not(unix))]
fn sync_directory(_: &Path) -> Result<(), StoreError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{
        super::{AddressBook, SealedStore},
        *,
    };
    use crate::id::Identity;

    const KEY: StoreKey = StoreKey::ADDRESSES;

    fn store() -> (tempfile::TempDir, FileStore) {
        let dir = tempfile::tempdir().unwrap();
        let store = FileStore::open(dir.path().join("a/b")).unwrap();
        (dir, store)
    }

    #[test]
    fn entries_survive_closing_and_are_gone_when_deleted() {
        let (_dir, store) = store();
        let other = StoreKey::new("other/1").unwrap();
        assert_eq!(store.load(&KEY).unwrap(), None);
        store.delete(&KEY).unwrap();
        store.save(&KEY, b"one").unwrap();
        store.save(&KEY, b"two, longer").unwrap();
        store.save(&other, b"").unwrap();
        let dir = store.dir().to_owned();
        drop(store);
        let store = FileStore::open(&dir).unwrap();
        assert_eq!(store.load(&KEY).unwrap().as_deref(), Some(&b"two, longer"[..]));
        assert_eq!(store.load(&other).unwrap().as_deref(), Some(&b""[..]));
        store.delete(&KEY).unwrap();
        assert_eq!(store.load(&KEY).unwrap(), None);
        let mut names: Vec<_> = fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["lock", "other-1.sealed"], "nothing else is left");
    }

    #[test]
    fn a_book_survives_a_restart_in_files() {
        let dir = tempfile::tempdir().unwrap();
        let id = Identity::from_seed([3; 32]);
        let open = || SealedStore::new(Arc::new(FileStore::open(dir.path().join("s")).unwrap()), &id);
        let mut book = AddressBook::new();
        assert!(book.remember(id.public().into(), "/ip4/192.0.2.1/tcp/4001"));
        open().save(&KEY, &book.encode().unwrap()).unwrap();
        let found = AddressBook::decode(&open().load(&KEY).unwrap().unwrap()).unwrap();
        assert_eq!(found, book);
        assert!(found.addresses(&id.public().into()).eq(["/ip4/192.0.2.1/tcp/4001"]));
        let file = std::fs::read(dir.path().join("s/addresses-1.sealed")).unwrap();
        assert!(!file.windows(9).any(|w| w == b"192.0.2.1"), "nothing is readable on the disk");
    }

    #[cfg(unix)]
    #[test]
    fn directories_and_files_are_private() {
        use std::os::unix::fs::PermissionsExt;
        let (dir, store) = store();
        store.save(&KEY, b"x").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&dir.path().join("a")), 0o700);
        assert_eq!(mode(store.dir()), 0o700);
        for file in fs::read_dir(store.dir()).unwrap() {
            assert_eq!(mode(&file.unwrap().path()), 0o600);
        }
        let path = store.dir().to_owned();
        drop(store);
        for open in [0o755, 0o750, 0o704, 0o720, 0o701] {
            fs::set_permissions(&path, fs::Permissions::from_mode(open)).unwrap();
            let error = FileStore::open(&path).unwrap_err();
            assert!(matches!(error, StoreError::Exposed { mode, .. } if mode == open), "{error}");
            let text = error.to_string();
            assert!(text.contains("chmod 700") && text.contains(&format!("{open:o}")), "{text}");
            assert!(text.contains(path.to_str().unwrap()), "{text}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(FileStore::open(&path).unwrap().load(&KEY).unwrap().as_deref(), Some(&b"x"[..]));
    }

    #[test]
    fn an_entry_is_replaced_and_never_overwritten() {
        let (_dir, store) = store();
        store.save(&KEY, b"old").unwrap();
        let (path, beside) = store.paths(&KEY);
        let mut old = File::open(path).unwrap();
        // As a crash in the middle of a save leaves it.
        fs::write(&beside, b"ha").unwrap();
        assert_eq!(store.load(&KEY).unwrap().as_deref(), Some(&b"old"[..]));
        store.save(&KEY, b"new").unwrap();
        assert_eq!(store.load(&KEY).unwrap().as_deref(), Some(&b"new"[..]));
        let mut seen = String::new();
        old.read_to_string(&mut seen).unwrap();
        assert_eq!(seen, "old", "a reader keeps the whole entry that it opened");
        assert!(!beside.exists());
    }

    #[test]
    fn a_save_that_fails_leaves_the_old_entry() {
        let (_dir, store) = store();
        store.save(&KEY, b"old").unwrap();
        let (path, beside) = store.paths(&KEY);
        fs::create_dir(&beside).unwrap();
        let error = store.save(&KEY, b"new").unwrap_err().to_string();
        assert!(error.contains(beside.to_str().unwrap()), "{error}");
        assert_eq!(fs::read(path).unwrap(), b"old");
        fs::remove_dir(&beside).unwrap();
        // And one that fails at the renaming leaves nothing beside it.
        let (path, beside) = store.paths(&StoreKey::new("other/1").unwrap());
        fs::create_dir(&path).unwrap();
        let error = store.save(&StoreKey::new("other/1").unwrap(), b"new").unwrap_err();
        assert!(matches!(&error, StoreError::Io { path: named, .. } if *named == path), "{error}");
        assert!(!beside.exists());
        let error = store.load(&StoreKey::new("other/1").unwrap()).unwrap_err();
        assert!(matches!(error, StoreError::NotAFile { .. }), "{error}");
    }

    #[test]
    fn readers_beside_writers_see_whole_entries() {
        let (_dir, store) = store();
        let store = Arc::new(store);
        store.save(&KEY, &[0; 1]).unwrap();
        let writers: Vec<_> = (1..=2_u8)
            .map(|n| {
                let store = store.clone();
                std::thread::spawn(move || {
                    for _ in 0..20 {
                        store.save(&KEY, &vec![n; usize::from(n) * 50_000]).unwrap();
                    }
                })
            })
            .collect();
        while !writers.iter().all(|w| w.is_finished()) {
            let value = store.load(&KEY).unwrap().unwrap();
            let expected = usize::from(value[0]) * 50_000;
            assert_eq!(value.len(), expected.max(1));
            assert!(value.iter().all(|b| *b == value[0]));
        }
        writers.into_iter().for_each(|w| w.join().unwrap());
    }

    #[test]
    fn the_size_is_bounded_both_ways() {
        let (_dir, store) = store();
        store.save(&KEY, &vec![7; MAX_VALUE]).unwrap();
        assert_eq!(store.load(&KEY).unwrap().unwrap().len(), MAX_VALUE);
        let error = store.save(&KEY, &vec![7; MAX_VALUE + 1]).unwrap_err();
        assert!(matches!(error, StoreError::TooLarge { .. }), "{error}");
        assert_eq!(store.load(&KEY).unwrap().unwrap().len(), MAX_VALUE, "the old entry stays");
        File::create(store.paths(&KEY).0).unwrap().set_len(1 << 40).unwrap();
        let error = store.load(&KEY).unwrap_err();
        assert!(matches!(error, StoreError::TooLarge { size: 0x100_0000_0000, .. }), "{error}");
        store.delete(&KEY).unwrap();
        assert_eq!(store.load(&KEY).unwrap(), None);
    }

    #[test]
    fn a_directory_belongs_to_one_store_at_a_time() {
        let (_dir, store) = store();
        let error = FileStore::open(store.dir()).unwrap_err();
        assert!(matches!(&error, StoreError::InUse { path } if path == store.dir()), "{error}");
        let dir = store.dir().to_owned();
        drop(store);
        FileStore::open(dir).unwrap();
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_named_with_the_cause() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, b"").unwrap();
        for path in [file.clone(), file.join("below")] {
            let error = FileStore::open(&path).unwrap_err();
            let StoreError::Io { action: "create", path: named, source } = &error else { panic!("{error}") };
            assert_eq!(*named, path);
            assert!(error.to_string().contains(&source.to_string()), "{error}");
        }
        let store = FileStore::open(dir.path().join("gone")).unwrap();
        fs::remove_dir_all(store.dir()).unwrap();
        let error = store.save(&KEY, b"x").unwrap_err();
        let StoreError::Io { action: "write", path, source } = &error else { panic!("{error}") };
        assert!(path.starts_with(store.dir()) && source.kind() == io::ErrorKind::NotFound, "{error}");
        assert!(FileStore::open("").is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_directory_without_the_right_to_write_is_named_with_the_cause() {
        use std::os::unix::fs::PermissionsExt;
        let (_dir, store) = store();
        let path = store.dir().to_owned();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o500)).unwrap();
        let result = store.save(&KEY, b"x");
        // The superuser may write all the same.
        if File::create(path.join("probe")).is_err() {
            let error = result.unwrap_err();
            let StoreError::Io { action: "write", source, .. } = &error else { panic!("{error}") };
            assert_eq!(source.kind(), io::ErrorKind::PermissionDenied);
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    }
}
