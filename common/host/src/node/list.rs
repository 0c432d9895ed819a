//! The kernel's list form of CPU and node sets: "0-3,5".

/// The numbers of a list, ascending, without repeats. Malformed parts are skipped; numbers are limited to 65,535.
pub fn parse(text: &str) -> Vec<u32> {
    let mut out = Vec::new();
    for part in text.trim().split(',').filter(|p| !p.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.trim().parse::<u16>(), last.trim().parse::<u16>()) {
            out.extend((first..=last).map(u32::from));
        }
    }
    out.sort_unstable();
    out.dedup();
    out
}

/// The list form of ascending numbers.
pub fn format(numbers: &[u32]) -> String {
    let mut out = String::new();
    let mut at = 0;
    while at < numbers.len() {
        let first = numbers[at];
        let mut last = first;
        while numbers.get(at + 1) == Some(&(last + 1)) {
            at += 1;
            last += 1;
        }
        if !out.is_empty() {
            out.push(',');
        }
        out.push_str(&first.to_string());
        if last > first {
            out.push('-');
            out.push_str(&last.to_string());
        }
        at += 1;
    }
    out
}

/// A bitmap, lowest bit first, long enough for `count` numbers.
pub fn bitmap(numbers: &[u32], count: u32) -> Vec<u8> {
    let mut map = vec![0u8; (count as usize).div_ceil(8)];
    for number in numbers.iter().filter(|n| **n < count) {
        map[*number as usize / 8] |= 1 << (number % 8);
    }
    map
}

/// The numbers set in a bitmap, lowest bit first.
pub fn from_bitmap(map: &[u8]) -> Vec<u32> {
    let bits = map
        .iter()
        .zip(0u32..)
        .flat_map(|(byte, at)| (0..8).filter(move |b| byte & (1 << b) != 0).map(move |b| at * 8 + b));
    bits.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_survive_both_ways() {
        for text in ["", "0", "0-3,5", "1,3,5-6"] {
            assert_eq!(format(&parse(text)), text);
        }
        assert_eq!(parse("3,x,1-2,2\n"), [1, 2, 3]);
        assert_eq!(parse("9-2"), [0u32; 0]);
    }

    #[test]
    fn bitmaps_survive_both_ways() {
        assert_eq!(bitmap(&[0, 9, 70], 16), [1, 2]);
        assert_eq!(from_bitmap(&[1, 2]), [0, 9]);
    }
}
