use std::fmt::Write;

use virt_xml::rt_error::{Code, Domain};
use virt_xml::{Bad, Say, Value};

/// A set of small numbers (CPUs, NUMA nodes), written as `0-3,7`.
///
/// Kept as sorted, disjoint, non-adjacent ranges, so equal sets are equal values.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bitmap {
    ranges: Vec<(u32, u32)>,
}

/// The largest number the reference's parser takes in such a set.
const MAX: u32 = 16384;

const FAILED: Bad =
    Bad::Own(&Say { code: Code::InvalidArg, domain: Domain::None, text: "Failed to parse bitmap '{}'" });

impl Bitmap {
    /// The numbers, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.ranges.iter().flat_map(|(a, b)| *a..=*b)
    }

    /// How many numbers are set.
    pub fn len(&self) -> usize {
        self.ranges.iter().map(|(a, b)| (b - a + 1) as usize).sum()
    }

    /// Whether no number is set.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether a number is set.
    pub fn contains(&self, n: u32) -> bool {
        self.ranges.iter().any(|(a, b)| (*a..=*b).contains(&n))
    }

    /// Whether the two sets share a number.
    pub fn overlaps(&self, other: &Bitmap) -> bool {
        self.ranges.iter().any(|(a, b)| other.ranges.iter().any(|(c, d)| a <= d && c <= b))
    }

    /// The largest number set.
    pub fn last(&self) -> Option<u32> {
        self.ranges.last().map(|r| r.1)
    }

    /// Sets all numbers from `from` to `to`.
    pub fn insert_range(&mut self, from: u32, to: u32) {
        let (mut from, mut to) = (from, to);
        self.ranges.retain(|(a, b)| {
            let apart = *b < from.saturating_sub(1) || *a > to.saturating_add(1);
            if !apart {
                from = from.min(*a);
                to = to.max(*b);
            }
            apart
        });
        let at = self.ranges.partition_point(|r| r.0 < from);
        self.ranges.insert(at, (from, to));
    }

    /// Clears one number.
    pub fn remove(&mut self, n: u32) {
        if let Some(at) = self.ranges.iter().position(|(a, b)| (*a..=*b).contains(&n)) {
            let (a, b) = self.ranges.remove(at);
            if n < b {
                self.ranges.insert(at, (n + 1, b));
            }
            if a < n {
                self.ranges.insert(at, (a, n - 1));
            }
        }
    }
}

impl FromIterator<u32> for Bitmap {
    fn from_iter<I: IntoIterator<Item = u32>>(iter: I) -> Self {
        let mut out = Self::default();
        iter.into_iter().for_each(|n| out.insert_range(n, n));
        out
    }
}

impl Value for Bitmap {
    fn parse(text: &str) -> Result<Self, Bad> {
        let mut out = Self::default();
        let number = |t: &str| t.trim_ascii().parse::<u32>().ok().filter(|n| *n < MAX).ok_or(FAILED);
        for part in text.split(',') {
            let part = part.trim_ascii();
            match (part.strip_prefix('^'), part.split_once('-')) {
                (Some(n), _) => out.remove(number(n)?),
                (None, Some((a, b))) => {
                    let (a, b) = (number(a)?, number(b)?);
                    if b < a {
                        return Err(FAILED);
                    }
                    out.insert_range(a, b);
                }
                (None, None) => {
                    let n = number(part)?;
                    out.insert_range(n, n);
                }
            }
        }
        Ok(out)
    }

    fn put(&self, out: &mut String) {
        for (i, (a, b)) in self.ranges.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            let _ = if a == b { write!(out, "{comma}{a}") } else { write!(out, "{comma}{a}-{b}") };
        }
    }
}

impl std::fmt::Display for Bitmap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = String::new();
        self.put(&mut text);
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_have_one_spelling() {
        for (text, want) in
            [("1-4,^3,8-20,525", "1-2,4,8-20,525"), ("3,2,1", "1-3"), ("0,^0", ""), (" 5 ", "5")]
        {
            assert_eq!(Bitmap::parse(text).map(|b| b.to_string()), Ok(want.to_string()), "{text}");
        }
        for text in ["aaa", "1-", "4-1", "1,,2", "-1", "99999"] {
            assert!(Bitmap::parse(text).is_err(), "{text}");
        }
    }
}
