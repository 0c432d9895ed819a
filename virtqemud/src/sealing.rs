//! Secrets of a start: fetched from virtsecretd, sealed with the guest's own key, never in the clear on a command line.
//!
//! ```text
//!   virtsecretd --Reveal, sealed memory file--> value --AES-256-CBC, master key--> -object secret,keyid=masterKey0,iv=...
//!   master key: 32 random bytes in a file of the guest's private folder, for QEMU's user only
//! ```
//!
//! A disk that is plugged into a running guest gets its secrets sealed with the same key, which is read from its file.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use aes::Aes256;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cbc::cipher::{
    Array, BlockCipherEncrypt as _, BlockModeEncrypt as _, KeyInit as _, KeyIvInit as _, block_padding::Pkcs7,
};
use rustix::rand::{GetRandomFlags, getrandom};
use virt_error::{Code, Domain as From, Error, Result};
use virt_model::domain::Domain;
use virt_model::domain::source::SecretRef;
use virt_model::secret::UsageType;
use virt_object::blocking;
use virt_secret::Value;
use virt_secret::ask::{Secrets, Wanted};
use zeroize::Zeroizing;

use crate::command::Sealed;

/// What a disk's secret must be for: a passphrase is a volume's.
fn use_of(secret: &SecretRef) -> UsageType {
    match secret.kind.as_deref() {
        None | Some("passphrase") => UsageType::Volume,
        Some(kind) => UsageType::from_name(kind).unwrap_or_default(),
    }
}

async fn reveal(secrets_of: &Secrets, secret: &SecretRef) -> Result<Value> {
    let uuid = secret.uuid.as_ref().map(|u| u.as_bytes());
    let wanted = Wanted { uuid, usage: secret.usage.as_deref(), kind: use_of(secret) as i32 };
    secrets_of.reveal(wanted).await
}

/// The secrets that a guest's images need.
fn secrets(guest: &Domain) -> impl Iterator<Item = &SecretRef> {
    guest.devices.disks.iter().flat_map(|disk| {
        let common = disk.source.common();
        let auth = common.auth.iter().map(|a| &a.secret);
        auth.chain(common.encryption.iter().flat_map(|e| &e.secrets))
    })
}

/// One run's key, and the values it is to hide. Nothing prints them; they are overwritten when the start is over.
pub struct Sealing {
    key: Zeroizing<[u8; 32]>,
    values: HashMap<String, Value>,
    /// The first initialisation vector before it is encrypted with the key; the next ones count on. It is random: the same
    /// key seals again when a disk is plugged in.
    first: u128,
    /// What was sealed so far, by its number: the same data looks the same, so that two command lines can be compared.
    sealed: Mutex<Vec<Zeroizing<Vec<u8>>>>,
}

impl std::fmt::Debug for Sealing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sealing({} values)", self.values.len())
    }
}

impl Sealing {
    /// A fresh key, and the values of all secrets that the guest names.
    ///
    /// # Errors
    /// As [`Secrets::reveal`]: codes 66, 8 and 38.
    pub async fn begin(secrets_of: &Secrets, guest: &Domain) -> Result<Self> {
        let mut key = Zeroizing::new([0; 32]);
        random(&mut *key)?;
        let mut sealing = Self::with(key)?;
        for secret in secrets(guest) {
            sealing.fetch(secrets_of, secret).await?;
        }
        Ok(sealing)
    }

    /// For a guest that runs with the key in this file and is to become `new`: values are fetched of what it does not have
    /// yet. `None` when there is no secret in either.
    ///
    /// # Errors
    /// As [`Secrets::reveal`]; code 38 when the file cannot be read.
    pub async fn resume(
        secrets_of: &Secrets,
        file: &Path,
        old: &Domain,
        new: &Domain,
    ) -> Result<Option<Self>> {
        if secrets(old).chain(secrets(new)).next().is_none() {
            return Ok(None);
        }
        let path = file.to_path_buf();
        let bytes = blocking::run(move || {
            let failed = |e| Error::system(From::Qemu, format!("cannot read file '{}'", path.display()), e);
            std::fs::read(&path).map(Zeroizing::new).map_err(failed)
        })
        .await?;
        let bad = |_| Error::internal(From::Qemu, format!("'{}' is no master key", file.display()));
        let mut sealing = Self::with(Zeroizing::new(bytes.as_slice().try_into().map_err(bad)?))?;
        let count = |guest: &Domain, wanted: &str| secrets(guest).filter(|s| name(s) == wanted).count();
        for secret in secrets(new) {
            // What it has stays in QEMU as it is; nobody needs to know it again.
            if count(new, &name(secret)) > count(old, &name(secret)) {
                sealing.fetch(secrets_of, secret).await?;
            }
        }
        for secret in secrets(old).chain(secrets(new)) {
            sealing.values.entry(name(secret)).or_insert_with(|| Value::new(Vec::new()));
        }
        Ok(Some(sealing))
    }

    fn with(key: Zeroizing<[u8; 32]>) -> Result<Self> {
        let mut first = [0; 16];
        random(&mut first)?;
        let first = u128::from_be_bytes(first);
        Ok(Self { key, values: HashMap::new(), first, sealed: Mutex::default() })
    }

    async fn fetch(&mut self, secrets_of: &Secrets, secret: &SecretRef) -> Result<()> {
        if let Entry::Vacant(entry) = self.values.entry(name(secret)) {
            entry.insert(reveal(secrets_of, secret).await?);
        }
        Ok(())
    }

    /// The key's bytes, for its file.
    pub fn key(&self) -> &[u8] {
        &*self.key
    }

    /// A value that was fetched. The caller overwrites its copy.
    ///
    /// # Errors
    /// Code 66 for a secret that the guest did not name at its start.
    pub fn value(&self, secret: &SecretRef) -> Result<Vec<u8>> {
        let none = || Error::new(Code::NoSecret, From::Secret, "the secret was not fetched for this start");
        Ok(self.values.get(&name(secret)).ok_or_else(none)?.bytes().to_vec())
    }

    /// Encrypts for QEMU.
    pub fn seal(&self, data: &[u8]) -> Sealed {
        let number = {
            let mut sealed = self.sealed.lock().unwrap_or_else(PoisonError::into_inner);
            let known = sealed.iter().position(|s| s.as_slice() == data);
            let at = known.unwrap_or_else(|| {
                sealed.push(Zeroizing::new(data.to_vec()));
                sealed.len() - 1
            });
            self.first.wrapping_add(at as u128)
        };
        let mut iv = Array::from(number.to_be_bytes());
        Aes256::new(&Array::from(*self.key)).encrypt_block(&mut iv);
        seal_with(&self.key, &iv.into(), data)
    }
}

fn seal_with(key: &[u8; 32], iv: &[u8; 16], data: &[u8]) -> Sealed {
    let cipher = cbc::Encryptor::<Aes256>::new(&Array::from(*key), &Array::from(*iv));
    let sealed = cipher.encrypt_padded_vec::<Pkcs7>(data);
    Sealed { data: STANDARD.encode(sealed), iv: Some(STANDARD.encode(iv)) }
}

/// What tells one secret from another in a document.
fn name(secret: &SecretRef) -> String {
    format!("{:?} {:?} {:?}", secret.kind, secret.uuid, secret.usage)
}

fn random(bytes: &mut [u8]) -> Result<()> {
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        filled += getrandom(rest, GetRandomFlags::empty())
            .map_err(|e| Error::system(From::Qemu, "cannot make a key", e.into()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_is_what_openssl_makes() {
        // openssl enc -aes-256-cbc -K 0909.. -iv 0505.. with the text "letmein".
        let sealed = seal_with(&[9; 32], &[5; 16], b"letmein");
        assert_eq!(sealed.data, "S0Onmo7WmAjE2HWD+UW8XQ==");
        assert_eq!(sealed.iv.as_deref(), Some("BQUFBQUFBQUFBQUFBQUFBQ=="));
    }

    #[test]
    fn nothing_prints_a_key_and_each_run_seals_otherwise() {
        let sealing = || Sealing::with(Zeroizing::new([7; 32])).unwrap();
        let (one, other) = (sealing(), sealing());
        assert_eq!(format!("{one:?}"), "Sealing(0 values)");
        let (a, b, c) = (one.seal(b"x"), one.seal(b"x"), one.seal(b"y"));
        assert!(a.data == b.data && a.iv == b.iv && a.iv != c.iv);
        let again = other.seal(b"x");
        assert!(a.data != again.data && a.iv != again.iv);
        assert_eq!(one.value(&SecretRef::default()).unwrap_err().code(), Code::NoSecret);
    }

    #[test]
    fn a_passphrase_is_a_volumes_secret() {
        let by = |kind: &str| SecretRef {
            kind: Some(kind.into()),
            usage: Some("/a".into()),
            ..SecretRef::default()
        };
        let kind = |kind: &str| use_of(&by(kind)) as i32;
        assert_eq!([kind("passphrase"), kind("volume"), kind("ceph"), kind("iscsi")], [1, 1, 2, 3]);
    }
}
