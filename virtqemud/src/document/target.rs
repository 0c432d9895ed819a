//! Names of disk targets: `vda`, `hdc`, `sdaa`.

/// The number behind a target's prefix: `a` is 0, `z` is 25, `aa` is 26.
pub fn index(name: &str) -> Option<u32> {
    const PREFIXES: &[&str] = &["fd", "hd", "vd", "sd", "xvd", "ubd"];
    let rest = PREFIXES.iter().find_map(|p| name.strip_prefix(p))?;
    let letters = rest.trim_end_matches(|c: char| c.is_ascii_digit());
    if letters.is_empty() || !letters.bytes().all(|b| b.is_ascii_lowercase()) {
        return None;
    }
    let mut n: u32 = 0;
    for b in letters.bytes() {
        n = n.checked_mul(26)?.checked_add(u32::from(b - b'a') + 1)?;
    }
    Some(n - 1)
}

/// Whether the name ends in a partition number.
pub fn has_partition(name: &str) -> bool {
    name.bytes().last().is_some_and(|b| b.is_ascii_digit())
}

/// The target for a number on a bus with this prefix.
pub fn name(prefix: &str, mut index: u32) -> String {
    let mut letters = Vec::new();
    loop {
        letters.push((b'a' + (index % 26) as u8) as char);
        if index < 26 {
            break;
        }
        index = index / 26 - 1;
    }
    letters.iter().rev().fold(prefix.to_string(), |mut s, c| {
        s.push(*c);
        s
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_count_like_spreadsheet_columns() {
        for (text, n) in [("vda", 0), ("vdz", 25), ("vdaa", 26), ("sdzz", 701), ("hdc1", 2)] {
            assert_eq!(index(text), Some(n), "{text}");
        }
        assert_eq!(index("hda!"), None);
        assert_eq!(index("hdaxxxxxxxxxx"), None);
        for n in [0, 25, 26, 701, 702, 20_000] {
            assert_eq!(index(&name("vd", n)), Some(n));
        }
    }
}
