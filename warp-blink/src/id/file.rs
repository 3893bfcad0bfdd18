//! The file that keeps an identity's seed.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::Identity;

/// The first word of a key file; the seed follows as 64 hexadecimal digits.
const MAGIC: &str = "warp-blink-identity-1";

/// Above this many bytes a file is no key file: the text form has 87.
const MAX_FILE: u64 = 256;

impl Identity {
    /// Reads the identity from a key file, or makes a new identity and the file if there is none.
    ///
    /// The file holds either the line that this function writes, `warp-blink-identity-1 <64 hexadecimal digits>`, or
    /// the bare 32 bytes of the seed. It is created readable by its owner alone (mode 0600), whole or not at all,
    /// and never over another: of two processes that start at once, both get the same identity. Directories are not
    /// created.
    ///
    /// # Errors
    /// [`KeyFileError`], which names the file and says what to do; among others for a file that other users of the
    /// machine can read. No error writes or removes an existing file.
    pub fn load_or_create(path: impl AsRef<Path>) -> Result<Self, KeyFileError> {
        let path = path.as_ref();
        match load(path) {
            Err(KeyFileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => create(path),
            other => other,
        }
    }
}

/// Why a key file gives no identity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// The file cannot be read or written.
    #[error("cannot {action} the key file {path}: {source}")]
    Io {
        /// What was tried: read, create.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others can read or write the file.
    #[error(
        "the key file {path} is open to other users (mode {mode:03o}): if nobody else can have read it, run \
         `chmod 600` on it, else make a new identity"
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is something else.
    #[error("{path} is not a key file of this program: name another path, or restore it from a backup")]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// The system gave no randomness.
    #[error("the system gave no random bytes for a new identity: {0}")]
    Entropy(getrandom::Error),
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeyFileError {
    move |source| KeyFileError::Io { action, path: path.to_owned(), source }
}

fn load(path: &Path) -> Result<Identity, KeyFileError> {
    let read = io_error("read", path);
    let format = || KeyFileError::Format { path: path.to_owned() };
    // Asked before opening: opening a pipe would wait for its other end.
    match fs::metadata(path) {
        Ok(found) if found.is_file() => {}
        Ok(_) => return Err(format()),
        Err(e) => return Err(read(e)),
    }
    let file = File::open(path).map_err(io_error("read", path))?;
    check_mode(&file, path)?;
    let mut content = Zeroizing::new([0; MAX_FILE as usize + 1]);
    let mut len = 0;
    while len < content.len() {
        match (&file).read(&mut content[len..]).map_err(io_error("read", path))? {
            0 => break,
            n => len += n,
        }
    }
    let seed = parse(&content[..len]).ok_or_else(format)?;
    Ok(Identity::from_seed(*seed))
}

#[cfg(unix)]
fn check_mode(file: &File, path: &Path) -> Result<(), KeyFileError> {
    use std::os::unix::fs::PermissionsExt;
    // Of the opened file, not of the path, which somebody might exchange in between.
    let mode = file.metadata().map_err(io_error("read", path))?.permissions().mode() & 0o777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(KeyFileError::Exposed { path: path.to_owned(), mode }) }
}

#[cfg(not(unix))]
fn check_mode(_: &File, _: &Path) -> Result<(), KeyFileError> {
    // Windows: files in a user's profile are closed to others by inheritance.
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a key file is made by the driver's side, never by the core")]
fn create(path: &Path) -> Result<Identity, KeyFileError> {
    let mut random = Zeroizing::new([0; 40]);
    getrandom::fill(random.as_mut()).map_err(KeyFileError::Entropy)?;
    let (seed, suffix) = random.split_at(32);
    let identity = Identity::from_seed(seed.try_into().unwrap_or_default());

    // Written beside, then linked: the name appears with the whole content, and only if it is free.
    let mut beside = path.as_os_str().to_owned();
    beside.push(".");
    beside.push(suffix.iter().map(|b| format!("{b:02x}")).collect::<String>());
    let beside = PathBuf::from(beside);
    let linked = write_new(&beside, &identity).and_then(|()| fs::hard_link(&beside, path));
    let removed = fs::remove_file(&beside);
    match linked {
        Ok(()) => {
            removed.map_err(io_error("create", path))?;
            sync_directory(path).map_err(io_error("create", path))?;
            Ok(identity)
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => load(path),
        // File systems without hard links (FAT, some network and phone storage): there a crash in the middle leaves
        // a file that load refuses by its format.
        Err(e) if matches!(e.kind(), io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied) => {
            match write_new(path, &identity) {
                Ok(()) => Ok(identity),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => load(path),
                Err(e) => Err(io_error("create", path)(e)),
            }
        }
        Err(e) => Err(io_error("create", path)(e)),
    }
}

/// Creates `path`, which must not exist, with mode 0600, and waits until the content is on the disk.
fn write_new(path: &Path, identity: &Identity) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let mut file = options.open(path)?;
    file.write_all(text(identity).as_bytes())?;
    file.sync_all()
}

#[cfg(unix)]
fn sync_directory(path: &Path) -> io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(parent)?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}

fn text(identity: &Identity) -> Zeroizing<String> {
    // The capacity is exact, so that no copy is left behind by growth.
    let mut text = Zeroizing::new(String::with_capacity(MAGIC.len() + 66));
    text.push_str(MAGIC);
    text.push(' ');
    for byte in identity.expose_seed() {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(digit.into(), 16).unwrap_or('0'));
        }
    }
    text.push('\n');
    text
}

fn parse(content: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let mut seed = Zeroizing::new([0; 32]);
    if content.len() == 32 {
        seed.copy_from_slice(content);
        return Some(seed);
    }
    let digits = content.strip_prefix(MAGIC.as_bytes())?.strip_prefix(b" ")?.trim_ascii_end();
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in seed.iter_mut().zip(digits.as_chunks::<2>().0) {
        let [high, low] = pair.map(|digit| char::from(digit).to_digit(16));
        *byte = u8::try_from(high? << 4 | low?).ok()?;
    }
    Some(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_is_private_and_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let made = Identity::load_or_create(&path).unwrap();
        assert_eq!(Identity::load_or_create(&path).unwrap().public(), made.public());
        assert_ne!(Identity::load_or_create(dir.path().join("other")).unwrap().public(), made.public());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left beside the files");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_file_open_to_others_is_refused_and_left_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        Identity::load_or_create(&path).unwrap();
        let before = fs::read(&path).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = Identity::load_or_create(&path).unwrap_err();
            assert!(matches!(error, KeyFileError::Exposed { mode: found, .. } if found == mode), "{error}");
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
        assert_eq!(fs::read(&path).unwrap(), before);
    }

    #[test]
    fn raw_seeds_are_read_and_other_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let with = |name: &str, content: &[u8]| {
            let path = dir.path().join(name);
            fs::write(&path, content).unwrap();
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt;
                fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            }
            Identity::load_or_create(path)
        };
        let expected = Identity::from_seed([5; 32]);
        assert_eq!(with("raw", &[5; 32]).unwrap().public(), expected.public());
        let line = text(&expected);
        assert_eq!(with("text", line.as_bytes()).unwrap().public(), expected.public());
        assert_eq!(
            with("dos", format!("{}\r\n", line.trim_end()).as_bytes()).unwrap().public(),
            expected.public()
        );
        for (name, bad) in [
            ("empty", &b""[..]),
            ("short", &[5; 31]),
            ("half", &line.as_bytes()[..50]),
            ("digit", line.replace("05", "0g").as_bytes()),
            ("sign", line.replacen(" 05", " +5", 1).as_bytes()),
            ("long", &[b' '; 4096]),
        ] {
            assert!(matches!(with(name, bad), Err(KeyFileError::Format { .. })), "{name}");
        }
        assert!(matches!(Identity::load_or_create(dir.path()), Err(KeyFileError::Format { .. })));
    }

    #[test]
    fn a_missing_directory_is_an_error_with_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let error = Identity::load_or_create(dir.path().join("no/key")).unwrap_err();
        assert!(error.to_string().contains("no/key"), "{error}");
    }

    #[test]
    fn processes_that_start_at_once_agree() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let keys: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| Identity::load_or_create(&path).unwrap().public())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    }
}
