//! Encrypted images: what is refused, and how qemu-img is told a passphrase without anybody else seeing it.
//!
//! ```text
//!   virtsecretd --sealed memory file--> value --memory file, number 3 ..--> qemu-img --object secret,file=/dev/fd/3
//! ```

use virt_error::{Code, Domain, Error, Result};
use virt_host::tool::Run;
use virt_model::domain::source::{Encryption, EncryptionFormat, SecretRef};
use virt_model::storage::Volume as Document;

use crate::keys::{Keys, passphrase};

/// How qemu-img knows an image's passphrase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    /// Hands a volume's passphrase to a run of qemu-img, under a name; nothing for a volume that is not encrypted.
    ///
    /// # Errors
    /// As [`check`] about the secret; codes 66 and 8 of virtsecretd.
    pub fn give(run: &mut Run, keys: &dyn Keys, volume: &Document, name: &str) -> Result<Option<Self>> {
        let Some(encryption) = &volume.target.encryption else { return Ok(None) };
        let value = passphrase(keys, only_secret(encryption)?)?;
        let file = run.hand(value.to_memfd()?);
        run.args.extend(["--object".into(), format!("secret,id={name},file={file}").into()]);
        Ok(Some(Self(name.to_string())))
    }

    /// How an existing image of this format is opened with it: a part of `--image-opts`.
    pub fn opens(&self, format: &str) -> String {
        match format {
            "raw" => format!("key-secret={}", self.0),
            _ => format!("encrypt.key-secret={}", self.0),
        }
    }

    /// The options of a new image.
    pub fn options(&self, format: &str, encryption: &Encryption) -> Vec<String> {
        let (mut options, prefix) = match format {
            "raw" => (Vec::new(), ""),
            _ => (vec!["encrypt.format=luks".to_string()], "encrypt."),
        };
        let mut say = |name: &str, value: &str| {
            // What a client wrote must not become another option.
            options.push(format!("{prefix}{name}={}", value.replace(',', ",,")));
        };
        say("key-secret", &self.0);
        if let Some(cipher) = &encryption.cipher {
            say("cipher-alg", &format!("{}-{}", cipher.name, cipher.size));
            for (name, value) in [("cipher-mode", &cipher.mode), ("hash-alg", &cipher.hash)] {
                if let Some(value) = value {
                    say(name, value);
                }
            }
        }
        if let Some(ivgen) = &encryption.ivgen {
            say("ivgen-alg", &ivgen.name);
            if let Some(hash) = &ivgen.hash {
                say("ivgen-hash-alg", hash);
            }
        }
        options
    }
}

/// The one secret of an encrypted volume.
fn only_secret(encryption: &Encryption) -> Result<&SecretRef> {
    match encryption.secrets.as_slice() {
        [secret] if secret.kind.as_deref() == Some("passphrase") => Ok(secret),
        _ => {
            let text = "A single <secret type='passphrase'...> element is expected in encryption description";
            Err(Error::new(Code::InvalidArg, Domain::Storage, text))
        }
    }
}

/// Refuses an encryption that no volume of this format can have.
///
/// # Errors
/// Codes 8, 1 and 67 in the reference's words.
pub fn check(format: &str, encryption: &Encryption) -> Result<()> {
    only_secret(encryption)?;
    let unsupported = |text: String| Err(Error::new(Code::ConfigUnsupported, Domain::Storage, text));
    match (format, encryption.format) {
        ("raw" | "qcow2", EncryptionFormat::Luks) => Ok(()),
        ("raw", _) => {
            Err(Error::internal(Domain::Storage, "Only luks encryption is supported for raw files"))
        }
        ("qcow2", EncryptionFormat::Default | EncryptionFormat::Qcow) => {
            unsupported("creation of qcow2 encrypted image is not supported".into())
        }
        ("qcow2", other) => unsupported(format!("unsupported volume encryption format {}", other as u32)),
        (format, _) => unsupported(format!("volume encryption unsupported with format {format}")),
    }
}

/// Refuses a change of an encrypted volume whose secret nobody names.
///
/// # Errors
/// Code 27 in the reference's words.
pub fn need_secret(encryption: &Encryption) -> Result<()> {
    match encryption.secrets.is_empty() {
        false => Ok(()),
        true => {
            let text = format!("no secret provided for {} encryption", encryption.format);
            Err(Error::new(Code::XmlError, Domain::Storage, text))
        }
    }
}
