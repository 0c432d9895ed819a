//! XDR as libvirt uses it: big endian, everything padded to four bytes, every limit checked before memory is taken.
//!
//! Decoding never trusts a length: a count is refused when it is over the table's limit or when the bytes that are left
//! could not hold that many of the smallest element, so a claimed size costs nothing. What the reference tolerates is
//! tolerated (padding that is not zero, an optional flag other than 0 and 1); what C strings cannot carry (a NUL byte)
//! and what is not UTF-8 is refused, so that text can be used as it is.

mod types;

#[cfg(feature = "arbitrary")]
pub mod sample;

pub use types::{CharArray, Chars, Opaque, Uuid};

/// The most bytes a string has where the tables give no other limit (`VIR_NET_MESSAGE_STRING_MAX`).
pub const STRING_MAX: usize = 4_194_304;

/// Why bytes are not the wanted type, or a value has no form on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum XdrError {
    /// The bytes end before the value does.
    #[error("data ends early: {want} more bytes wanted, {left} left")]
    Truncated {
        /// Bytes (at least) that the value still needs.
        want: usize,
        /// Bytes that are there.
        left: usize,
    },
    /// Bytes follow the value.
    #[error("{0} bytes follow the value")]
    Leftover(usize),
    /// A string, array or opaque value is longer than its limit.
    #[error("length {len} is over the limit of {max}")]
    TooLong {
        /// The claimed or real length.
        len: usize,
        /// The limit of the tables.
        max: usize,
    },
    /// A string is not UTF-8.
    #[error("text is not UTF-8")]
    NotUtf8,
    /// A string holds a NUL byte.
    #[error("text holds a NUL byte")]
    Nul,
    /// A small integer type has a value that it cannot hold.
    #[error("{0} does not fit its type")]
    Range(i64),
    /// A union has no such case.
    #[error("{name} has no case {case}")]
    Union {
        /// The union's type.
        name: &'static str,
        /// The unknown discriminant.
        case: i32,
    },
}

/// Result of encoding or decoding.
pub type Result<T, E = XdrError> = std::result::Result<T, E>;

/// A value with a form on the wire.
pub trait XdrEncode {
    /// Appends the value. On an error `out` may hold a part of it: the caller cuts it back.
    fn encode(&self, out: &mut Vec<u8>) -> Result<()>;
}

/// A value that can be read from the wire.
pub trait XdrDecode: Sized {
    /// The fewest bytes any value of the type takes.
    const MIN: usize;

    /// Reads the value at the reader's place.
    fn decode(r: &mut Reader<'_>) -> Result<Self>;
}

/// A value with a variable length whose limit comes from its place (`#[xdr(max = N)]`).
pub trait XdrBounded: Sized {
    /// The fewest bytes any value of the type takes.
    const MIN: usize = 4;

    /// As [`XdrEncode::encode`]; a longer value is an error.
    fn encode_max(&self, max: usize, out: &mut Vec<u8>) -> Result<()>;

    /// As [`XdrDecode::decode`]; a longer value is an error before memory is taken for it.
    fn decode_max(r: &mut Reader<'_>, max: usize) -> Result<Self>;
}

/// Decodes a whole payload: bytes left over are an error.
pub fn from_bytes<T: XdrDecode>(bytes: &[u8]) -> Result<T> {
    let mut r = Reader::new(bytes);
    let value = T::decode(&mut r)?;
    r.finish()?;
    Ok(value)
}

/// Encodes into a fresh buffer.
pub fn to_bytes<T: XdrEncode + ?Sized>(value: &T) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    value.encode(&mut out)?;
    Ok(out)
}

/// A place in received bytes.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The next `n` bytes.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        match self.rest.split_at_checked(n) {
            Some((head, tail)) => {
                self.rest = tail;
                Ok(head)
            }
            None => Err(XdrError::Truncated { want: n, left: self.rest.len() }),
        }
    }

    /// The next `n` bytes and their padding, whatever the padding holds.
    pub fn take_padded(&mut self, n: usize) -> Result<&'a [u8]> {
        let whole = n.checked_next_multiple_of(4).ok_or(XdrError::TooLong { len: n, max: usize::MAX })?;
        Ok(&self.take(whole)?[..n])
    }

    /// The next word.
    pub fn u32(&mut self) -> Result<u32> {
        match self.rest.split_first_chunk::<4>() {
            Some((head, tail)) => {
                self.rest = tail;
                Ok(u32::from_be_bytes(*head))
            }
            None => Err(XdrError::Truncated { want: 4, left: self.rest.len() }),
        }
    }

    /// The next double word.
    pub fn u64(&mut self) -> Result<u64> {
        match self.rest.split_first_chunk::<8>() {
            Some((head, tail)) => {
                self.rest = tail;
                Ok(u64::from_be_bytes(*head))
            }
            None => Err(XdrError::Truncated { want: 8, left: self.rest.len() }),
        }
    }

    /// A length word of something whose elements take at least `min` bytes each.
    pub fn length(&mut self, max: usize, min: usize) -> Result<usize> {
        let len = self.u32()? as usize;
        if len > max {
            return Err(XdrError::TooLong { len, max });
        }
        let want = len.saturating_mul(min);
        if want > self.rest.len() {
            return Err(XdrError::Truncated { want, left: self.rest.len() });
        }
        Ok(len)
    }

    /// Everything must have been read.
    pub fn finish(&self) -> Result<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(XdrError::Leftover(self.rest.len())) }
    }
}

/// Checks a length against its limit and appends the length word.
fn put_length(len: usize, max: usize, out: &mut Vec<u8>) -> Result<()> {
    let word = u32::try_from(len).ok().filter(|_| len <= max).ok_or(XdrError::TooLong { len, max })?;
    out.extend_from_slice(&word.to_be_bytes());
    Ok(())
}

/// Appends bytes and their zero padding.
fn put_padded(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(bytes);
    out.extend_from_slice(&[0; 3][..bytes.len().wrapping_neg() & 3]);
}

#[cfg(test)]
mod tests;
