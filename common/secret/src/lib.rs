//! A secret value: in memory it is overwritten when dropped and printed by nothing; between two processes it travels as a
//! sealed memory file.
//!
//! What a type cannot promise the process does: one that holds values calls [`hide_process`] first, so that neither a
//! core dump nor another process of its user shows its memory.

pub mod ask;
mod memfd;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use virt_error::{Code, Domain, Error, Result};
use zeroize::{Zeroize, Zeroizing};

/// The longest value, the wire's limit, in bytes.
pub const MAX_VALUE: usize = 65536;

/// A value. It cannot be cloned or printed; comparing is for tests and takes no care about time.
#[derive(PartialEq, Eq)]
pub struct Value(Zeroizing<Vec<u8>>);

impl Value {
    /// Takes bytes over. The caller must hold no other copy.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Copies the bytes, and overwrites where they were.
    pub fn take(bytes: &mut [u8]) -> Self {
        let value = Self::new(bytes.to_vec());
        bytes.zeroize();
        value
    }

    /// The bytes, for as short as possible.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The value as base64 text.
    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(self.bytes()))
    }

    /// Reads base64 text; line ends around it do not count.
    ///
    /// # Errors
    /// Code 65 for anything else, without a word of the text.
    pub fn from_base64(text: &[u8]) -> Result<Self> {
        let bytes = STANDARD.decode(text.trim_ascii());
        // The decoder's own error would quote a byte.
        bytes.map(Self::new).map_err(|_| Error::new(Code::InvalidSecret, Domain::Secret, "not valid base64"))
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Value(hidden)")
    }
}

/// Keeps the process's memory from core dumps and from other processes of its user, for the rest of its life. Programs
/// that it starts are not concerned.
///
/// # Errors
/// Code 38 when the kernel refuses, which it does not.
pub fn hide_process() -> Result<()> {
    let failed = |e: rustix::io::Errno| {
        Error::system(Domain::Secret, "cannot keep the process's memory out of core dumps", e.into())
    };
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_prints_a_value() {
        let value = Value::new(b"hunter2".to_vec());
        assert_eq!(format!("{value:?} {:#?}", Some(&value)), "Value(hidden) Some(\n    Value(hidden),\n)");
        let error = Value::from_base64(b"hunter2!").unwrap_err();
        let shown = format!("{error:?} {error}");
        assert!(shown.contains("not valid base64") && !shown.contains("hunter"), "{shown}");
    }

    #[test]
    fn taking_leaves_nothing_behind() {
        let mut bytes = *b"hunter2";
        assert_eq!(Value::take(&mut bytes).bytes(), b"hunter2");
        assert_eq!(bytes, [0; 7]);
    }

    proptest! {
        #[test]
        fn base64_comes_back(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let text = Value::new(bytes.clone()).to_base64();
            let value = Value::from_base64(format!("{}\n", *text).as_bytes()).unwrap();
            prop_assert_eq!(value.bytes(), &bytes[..]);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,40}") {
            let _ = Value::from_base64(text.as_bytes());
        }
    }
}
