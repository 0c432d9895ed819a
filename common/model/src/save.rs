//! Saved guests: what stands before QEMU's own data in a file of `virsh save`.
//!
//! ```text
//!   92 bytes    magic, version, length of the next part, whether the guest ran, how the data is packed, cookie's place
//!   length      the guest's document, a zero byte; the cookie, a zero byte; zero bytes that leave room for changes
//!   the rest    QEMU's migration data
//! ```
//!
//! Numbers are in the byte order of the host that wrote the file.

use virt_error::{Code, Domain as From, Error, Result};
use virt_xml::Mode;

use crate::snapshot::Cookie;

/// Length of the fixed first part.
pub const HEADER: usize = 92;
/// Most bytes of document, cookie and room that are read.
const MOST: u32 = 64 << 20;
/// Room that is left for a longer document.
const ROOM: usize = 64 << 10;
const MAGIC: &[u8; 16] = b"LibvirtQemudSave";
/// Stands there until the file is whole.
const PARTIAL: &[u8; 16] = b"LibvirtQemudPart";
const VERSION: u32 = 2;

/// The fixed first part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The file is whole.
    pub whole: bool,
    /// Bytes between this part and QEMU's data.
    pub length: u32,
    /// The guest ran when it was saved.
    pub was_running: bool,
    /// How QEMU's data is packed; 0: not at all.
    pub packing: u32,
    /// Where the cookie begins; 0: none.
    cookie: u32,
}

/// What a saved guest's file tells of it.
#[derive(Debug, Clone, PartialEq)]
pub struct SaveImage {
    /// The fixed first part.
    pub header: Header,
    /// The guest's document as it is in the file.
    pub xml: String,
    /// What is needed beside the document.
    pub cookie: Option<Cookie>,
}

fn failed(text: impl Into<String>) -> Error {
    Error::new(Code::OperationFailed, From::Qemu, text)
}

impl Header {
    /// The first bytes of a file that must not be restored: one not finished yet, or one whose guest has gone on.
    #[must_use]
    pub const fn void() -> &'static [u8; 16] {
        PARTIAL
    }

    /// Whether the file that begins so was not finished.
    pub fn is_partial(first: &[u8; 16]) -> bool {
        first == PARTIAL
    }

    /// Reads the first bytes of a file.
    ///
    /// Errors: code 9 in the reference's words.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let Some(bytes) = bytes.first_chunk::<HEADER>() else {
            return Err(failed("failed to read qemu header"));
        };
        let whole = match &bytes[..16] {
            magic if magic == MAGIC => true,
            magic if magic == PARTIAL => false,
            _ => return Err(failed("image magic is incorrect")),
        };
        let word = |at: usize| {
            let mut four = [0; 4];
            four.copy_from_slice(&bytes[16 + 4 * at..20 + 4 * at]);
            four
        };
        // A file of a host with the other byte order has a version whose low half is empty.
        let swapped =
            u32::from_ne_bytes(word(0)) > VERSION && u32::from_ne_bytes(word(0)).swap_bytes() <= VERSION;
        let number = |at: usize| {
            let n = u32::from_ne_bytes(word(at));
            if swapped { n.swap_bytes() } else { n }
        };
        if !whole {
            return Err(failed("save image is incomplete"));
        }
        let (version, length) = (number(0), number(1));
        if version > VERSION {
            // The reference shows the number after it has swapped it.
            let shown = version.swap_bytes();
            return Err(failed(format!("image version is not supported ({shown} > {VERSION})")));
        }
        if length == 0 || length > MOST {
            return Err(failed(format!("invalid header data length: {length}")));
        }
        Ok(Self { whole, length, was_running: number(2) != 0, packing: number(3), cookie: number(4) })
    }

    fn bytes(&self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        out[..16].copy_from_slice(if self.whole { MAGIC } else { PARTIAL });
        let numbers = [VERSION, self.length, self.was_running.into(), self.packing, self.cookie];
        for (i, n) in numbers.into_iter().enumerate() {
            out[16 + 4 * i..20 + 4 * i].copy_from_slice(&n.to_ne_bytes());
        }
        out
    }
}

impl SaveImage {
    /// A new file's first parts. Not whole until QEMU's data stands behind.
    pub fn new(xml: String, cookie: Option<Cookie>, was_running: bool) -> Self {
        let header = Header { whole: false, length: 0, was_running, packing: 0, cookie: 0 };
        let mut image = Self { header, xml, cookie };
        let used = image.used().0.len();
        image.header.length = u32::try_from(used + ROOM).unwrap_or(MOST);
        image
    }

    /// Reads what stands between the header and QEMU's data.
    ///
    /// Errors: code 9 for a part that is cut off or not text.
    pub fn parse(header: Header, bytes: &[u8]) -> Result<Self> {
        let part = |from: usize, to: usize, what: &str| {
            let bytes = bytes.get(from..to).ok_or_else(|| failed(format!("failed to read {what}")))?;
            let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
            std::str::from_utf8(&bytes[..end]).map_err(|_| failed(format!("failed to read {what}")))
        };
        let length = header.length as usize;
        let at = header.cookie as usize;
        let xml = part(0, if at > 0 { at.min(length) } else { length }, "domain XML")?.to_string();
        let cookie = match at {
            0 => None,
            at => match part(at, length, "cookie")? {
                "" => None,
                text => Some(virt_xml::parse(text, "cookie", Mode::STATUS, From::Domain)?),
            },
        };
        Ok(Self { header, xml, cookie })
    }

    /// Document and cookie with their ends, and where the cookie begins.
    fn used(&self) -> (Vec<u8>, u32) {
        let mut out = self.xml.as_bytes().to_vec();
        out.push(0);
        let Some(cookie) = &self.cookie else { return (out, 0) };
        let at = u32::try_from(out.len()).unwrap_or(0);
        out.extend(virt_xml::format(cookie, "cookie", Mode::STATUS).into_bytes());
        out.push(0);
        (out, at)
    }

    /// All bytes before QEMU's data. `whole` says that the data stands there too.
    ///
    /// Errors: code 9 for a document that has grown over its room.
    pub fn bytes(&self, whole: bool) -> Result<Vec<u8>> {
        let (used, cookie) = self.used();
        if used.len() > self.header.length as usize {
            return Err(failed("new xml too large to fit in file"));
        }
        let mut out = Header { whole, cookie, ..self.header.clone() }.bytes().to_vec();
        out.extend(used);
        out.resize(HEADER + self.header.length as usize, 0);
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> SaveImage {
        SaveImage::new("<domain/>\n".into(), Some(Cookie { slirp_helper: true, ..Cookie::default() }), true)
    }

    fn read(bytes: &[u8]) -> Result<SaveImage> {
        let header = Header::parse(bytes)?;
        SaveImage::parse(header, &bytes[HEADER..])
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = image().bytes(true).expect("fits");
        assert_eq!(&bytes[..16], MAGIC);
        assert_eq!(bytes.len(), HEADER + image().header.length as usize);
        let back = read(&bytes).expect("whole");
        assert_eq!((back.xml.as_str(), back.header.was_running), ("<domain/>\n", true));
        assert_eq!(back.cookie, image().cookie);
        assert_eq!(back.bytes(true).expect("fits"), bytes);
    }

    #[test]
    fn a_document_may_grow_into_its_room_only() {
        let mut changed = read(&image().bytes(true).expect("fits")).expect("whole");
        changed.xml = format!("<domain>{}</domain>", "x".repeat(1000));
        let bytes = changed.bytes(true).expect("there is room");
        assert_eq!(bytes.len(), image().bytes(true).expect("fits").len(), "QEMU's data stays where it is");
        assert_eq!(read(&bytes).expect("whole").xml, changed.xml);
        changed.xml = "x".repeat(ROOM + 1000);
        assert_eq!(
            changed.bytes(true).expect_err("too large").info(),
            Some("new xml too large to fit in file")
        );
    }

    #[test]
    fn files_of_the_other_byte_order_are_read() {
        let mut bytes = image().bytes(true).expect("fits");
        bytes[16..HEADER].chunks_exact_mut(4).for_each(|word| word.reverse());
        assert_eq!(read(&bytes).expect("whole").xml, image().xml);
    }

    #[test]
    fn damaged_files_are_refused() {
        let bytes = image().bytes(true).expect("fits");
        let with = |at: usize, n: u32| {
            let mut bytes = bytes.clone();
            bytes[16 + 4 * at..20 + 4 * at].copy_from_slice(&n.to_ne_bytes());
            read(&bytes).expect_err("refused").message()
        };
        assert!(with(0, 3).contains("image version is not supported"));
        assert!(with(1, 0).contains("invalid header data length: 0"));
        assert!(with(1, u32::MAX).contains("invalid header data length"));
        assert!(with(4, u32::MAX).contains("failed to read cookie"));
        assert!(with(1, 1 << 20).contains("failed to read"));
        let text = |bytes: &[u8]| read(bytes).expect_err("refused").message();
        assert!(text(&bytes[..50]).contains("failed to read qemu header"));
        assert!(text(&image().bytes(false).expect("fits")).contains("save image is incomplete"));
        assert!(text(&[0; 200]).contains("image magic is incorrect"));
        for cut in HEADER..bytes.len().min(HEADER + 300) {
            assert!(read(&bytes[..cut]).is_err(), "{cut} bytes");
        }
    }
}
