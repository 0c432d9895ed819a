//! Secrets on the command line.

use base64::Engine;

use super::Builder;
use super::props::Props;

/// Standard base64 with padding.
pub(super) fn base64(data: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(data)
}

impl Builder<'_> {
    /// The key that encrypts all other secrets, in a file only this guest's process reads.
    pub(super) fn master_key(&mut self) {
        let file = format!("{}/master-key.aes", self.launch.private_dir);
        self.line.object(Props::object("secret", "masterKey0").with("format", "raw").with("file", file));
    }

    /// A secret, encrypted with the master key so that the process list does not give it away.
    pub(super) fn secret_object(&mut self, id: &str, data: &[u8]) {
        let sealed = (self.launch.seal)(data);
        let mut props = Props::object("secret", id).with("data", sealed.data);
        if let Some(iv) = sealed.iv {
            props = props.with("keyid", "masterKey0").with("iv", iv);
        }
        self.line.object(props.with("format", "base64"));
    }
}
