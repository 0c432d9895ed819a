//! The forms of the basic types.

use super::{Reader, Result, STRING_MAX, XdrBounded, XdrDecode, XdrEncode, XdrError, put_length, put_padded};

/// A raw UUID: 16 bytes, no length word.
pub type Uuid = [u8; 16];

/// Bytes with a length word (`opaque x<max>`).
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Opaque(pub Vec<u8>);

/// Some are secret values, and none is worth reading in a log.
impl std::fmt::Debug for Opaque {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Opaque({} bytes)", self.0.len())
    }
}

impl From<Vec<u8>> for Opaque {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl std::ops::Deref for Opaque {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// `char x<max>`: a count, then four bytes per character.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Chars(pub Vec<u8>);

impl From<Vec<u8>> for Chars {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl std::ops::Deref for Chars {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// `char x[N]`: four bytes per character, no count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CharArray<const N: usize>(pub [u8; N]);

impl<const N: usize> CharArray<N> {
    /// As much of the text as fits beside a closing NUL, cut at a character's border.
    pub fn from_text(text: &str) -> Self {
        let mut end = text.len().min(N.saturating_sub(1));
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let mut chars = [0; N];
        chars[..end].copy_from_slice(&text.as_bytes()[..end]);
        Self(chars)
    }

    /// The bytes before the first NUL.
    pub fn text(&self) -> &[u8] {
        let end = self.0.iter().position(|b| *b == 0).unwrap_or(N);
        &self.0[..end]
    }
}

/// Integers and floats of one or two words.
macro_rules! word {
    ($($t:ty = $read:ident, $n:literal);* $(;)?) => {$(
        impl XdrEncode for $t {
            #[inline]
            fn encode(&self, out: &mut Vec<u8>) -> Result<()> {
                out.extend_from_slice(&self.to_be_bytes());
                Ok(())
            }
        }
        impl XdrDecode for $t {
            const MIN: usize = $n;
            #[inline]
            fn decode(r: &mut Reader<'_>) -> Result<Self> {
                Ok(<$t>::from_be_bytes(r.$read()?.to_be_bytes()))
            }
        }
    )*};
}
word! { i32 = u32, 4; u32 = u32, 4; i64 = u64, 8; u64 = u64, 8; f64 = u64, 8 }

/// Types that are smaller than their word.
macro_rules! small {
    ($($t:ty as $wide:ty),*) => {$(
        impl XdrEncode for $t {
            fn encode(&self, out: &mut Vec<u8>) -> Result<()> {
                <$wide>::from(*self).encode(out)
            }
        }
        impl XdrDecode for $t {
            const MIN: usize = 4;
            fn decode(r: &mut Reader<'_>) -> Result<Self> {
                let wide = <$wide>::decode(r)?;
                <$t>::try_from(wide).map_err(|_| XdrError::Range(wide.into()))
            }
        }
    )*};
}
small! { i8 as i32, u8 as u32, i16 as i32, u16 as u32 }

/// An empty payload.
impl XdrEncode for () {
    fn encode(&self, _: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }
}

impl XdrDecode for () {
    const MIN: usize = 0;
    fn decode(_: &mut Reader<'_>) -> Result<Self> {
        Ok(())
    }
}

impl<T: XdrEncode> XdrEncode for Option<T> {
    fn encode(&self, out: &mut Vec<u8>) -> Result<()> {
        u32::from(self.is_some()).encode(out)?;
        self.as_ref().map_or(Ok(()), |v| v.encode(out))
    }
}

impl<T: XdrDecode> XdrDecode for Option<T> {
    const MIN: usize = 4;
    fn decode(r: &mut Reader<'_>) -> Result<Self> {
        if r.u32()? == 0 { Ok(None) } else { T::decode(r).map(Some) }
    }
}

impl<T: XdrBounded> XdrBounded for Option<T> {
    fn encode_max(&self, max: usize, out: &mut Vec<u8>) -> Result<()> {
        u32::from(self.is_some()).encode(out)?;
        self.as_ref().map_or(Ok(()), |v| v.encode_max(max, out))
    }

    fn decode_max(r: &mut Reader<'_>, max: usize) -> Result<Self> {
        if r.u32()? == 0 { Ok(None) } else { T::decode_max(r, max).map(Some) }
    }
}

impl XdrBounded for String {
    fn encode_max(&self, max: usize, out: &mut Vec<u8>) -> Result<()> {
        if self.as_bytes().contains(&0) {
            return Err(XdrError::Nul);
        }
        put_length(self.len(), max, out)?;
        put_padded(self.as_bytes(), out);
        Ok(())
    }

    fn decode_max(r: &mut Reader<'_>, max: usize) -> Result<Self> {
        let len = r.length(max, 1)?;
        let text = std::str::from_utf8(r.take_padded(len)?).map_err(|_| XdrError::NotUtf8)?;
        if text.as_bytes().contains(&0) {
            return Err(XdrError::Nul);
        }
        Ok(text.to_owned())
    }
}

impl XdrEncode for String {
    fn encode(&self, out: &mut Vec<u8>) -> Result<()> {
        self.encode_max(STRING_MAX, out)
    }
}

impl XdrDecode for String {
    const MIN: usize = 4;
    fn decode(r: &mut Reader<'_>) -> Result<Self> {
        Self::decode_max(r, STRING_MAX)
    }
}

impl XdrBounded for Opaque {
    fn encode_max(&self, max: usize, out: &mut Vec<u8>) -> Result<()> {
        put_length(self.0.len(), max, out)?;
        put_padded(&self.0, out);
        Ok(())
    }

    fn decode_max(r: &mut Reader<'_>, max: usize) -> Result<Self> {
        let len = r.length(max, 1)?;
        Ok(Self(r.take_padded(len)?.to_vec()))
    }
}

impl<const N: usize> XdrEncode for [u8; N] {
    fn encode(&self, out: &mut Vec<u8>) -> Result<()> {
        put_padded(self, out);
        Ok(())
    }
}

impl<const N: usize> XdrDecode for [u8; N] {
    const MIN: usize = N.next_multiple_of(4);
    fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(r.take_padded(N)?);
        Ok(bytes)
    }
}

/// C's char on the wire: the sign is extended on x86 and not on Arm, so both forms of a byte over 127 are taken.
fn decode_char(r: &mut Reader<'_>) -> Result<u8> {
    let wide = i32::decode(r)?;
    u8::try_from(wide)
        .or_else(|_| i8::try_from(wide).map(i8::cast_unsigned))
        .map_err(|_| XdrError::Range(wide.into()))
}

fn encode_char(c: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(&i32::from(c.cast_signed()).to_be_bytes());
}

impl XdrBounded for Chars {
    fn encode_max(&self, max: usize, out: &mut Vec<u8>) -> Result<()> {
        put_length(self.0.len(), max, out)?;
        self.0.iter().for_each(|c| encode_char(*c, out));
        Ok(())
    }

    fn decode_max(r: &mut Reader<'_>, max: usize) -> Result<Self> {
        let len = r.length(max, 4)?;
        (0..len).map(|_| decode_char(r)).collect::<Result<_>>().map(Self)
    }
}

impl<const N: usize> XdrEncode for CharArray<N> {
    fn encode(&self, out: &mut Vec<u8>) -> Result<()> {
        self.0.iter().for_each(|c| encode_char(*c, out));
        Ok(())
    }
}

impl<const N: usize> XdrDecode for CharArray<N> {
    const MIN: usize = 4 * N;
    fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let mut chars = [0; N];
        for c in &mut chars {
            *c = decode_char(r)?;
        }
        Ok(Self(chars))
    }
}

impl<T: XdrEncode + XdrDecode> XdrBounded for Vec<T> {
    fn encode_max(&self, max: usize, out: &mut Vec<u8>) -> Result<()> {
        put_length(self.len(), max, out)?;
        self.iter().try_for_each(|v| v.encode(out))
    }

    fn decode_max(r: &mut Reader<'_>, max: usize) -> Result<Self> {
        let len = r.length(max, T::MIN.max(1))?;
        let mut all = Self::with_capacity(len);
        for _ in 0..len {
            all.push(T::decode(r)?);
        }
        Ok(all)
    }
}
