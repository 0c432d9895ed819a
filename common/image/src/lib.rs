//! What an image's header says. Reads a few KiB of a file, never follows what it finds, believes no number blindly.
//!
//! A header is written by whoever writes the image, so the format of a guest's image is told by its document and never
//! guessed from here. What an image of a format that has a base lies on is the header's to say.

use std::fs::File;
use std::os::unix::fs::FileExt;

use virt_model::domain::source::{EncryptionFormat, ImageFormat};

/// How much of a file is read at most.
const MOST: usize = 64 * 1024;
/// How much is read of every file.
const FIRST: usize = 4096;
/// The longest name of a base; qcow2's own limit.
const LONGEST_NAME: usize = 1023;
/// Where an ISO 9660 file system has its name.
const ISO_AT: u64 = 0x8001;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Probe {
    /// The format; raw when no other was recognised.
    pub format: Option<ImageFormat>,
    /// The size a guest sees, bytes; `None`: the file's own.
    pub capacity: Option<u64>,
    /// Its base as it stands there, and the base's format if that is told.
    pub backing: Option<Base>,
    /// qcow2's version: "0.10" or "1.1".
    pub compat: Option<&'static str>,
    /// qcow2: bytes.
    pub cluster_size: Option<u64>,
    /// qcow2's switches.
    pub lazy_refcounts: bool,
    /// qcow2's switches.
    pub extended_l2: bool,
    /// qcow2's switches.
    pub data_file: bool,
    /// How it is encrypted.
    pub encryption: Option<EncryptionFormat>,
}

/// The image a copy-on-write image is based on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// As written: a path, perhaps relative, or a URI.
    pub name: String,
    /// Its format.
    pub format: Option<ImageFormat>,
}

impl Probe {
    /// The format, raw when no other was recognised.
    pub fn format(&self) -> ImageFormat {
        self.format.unwrap_or(ImageFormat::Raw)
    }
}

/// Reads the header of a file of this many bytes; 0 for a device.
///
/// # Errors
/// What reading fails with.
pub fn file(file: &File, length: u64) -> std::io::Result<Probe> {
    let mut head = read(file, 0, FIRST)?;
    if wants_more(&head) {
        head = read(file, 0, MOST)?;
    }
    let found = header(&head);
    let may_be_iso = found.format.is_none() && head.len() == FIRST && (length == 0 || length > ISO_AT);
    if may_be_iso && read(file, ISO_AT, 5)? == b"CD001" {
        return Ok(Probe { format: Some(ImageFormat::Iso), ..found });
    }
    Ok(found)
}

fn read(file: &File, at: u64, most: usize) -> std::io::Result<Vec<u8>> {
    let mut buffer = vec![0; most];
    let mut filled = 0;
    while filled < most {
        match file.read_at(&mut buffer[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    buffer.truncate(filled);
    Ok(buffer)
}

/// Reads the header of an image that may lie on another one: one read, never of a pipe.
///
/// # Errors
/// What reading fails with.
pub fn layer(file: &File) -> std::io::Result<Probe> {
    Ok(header(&read(file, 0, MOST)?))
}

/// Whether names may stand behind the first part.
fn wants_more(head: &[u8]) -> bool {
    head.len() == FIRST && [&b"QFI\xfb"[..], b"KDMV", b"QED\0"].iter().any(|magic| head.starts_with(magic))
}

/// What the first bytes of a file say.
pub fn header(bytes: &[u8]) -> Probe {
    let head = Bytes(bytes);
    let known = |format| Probe { format: Some(format), ..Probe::default() };
    if bytes.starts_with(b"QFI\xfb") {
        return match head.be32(4) {
            Some(1) => qcow(&head).unwrap_or_default(),
            Some(2 | 3) => qcow2(&head).unwrap_or_default(),
            _ => Probe::default(),
        };
    }
    if bytes.starts_with(b"QED\0") {
        return qed(&head).unwrap_or_default();
    }
    if bytes.starts_with(b"KDMV") {
        return vmdk(&head).unwrap_or_default();
    }
    if bytes.starts_with(b"conectix") {
        return Probe { capacity: head.be64(48), ..known(ImageFormat::Vpc) };
    }
    if bytes.starts_with(b"LUKS\xba\xbe") {
        return luks(&head);
    }
    if bytes.starts_with(b"OOOM") && head.be32(4) == Some(2) {
        return Probe { capacity: head.be64(4 + 4 + 1024 + 4), ..known(ImageFormat::Cow) };
    }
    if bytes.starts_with(b"Bochs Virtual HD Image") {
        return known(ImageFormat::Bochs);
    }
    if bytes.starts_with(b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop") {
        return known(ImageFormat::Cloop);
    }
    if head.get(0x40, 4) == Some(b"\x7f\x10\xda\xbe") && head.le32(0x44) == Some(0x0001_0001) {
        return Probe { capacity: head.le64(0x170), ..known(ImageFormat::Vdi) };
    }
    Probe::default()
}

fn luks(head: &Bytes<'_>) -> Probe {
    let version = head.be16(6);
    let encryption = Some(if version == Some(2) { EncryptionFormat::Luks2 } else { EncryptionFormat::Luks });
    Probe { encryption, ..Probe::default() }
}

/// Where a LUKS image's data begins, bytes.
pub fn luks_payload(bytes: &[u8]) -> Option<u64> {
    let head = Bytes(bytes);
    (bytes.starts_with(b"LUKS\xba\xbe") && head.be16(6) == Some(1))
        .then(|| head.be32(104).map(|sectors| u64::from(sectors) * 512))?
}

fn qcow(head: &Bytes<'_>) -> Option<Probe> {
    let name = head.name(head.be64(8)?, head.be32(16)?);
    Some(Probe {
        format: Some(ImageFormat::Qcow),
        capacity: Some(head.be64(24)?),
        backing: name.map(|name| Base { name, format: None }),
        encryption: (head.be32(36)? == 1).then_some(EncryptionFormat::Qcow),
        ..Probe::default()
    })
}

fn qcow2(head: &Bytes<'_>) -> Option<Probe> {
    let version = head.be32(4)?;
    let cluster_bits = head.be32(20)?;
    if !(9..=21).contains(&cluster_bits) {
        return None;
    }
    let (incompatible, compatible, length) = match version {
        2 => (0, 0, 72),
        _ => (head.be64(72)?, head.be64(80)?, head.be32(100)?),
    };
    let encryption = match head.be32(32)? {
        1 => Some(EncryptionFormat::Qcow),
        2 => Some(EncryptionFormat::Luks),
        _ => None,
    };
    let name = head.name(head.be64(8)?, head.be32(16)?);
    let format = || head.extension(usize::try_from(length).ok()?, 0xe279_2aca);
    Some(Probe {
        format: Some(ImageFormat::Qcow2),
        capacity: Some(head.be64(24)?),
        backing: name.map(|name| Base { name, format: format().and_then(ImageFormat::from_name) }),
        compat: Some(if version == 2 { "0.10" } else { "1.1" }),
        cluster_size: Some(1 << cluster_bits),
        lazy_refcounts: compatible & 1 != 0,
        data_file: incompatible & 4 != 0,
        extended_l2: incompatible & 16 != 0,
        encryption,
    })
}

fn qed(head: &Bytes<'_>) -> Option<Probe> {
    /// The image has a base.
    const HAS_BASE: u64 = 1;
    /// The base is raw and must not be probed.
    const RAW_BASE: u64 = 4;
    let features = head.le64(16)?;
    let name = match features & HAS_BASE {
        0 => None,
        _ => head.name(u64::from(head.le32(56)?), head.le32(60)?),
    };
    let format = (features & RAW_BASE != 0).then_some(ImageFormat::Raw);
    Some(Probe {
        format: Some(ImageFormat::Qed),
        capacity: Some(head.le64(48)?),
        backing: name.map(|name| Base { name, format }),
        ..Probe::default()
    })
}

fn vmdk(head: &Bytes<'_>) -> Option<Probe> {
    const HINT: &str = "parentFileNameHint=\"";
    if !matches!(head.le32(4)?, 1..=3) {
        return None;
    }
    let capacity = head.le64(12)?.checked_mul(512)?;
    // The descriptor: text within the first part.
    let at = usize::try_from(head.le64(28)?.checked_mul(512)?).ok()?;
    let text = head.0.get(at..).map(String::from_utf8_lossy).unwrap_or_default();
    let base = text.split(HINT).nth(1).and_then(|rest| rest.split('"').next());
    let base = base.filter(|n| !n.is_empty() && n.len() <= LONGEST_NAME && !n.contains(char::is_control));
    Some(Probe {
        format: Some(ImageFormat::Vmdk),
        capacity: Some(capacity),
        backing: base.map(|name| Base { name: name.to_string(), format: Some(ImageFormat::Vmdk) }),
        ..Probe::default()
    })
}

/// The header; everything outside it is missing.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn get(&self, at: usize, length: usize) -> Option<&'a [u8]> {
        self.0.get(at..at.checked_add(length)?)
    }
    fn array<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.get(at, N)?.try_into().ok()
    }
    fn be16(&self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_be_bytes)
    }
    fn be32(&self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_be_bytes)
    }
    fn be64(&self, at: usize) -> Option<u64> {
        self.array(at).map(u64::from_be_bytes)
    }
    fn le32(&self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_le_bytes)
    }
    fn le64(&self, at: usize) -> Option<u64> {
        self.array(at).map(u64::from_le_bytes)
    }

    /// A name that stands in the file; none for one that is empty, too long, outside, or no clean text.
    fn name(&self, at: u64, length: u32) -> Option<String> {
        let (at, length) = (usize::try_from(at).ok()?, usize::try_from(length).ok()?);
        if at == 0 || length == 0 || length > LONGEST_NAME {
            return None;
        }
        let text = std::str::from_utf8(self.get(at, length)?).ok()?;
        (!text.contains(char::is_control)).then(|| text.to_string())
    }

    /// The text of a qcow2 header extension.
    fn extension(&self, mut at: usize, wanted: u32) -> Option<&'a str> {
        // Far more than any image has.
        for _ in 0..64 {
            let (kind, length) = (self.be32(at)?, usize::try_from(self.be32(at + 4)?).ok()?);
            if kind == 0 {
                return None;
            }
            if kind == wanted {
                return std::str::from_utf8(self.get(at + 8, length)?).ok();
            }
            at = at.checked_add(8)?.checked_add(length.checked_next_multiple_of(8)?)?;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn qcow2_head(version: u32, base: &str, base_format: &str) -> Vec<u8> {
        let mut h = vec![0; 4096];
        h[..4].copy_from_slice(b"QFI\xfb");
        h[4..8].copy_from_slice(&version.to_be_bytes());
        h[20..24].copy_from_slice(&16_u32.to_be_bytes());
        h[24..32].copy_from_slice(&(5_u64 << 20).to_be_bytes());
        h[80..88].copy_from_slice(&1_u64.to_be_bytes());
        h[100..104].copy_from_slice(&104_u32.to_be_bytes());
        let at = if version == 2 { 72 } else { 104 };
        h[at..at + 4].copy_from_slice(&0xe279_2aca_u32.to_be_bytes());
        h[at + 4..at + 8].copy_from_slice(&(base_format.len() as u32).to_be_bytes());
        h[at + 8..at + 8 + base_format.len()].copy_from_slice(base_format.as_bytes());
        h[8..16].copy_from_slice(&1000_u64.to_be_bytes());
        h[16..20].copy_from_slice(&(base.len() as u32).to_be_bytes());
        h[1000..1000 + base.len()].copy_from_slice(base.as_bytes());
        h
    }

    #[test]
    fn qcow2_of_both_versions() {
        let found = header(&qcow2_head(3, "/a/base", "raw"));
        assert_eq!(
            (found.format(), found.capacity, found.compat),
            (ImageFormat::Qcow2, Some(5 << 20), Some("1.1"))
        );
        assert!(found.lazy_refcounts && !found.extended_l2);
        let base = found.backing.unwrap();
        assert_eq!((base.name.as_str(), base.format), ("/a/base", Some(ImageFormat::Raw)));
        let found = header(&qcow2_head(2, "b", "qcow2"));
        assert_eq!((found.compat, found.lazy_refcounts), (Some("0.10"), false));
        assert_eq!(found.backing.unwrap().format, Some(ImageFormat::Qcow2));
    }

    #[test]
    fn a_name_that_is_none_is_no_base() {
        assert!(header(&qcow2_head(3, "a\nb", "raw")).backing.is_none());
        let mut h = qcow2_head(3, "x", "raw");
        h[8..16].copy_from_slice(&u64::MAX.to_be_bytes());
        assert!(header(&h).backing.is_none());
        h[16..20].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(header(&h).backing.is_none());
    }

    #[test]
    fn short_files_are_raw() {
        for head in [&b""[..], b"QFI\xfb", b"QFI\xfb\0\0\0\x03", b"QED\0", b"KDMV\x01\0\0\0", b"LUKS"] {
            let found = header(head);
            assert!(found.format.is_none() && found.backing.is_none(), "{head:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        /// Any bytes, and damaged real headers: no panic, no endless walk, names stay within their limits.
        #[test]
        fn any_bytes_are_survived(
            magic in prop::sample::select(vec![
                &b"QFI\xfb\0\0\0\x02"[..], b"QFI\xfb\0\0\0\x03", b"QFI\xfb\0\0\0\x01", b"QED\0", b"KDMV\x01\0\0\0",
                b"conectix", b"LUKS\xba\xbe\0\x01", b"OOOM\0\0\0\x02", b"",
            ]),
            rest in prop::collection::vec(any::<u8>(), 0..600),
            damage in prop::collection::vec((0_usize..4096, any::<u8>()), 0..40),
        ) {
            let mut bytes = magic.to_vec();
            bytes.extend(rest);
            for whole in [bytes.clone(), qcow2_head(3, "/some/base", "qcow2")] {
                let mut whole = whole;
                for (at, value) in &damage {
                    if let Some(byte) = whole.get_mut(*at) {
                        *byte = *value;
                    }
                }
                let found = header(&whole);
                if let Some(base) = found.backing {
                    prop_assert!(!base.name.is_empty() && base.name.len() <= LONGEST_NAME);
                    prop_assert!(!base.name.contains(char::is_control));
                }
                let _ = luks_payload(&whole);
            }
        }
    }
}
