//! Pseudo-random values of every type, for property tests and for the hostile-frame generator.
//!
//! The same seed gives the same value, and sizes stay small: a value is made for its shape, not for its bulk.

use super::{CharArray, Chars, Opaque, XdrDecode, XdrEncode, XdrError, from_bytes, to_bytes};

/// A source of deterministic choices (splitmix64).
#[derive(Debug, Clone)]
pub struct Sampler {
    state: u64,
}

impl Sampler {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number under `bound` (0 when the bound is 0).
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next_u64() % bound }
    }

    /// A length: mostly small, sometimes none, never over `max`.
    pub fn len(&mut self, max: usize) -> usize {
        let bound = [0, 1, 2, 3, 5, 9, 17, 33][self.below(8) as usize];
        (self.below(bound + 1) as usize).min(max)
    }
}

/// A value of a type.
pub trait Sample: Sized {
    /// Makes one.
    fn sample(s: &mut Sampler) -> Self;
}

/// A value of a type with a limit.
pub trait SampleBounded: Sized {
    /// Makes one that keeps the limit.
    fn sample_max(s: &mut Sampler, max: usize) -> Self;
}

macro_rules! integers {
    ($($t:ty),*) => {$(
        impl Sample for $t {
            fn sample(s: &mut Sampler) -> Self {
                match s.below(6) {
                    0 => 0,
                    1 => 1,
                    2 => <$t>::MAX,
                    3 => <$t>::MIN,
                    4 => s.below(100) as $t,
                    _ => s.next_u64() as $t,
                }
            }
        }
    )*};
}
integers!(i8, u8, i16, u16, i32, u32, i64, u64);

impl Sample for f64 {
    fn sample(s: &mut Sampler) -> Self {
        f64::from_bits(s.next_u64())
    }
}

impl Sample for () {
    fn sample(_: &mut Sampler) -> Self {}
}

impl<T: Sample> Sample for Option<T> {
    fn sample(s: &mut Sampler) -> Self {
        (s.below(2) == 1).then(|| T::sample(s))
    }
}

impl<T: SampleBounded> SampleBounded for Option<T> {
    fn sample_max(s: &mut Sampler, max: usize) -> Self {
        (s.below(2) == 1).then(|| T::sample_max(s, max))
    }
}

impl SampleBounded for String {
    fn sample_max(s: &mut Sampler, max: usize) -> Self {
        const CHARS: [char; 12] = ['a', 'Z', '0', '-', '_', '/', '.', ' ', '<', '\'', 'é', '\u{1F600}'];
        let want = s.len(max);
        let mut text = String::new();
        while text.len() < want {
            let c = CHARS[s.below(CHARS.len() as u64) as usize];
            if text.len() + c.len_utf8() > max {
                break;
            }
            text.push(c);
        }
        text
    }
}

impl Sample for String {
    fn sample(s: &mut Sampler) -> Self {
        Self::sample_max(s, super::STRING_MAX)
    }
}

fn bytes(s: &mut Sampler, max: usize) -> Vec<u8> {
    (0..s.len(max)).map(|_| s.next_u64() as u8).collect()
}

impl SampleBounded for Opaque {
    fn sample_max(s: &mut Sampler, max: usize) -> Self {
        Self(bytes(s, max))
    }
}

impl SampleBounded for Chars {
    fn sample_max(s: &mut Sampler, max: usize) -> Self {
        Self(bytes(s, max))
    }
}

impl<const N: usize> Sample for [u8; N] {
    fn sample(s: &mut Sampler) -> Self {
        std::array::from_fn(|_| s.next_u64() as u8)
    }
}

impl<const N: usize> Sample for CharArray<N> {
    fn sample(s: &mut Sampler) -> Self {
        Self(Sample::sample(s))
    }
}

impl<T: Sample> SampleBounded for Vec<T> {
    fn sample_max(s: &mut Sampler, max: usize) -> Self {
        (0..s.len(max.min(6))).map(|_| T::sample(s)).collect()
    }
}

/// What tests need of a type they do not name.
#[derive(Clone, Copy)]
pub struct TypeOps {
    /// The type's name.
    pub name: &'static str,
    /// Bytes of a value made from the choices.
    pub sample: fn(&mut Sampler) -> Vec<u8>,
    /// Decodes a whole payload and encodes the value again.
    pub recode: fn(&[u8]) -> Result<Vec<u8>, XdrError>,
    /// The fewest bytes a value takes.
    pub min: usize,
}

/// The row of a type.
pub const fn type_ops<T: XdrEncode + XdrDecode + Sample>(name: &'static str) -> TypeOps {
    TypeOps {
        name,
        // A sampled value keeps every limit, so encoding cannot fail; were it to, the tests see an empty value.
        sample: |s| to_bytes(&T::sample(s)).unwrap_or_default(),
        recode: |bytes| to_bytes(&from_bytes::<T>(bytes)?),
        min: T::MIN,
    }
}
