//! Secrets of a start: fetched from virtsecretd, sealed with the guest's own key, never in the clear on a command line.
//!
//! ```text
//!   virtsecretd --Reveal, sealed memory file--> value --AES-256-CBC, master key--> -object secret,keyid=masterKey0,iv=...
//!   master key: 32 random bytes in a file of the guest's private folder, for QEMU's user only
//! ```

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};

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
    /// How many were sealed: an initialisation vector is a number that was encrypted with the key.
    sealed: AtomicU64,
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
        let mut sealing = Self { key, values: HashMap::new(), sealed: AtomicU64::new(0) };
        for secret in secrets(guest) {
            if let Entry::Vacant(entry) = sealing.values.entry(name(secret)) {
                entry.insert(reveal(secrets_of, secret).await?);
            }
        }
        Ok(sealing)
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
        let number = self.sealed.fetch_add(1, Ordering::Relaxed);
        let mut iv = Array::from(u128::from(number).to_be_bytes());
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
    fn nothing_prints_a_key_and_each_sealing_differs() {
        let sealing =
            Sealing { key: Zeroizing::new([7; 32]), values: HashMap::new(), sealed: AtomicU64::default() };
        assert_eq!(format!("{sealing:?}"), "Sealing(0 values)");
        let (a, b) = (sealing.seal(b"x"), sealing.seal(b"x"));
        assert!(a.data != b.data && a.iv != b.iv);
        assert_eq!(sealing.value(&SecretRef::default()).unwrap_err().code(), Code::NoSecret);
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
