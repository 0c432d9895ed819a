//! XML documents that were good once.

use std::path::Path;
use virt_error::Code;
use virt_wire::client::Client;
use virt_wire::remote::{self, procs};
use virt_wire::xdr::sample::Sampler;

/// Spoils a document: cuts, doubles, swaps and replaces parts, and adds what a parser must survive.
pub fn mangle_document(document: &str, s: &mut Sampler) -> String {
    let mut text = document.to_owned();
    for _ in 0..=s.below(3) {
        let (from, to) = span(&text, s);
        match s.below(12) {
            0 => text.truncate(from),
            1 => drop(text.drain(from..to)),
            2 => {
                let piece = text[from..to].to_owned();
                text.insert_str(to, &piece);
            }
            3 => text.insert_str(from, WEEDS[s.below(WEEDS.len() as u64) as usize]),
            4 => text.insert_str(0, "<!DOCTYPE d [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;'>]>"),
            5 => text.insert_str(from, &"<a>".repeat(1 + s.below(20_000) as usize)),
            6 => text.insert_str(from, &"x".repeat(s.below(300_000) as usize)),
            7 => text = numbers(&text, s),
            8 => text = text.replacen('\'', "", 1 + s.below(3) as usize),
            9 => {
                text = text.replace("domain", ["network", "Domain", "", "domain domain"][s.below(4) as usize])
            }
            10 => text.insert_str(from, "<name>../../etc/x</name><uuid>not-one</uuid>"),
            _ => {
                let piece: String = text[from..to].chars().rev().collect();
                text.replace_range(from..to, &piece);
            }
        }
    }
    text
}

/// Things that do not belong where they are put.
const WEEDS: &[&str] = &[
    "&undefined;",
    "&#x110000;",
    "&#0;",
    "<![CDATA[",
    "<!-- ",
    "]]>",
    "<?xml version='9'?>",
    "<x:y xmlns:x=''/>",
    "\u{feff}",
    "\u{fffe}",
    " a='1' a='2'",
    "</domain>",
    "<memory unit='YiB'>99999999999999999999</memory>",
    "<devices><disk/><interface/><console/><graphics/></devices>",
];

/// A part of the text, at characters' borders.
fn span(text: &str, s: &mut Sampler) -> (usize, usize) {
    let border = |mut at: usize| {
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let from = border(s.below(text.len() as u64 + 1) as usize);
    let to = border((from + s.below(80) as usize).min(text.len()));
    (from, to.max(from))
}

/// Replaces one number.
fn numbers(text: &str, s: &mut Sampler) -> String {
    let starts: Vec<usize> = text
        .char_indices()
        .filter(|(i, c)| c.is_ascii_digit() && !text[..*i].ends_with(|p: char| p.is_ascii_digit()))
        .map(|(i, _)| i)
        .collect();
    let Some(start) = starts.get(s.below(starts.len() as u64) as usize).copied() else {
        return text.to_owned();
    };
    let end = text[start..].find(|c: char| !c.is_ascii_digit()).map_or(text.len(), |n| start + n);
    let odd = ["-1", "0", "18446744073709551616", "1e9", "0x10", " 7 ", "4294967296"][s.below(7) as usize];
    format!("{}{odd}{}", &text[..start], &text[end..])
}

/// Defines `n` spoilt documents and undefines what was taken; gives how many were taken and how many refused. The
/// connection must live through all of them.
pub async fn hostile_documents(
    path: &Path,
    uri: &str,
    seed: u64,
    n: u64,
    documents: &[String],
) -> virt_error::Result<(u64, u64)> {
    let mut s = Sampler::new(seed);
    let client = Client::open_unix(path, uri, false).await?;
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..n {
        let document = &documents[s.below(documents.len() as u64) as usize];
        // The wire carries no NUL, so such a document would never leave.
        let xml = mangle_document(document, &mut s).replace('\0', "");
        match client.call::<procs::DomainDefineXml>(&remote::DomainDefineXmlArgs { xml }).await {
            Ok(ret) => {
                taken += 1;
                let args = remote::DomainUndefineFlagsArgs { dom: ret.dom, flags: 0 };
                client.call::<procs::DomainUndefineFlags>(&args).await?;
            }
            Err(e) if client.is_closed() || e.code() == Code::Rpc => return Err(e),
            Err(_) => refused += 1,
        }
    }
    client.close().await?;
    Ok((taken, refused))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mangling_is_deterministic_and_changes_most() {
        let document = "<domain type='qemu'><name>é1</name><memory>16384</memory></domain>";
        let row = |seed| {
            let mut s = Sampler::new(seed);
            (0..300).map(move |_| mangle_document(document, &mut s)).collect::<Vec<_>>()
        };
        assert_eq!(row(3), row(3));
        assert!(row(3).iter().filter(|d| *d != document).count() > 270);
    }
}
