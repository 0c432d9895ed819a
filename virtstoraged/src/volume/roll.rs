//! Names and keys of a pool's volumes as lists are sent: made once for a table, then only handed out.

use bytes::Bytes;

/// What lists tell of all volumes of a pool.
#[derive(Debug, Clone)]
pub struct Roll {
    /// The names, each with a zero byte after it.
    pub names: Bytes,
    /// The keys.
    pub keys: Keys,
    /// Each key is the volume's path as well.
    pub keys_are_paths: bool,
}

/// The keys of volumes whose names are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keys {
    /// This with the name after it, as paths in a folder are.
    Prefix(String),
    /// The keys, each with a zero byte after it.
    All(Bytes),
}

impl Roll {
    /// The roll of volumes with these names and keys; neither holds a zero byte, as no text of a document does.
    pub fn of<'a>(volumes: impl Iterator<Item = (&'a str, &'a str)> + Clone, keys_are_paths: bool) -> Self {
        let listed = |texts: &mut dyn Iterator<Item = &'a str>| {
            let mut bytes = Vec::new();
            for text in texts {
                bytes.extend_from_slice(text.as_bytes());
                bytes.push(0);
            }
            Bytes::from(bytes)
        };
        let prefix = |(name, key): (&str, &'a str)| key.strip_suffix(name);
        let first = volumes.clone().next().map_or(Some(""), prefix);
        let keys = match first {
            Some(same) if volumes.clone().all(|v| prefix(v) == Some(same)) => Keys::Prefix(same.to_string()),
            _ => Keys::All(listed(&mut volumes.clone().map(|(_, key)| key))),
        };
        Self { names: listed(&mut volumes.map(|(name, _)| name)), keys, keys_are_paths }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_folder_are_a_prefix() {
        let roll = Roll::of([("a", "/p/a"), ("b", "/p/b")].into_iter(), true);
        assert_eq!((&roll.names[..], roll.keys), (&b"a\0b\0"[..], Keys::Prefix("/p/".into())));
        let roll = Roll::of([("a", "/p/a"), ("b", "/q/b")].into_iter(), true);
        assert_eq!(roll.keys, Keys::All(Bytes::from_static(b"/p/a\0/q/b\0")));
        let roll = Roll::of([("a", "x-1"), ("b", "x-2")].into_iter(), true);
        assert!(matches!(roll.keys, Keys::All(_)));
        assert!(Roll::of(std::iter::empty(), true).names.is_empty());
    }
}
