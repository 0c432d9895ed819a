//! Values on disk, one file a secret, only for the owner to read.
//!
//! | there is a key | file | content |
//! |---|---|---|
//! | no | `UUID.base64` | libvirt's own: the value as base64 |
//! | yes | `UUID.aes256gcm` | 12 bytes nonce, then the value, encrypted and authenticated together with the UUID |
//!
//! The key comes from systemd (`LoadCredentialEncrypted=secrets-encryption-key`): 32 bytes in the folder that
//! `$CREDENTIALS_DIRECTORY` names. A plain file that is found when there is a key is replaced by an encrypted one. Without
//! the key an encrypted file stays as it is, and asking for its value is an error.
//!
//! Why: docs/adr/0011-secrets.md.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Key, Nonce};
use uuid::Uuid;
use virt_error::{Code, Domain, Error, Result};
use virt_object::store::write_whole;
use virt_secret::{MAX_VALUE, Value};
use zeroize::Zeroizing;

/// The credential's name, which newer versions of libvirt use too.
const CREDENTIAL: &str = "secrets-encryption-key";
const PLAIN: &str = "base64";
const SEALED: &str = "aes256gcm";
const NONCE: usize = 12;
const TAG: usize = 16;
/// The longest file: base64 is the longer form; some bytes more for line ends.
const MAX_FILE: u64 = (MAX_VALUE as u64).div_ceil(3) * 4 + 64;

/// The files of values.
pub struct Vault {
    dir: PathBuf,
    key: Option<Aes256Gcm>,
}

impl Vault {
    /// Files in `dir`; with a key they are encrypted.
    pub fn new(dir: impl Into<PathBuf>, key: Option<&[u8; 32]>) -> Self {
        let key = key.map(|key| Aes256Gcm::new(&Key::<Aes256Gcm>::from(*key)));
        Self { dir: dir.into(), key }
    }

    /// As [`Vault::new`], with the key that systemd hands to the daemon in `credentials`, if any.
    ///
    /// # Errors
    /// Code 38 when the key is there and cannot be read, code 67 when it does not have 32 bytes: values must not fall
    /// back to plain files because of a mistake.
    pub fn open(dir: impl Into<PathBuf>, credentials: Option<&Path>) -> Result<Self> {
        let Some(path) = credentials.map(|c| c.join(CREDENTIAL)) else { return Ok(Self::new(dir, None)) };
        let mut key = Zeroizing::new([0; 32]);
        let failed = |e| Error::system(Domain::Secret, format!("cannot read '{}'", path.display()), e);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Self::new(dir, None)),
            Err(e) => return Err(failed(e)),
        };
        let exact = file.metadata().map_err(failed)?.len() == 32;
        if !exact {
            let text = format!("the encryption key in '{}' must have 32 bytes", path.display());
            return Err(Error::new(Code::ConfigUnsupported, Domain::Secret, text));
        }
        file.read_exact(&mut *key).map_err(failed)?;
        Ok(Self::new(dir, Some(&key)))
    }

    /// Whether values are encrypted.
    pub fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// Writes a value; when this returns it survives a power cut. Blocking.
    ///
    /// # Errors
    /// Code 38 when the file cannot be written; the old value is kept then.
    pub fn write(&self, uuid: &Uuid, value: &Value) -> Result<()> {
        let (path, other) = match &self.key {
            Some(_) => (self.path(uuid, SEALED), self.path(uuid, PLAIN)),
            None => (self.path(uuid, PLAIN), self.path(uuid, SEALED)),
        };
        let failed = |e| Error::system(Domain::Secret, format!("Failed to write '{}'", path.display()), e);
        match &self.key {
            Some(key) => {
                let mut nonce = [0; NONCE];
                getrandom::fill(&mut nonce)
                    .map_err(|e| Error::internal(Domain::Secret, "no random bytes").with_source(e))?;
                let sealed = key
                    .encrypt(&Nonce::from(nonce), Payload { msg: value.bytes(), aad: uuid.as_bytes() })
                    .map_err(|_| Error::internal(Domain::Secret, "a value could not be encrypted"))?;
                write_whole(&path, &[&nonce, &sealed], true).map_err(failed)?;
            }
            None => write_whole(&path, &[value.to_base64().as_bytes()], true).map_err(failed)?,
        }
        // The older form would be an older value.
        self.remove_file(&other)
    }

    /// Reads a value; `None` when it was never set. Blocking.
    ///
    /// # Errors
    /// Code 38 when a file cannot be read; code 65 for one that is damaged, or encrypted with another key.
    pub fn read(&self, uuid: &Uuid) -> Result<Option<Value>> {
        let sealed = self.path(uuid, SEALED);
        if let Some(bytes) = self.load(&sealed)? {
            let invalid = |why: &str| {
                let text = format!("the value in '{}' {why}", sealed.display());
                Error::new(Code::InvalidSecret, Domain::Secret, text)
            };
            let key = self.key.as_ref().ok_or_else(|| invalid("is encrypted, and there is no key"))?;
            let (nonce, rest) = bytes
                .split_first_chunk::<NONCE>()
                .filter(|(_, rest)| rest.len() >= TAG)
                .ok_or_else(|| invalid("is cut short"))?;
            let opened = key.decrypt(&Nonce::from(*nonce), Payload { msg: rest, aad: uuid.as_bytes() });
            let opened = opened.map_err(|_| invalid("was encrypted with another key, or changed"))?;
            return Ok(Some(Value::new(opened)));
        }
        let plain = self.path(uuid, PLAIN);
        let Some(bytes) = self.load(&plain)? else { return Ok(None) };
        Value::from_base64(&bytes).map(Some).map_err(|e| e.with("path", plain.display()))
    }

    /// Removes a value. What is gone already is no error. Blocking.
    ///
    /// # Errors
    /// Code 38.
    pub fn remove(&self, uuid: &Uuid) -> Result<()> {
        [PLAIN, SEALED].into_iter().try_for_each(|form| self.remove_file(&self.path(uuid, form)))
    }

    /// At start: removes values whose secret is not among `known` (an undefine was cut short) and half-written files;
    /// encrypts plain ones when there is a key. Blocking.
    ///
    /// # Errors
    /// Code 38 when the folder cannot be read. A single file that fails is logged and stays.
    pub fn tidy(&self, known: impl Fn(&Uuid) -> bool) -> Result<()> {
        let failed = |e| Error::system(Domain::Secret, format!("cannot read '{}'", self.dir.display()), e);
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(failed(e)),
        };
        for entry in entries {
            let path = entry.map_err(failed)?.path();
            let Some((uuid, form)) = parse_name(&path) else { continue };
            let done = match form {
                PLAIN | SEALED if !known(&uuid) => self.remove_file(&path),
                PLAIN if self.has_key() => self.encrypt(&uuid),
                PLAIN | SEALED => Ok(()),
                _ => self.remove_file(&path),
            };
            if let Err(error) = done {
                tracing::warn!(?error, %uuid, "a value's file was left as it is");
            }
        }
        Ok(())
    }

    fn encrypt(&self, uuid: &Uuid) -> Result<()> {
        match self.read(uuid)? {
            Some(value) => self.write(uuid, &value),
            None => Ok(()),
        }
    }

    fn path(&self, uuid: &Uuid, form: &str) -> PathBuf {
        self.dir.join(format!("{uuid}.{form}"))
    }

    fn load(&self, path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>> {
        let failed = |e| Error::system(Domain::Secret, format!("cannot read file '{}'", path.display()), e);
        let file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        let size = file.metadata().map_err(failed)?.len();
        if size > MAX_FILE {
            return Err(failed(io::Error::from_raw_os_error(rustix::io::Errno::FBIG.raw_os_error())));
        }
        // Room for all of it at once: a buffer that grows leaves copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_FILE as usize + 1));
        file.take(MAX_FILE).read_to_end(&mut bytes).map_err(failed)?;
        Ok(Some(bytes))
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(Error::system(Domain::Secret, format!("cannot remove '{}'", path.display()), e))
            }
            _ => Ok(()),
        }
    }
}

/// The UUID and the form of a value's file: also of one that was being written.
fn parse_name(path: &Path) -> Option<(Uuid, &'static str)> {
    let (uuid, form) = path.file_name()?.to_str()?.split_once('.')?;
    let form = [PLAIN, SEALED, "base64.new", "aes256gcm.new"].into_iter().find(|f| *f == form)?;
    Some((Uuid::try_parse(uuid).ok()?, form))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    const UUID: Uuid = Uuid::from_u128(7);
    const KEY: [u8; 32] = [9; 32];

    fn value() -> Value {
        Value::new(b"hunter2".to_vec())
    }

    fn files(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn plain_files_are_the_references() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::new(dir.path(), None);
        assert!(vault.read(&UUID).unwrap().is_none());
        vault.write(&UUID, &value()).unwrap();
        let path = dir.path().join(format!("{UUID}.base64"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "aHVudGVyMg==");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(vault.read(&UUID).unwrap(), Some(value()));
        vault.remove(&UUID).unwrap();
        assert!(files(dir.path()).is_empty());
    }

    #[test]
    fn a_key_keeps_values_from_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let credentials = tempfile::tempdir().unwrap();
        let open = || Vault::open(dir.path(), Some(credentials.path()));
        open().unwrap().write(&UUID, &value()).unwrap();
        fs::write(credentials.path().join(CREDENTIAL), b"short").unwrap();
        assert!(open().is_err_and(|e| e.message().contains("must have 32 bytes")));
        fs::write(credentials.path().join(CREDENTIAL), KEY).unwrap();
        let vault = open().unwrap();
        // The plain file of an earlier time is read, then replaced.
        assert_eq!(vault.read(&UUID).unwrap(), Some(value()));
        vault.tidy(|_| true).unwrap();
        assert_eq!(files(dir.path()), [format!("{UUID}.aes256gcm")]);
        let path = dir.path().join(format!("{UUID}.aes256gcm"));
        let bytes = fs::read(&path).unwrap();
        assert!(!bytes.windows(6).any(|w| w == b"hunter" || w == b"aHVudG"));
        assert_eq!(vault.read(&UUID).unwrap(), Some(value()));
        // Encrypted anew each time.
        vault.write(&UUID, &value()).unwrap();
        assert_ne!(fs::read(&path).unwrap(), bytes);
    }

    #[test]
    fn damage_and_a_wrong_key_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::new(dir.path(), Some(&KEY));
        vault.write(&UUID, &value()).unwrap();
        let path = dir.path().join(format!("{UUID}.aes256gcm"));
        let whole = fs::read(&path).unwrap();
        let said = |vault: &Vault, uuid: &Uuid| vault.read(uuid).unwrap_err().message();
        assert!(said(&Vault::new(dir.path(), None), &UUID).contains("there is no key"));
        assert!(said(&Vault::new(dir.path(), Some(&[8; 32])), &UUID).contains("another key"));
        // Another secret's file in its place.
        let other = Uuid::from_u128(8);
        fs::copy(&path, dir.path().join(format!("{other}.aes256gcm"))).unwrap();
        assert!(said(&vault, &other).contains("or changed"));
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            fs::write(&path, changed).unwrap();
            assert!(said(&vault, &UUID).contains("or changed"));
        }
        fs::write(&path, &whole[..20]).unwrap();
        assert!(said(&vault, &UUID).contains("is cut short"));
        let plain = Vault::new(dir.path(), None);
        fs::remove_file(&path).unwrap();
        fs::write(dir.path().join(format!("{UUID}.base64")), "hunter2!!").unwrap();
        let error = plain.read(&UUID).unwrap_err();
        assert!(!format!("{error:?}").contains("hunter"), "{error:?}");
    }

    #[test]
    fn a_start_removes_what_a_crash_left() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::new(dir.path(), None);
        vault.write(&UUID, &value()).unwrap();
        let (gone, name) = (Uuid::from_u128(8), |n: &str| dir.path().join(n));
        vault.write(&gone, &value()).unwrap();
        fs::write(name(&format!("{UUID}.base64.new")), "aHV").unwrap();
        fs::write(name("notes.base64"), "mine").unwrap();
        vault.tidy(|uuid| *uuid == UUID).unwrap();
        assert_eq!(files(dir.path()), [format!("{UUID}.base64"), "notes.base64".into()]);
    }
}
