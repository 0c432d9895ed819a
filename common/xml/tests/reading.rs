//! The tree, its limits and the words of its errors; the derive on a small type.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::err_expect)]

use virt_error::Domain;
use virt_xml::{Document, Mode, Xml, names};

fn refused(text: &str) -> String {
    match Document::parse(text, Mode::default(), Domain::Domain) {
        Ok(_) => panic!("accepted: {text}"),
        Err(e) => {
            assert_eq!(e.code() as i32, 35, "{text}");
            e.message().lines().next().unwrap_or_default().to_string()
        }
    }
}

#[test]
fn errors_speak_as_libxml2() {
    let cases = [
        ("", "at line 1: Document is empty"),
        ("   ", "at line 1: Start tag expected, '<' not found"),
        ("<domain", "at line 1: Couldn't find end of Start Tag domain line 1"),
        ("<a><name>x</nam></a>", "at line 1: Opening and ending tag mismatch: name line 1 and nam"),
        ("<a>\n<b>&foo;</b></a>", "at line 2: Entity 'foo' not defined"),
        ("<a x='1' x='2'/>", "at line 1: Attribute x redefined"),
        ("<a x=1/>", "at line 1: AttValue: \" or ' expected"),
        ("<a/><b/>", "at line 1: Extra content at the end of the document"),
        ("<a/>text", "at line 1: Extra content at the end of the document"),
        ("<a><b></b>", "at line 1: Premature end of data in tag a line 1"),
        ("<!DOCTYPE a><a/>", "at line 1: Document type declarations are not allowed"),
        ("<a x='<'/>", "at line 1: Unescaped '<' not allowed in attributes values"),
    ];
    for (text, want) in cases {
        assert_eq!(refused(text), want, "{text}");
    }
}

#[test]
fn limits_hold() {
    let deep = format!("{}{}", "<a>".repeat(300), "</a>".repeat(300));
    assert!(refused(&deep).contains("Excessive depth in document: 256"));
    let fits = format!("{}{}", "<a>".repeat(256), "</a>".repeat(256));
    assert!(Document::parse(&fits, Mode::default(), Domain::Domain).is_ok());
    let attrs: String = (0..300).map(|i| format!(" a{i}='1'")).collect();
    assert!(refused(&format!("<a{attrs}/>")).contains("more than 256 attributes"));
}

#[test]
fn a_long_line_is_not_repeated_in_the_error() {
    let text = format!("<a>{}</b>", "x".repeat(1 << 20));
    let error = Document::parse(&text, Mode::default(), Domain::Domain).err().expect("refused");
    assert!(error.message().len() < 2000);
}

#[test]
fn positions_and_namespaces_are_known() {
    let text = "<a xmlns:q='urn:q'>\n <b/>\n <b><q:c/></b>\n</a>";
    let doc = Document::parse(text, Mode::default(), Domain::Domain).unwrap();
    let second = doc.root().children_named("b").nth(1).unwrap();
    let inner = second.children().next().unwrap();
    assert_eq!((inner.path().as_str(), inner.line()), ("/a/b[2]/q:c", 3));
    assert_eq!((inner.local_name(), inner.namespace()), ("c", Some("urn:q")));
}

names! {
    /// Colours.
    pub enum Colour { Red = "red", Green = "green" }
}

/// A thing.
#[derive(Debug, Default, PartialEq, Xml)]
struct Thing {
    #[xml(attr, required)]
    size: u32,
    #[xml(attr)]
    colour: Option<Colour>,
    #[xml(attr = "inner@port", with = virt_xml::Hex<2>)]
    port: Option<u32>,
    #[xml(leaf = "note")]
    notes: Vec<String>,
    #[xml(flag)]
    ready: bool,
}

fn thing(text: &str) -> virt_error::Result<Thing> {
    virt_xml::parse(text, "thing", Mode::default(), Domain::Domain)
}

#[test]
fn a_type_reads_what_it_writes() {
    let text = "<thing size='3' colour='green'>\n  <inner port='0x0f'/>\n  <note>a &lt; b</note>\n  <note>it&apos;s</note>\n  <ready/>\n</thing>\n";
    let read = thing(text).unwrap();
    assert_eq!(read.notes, ["a < b", "it's"]);
    assert_eq!(virt_xml::format(&read, "thing", Mode::default()), text);
    assert_eq!(
        virt_xml::format(&Thing { size: 1, ..Thing::default() }, "thing", Mode::default()),
        "<thing size='1'/>\n"
    );
}

#[test]
fn refusals_name_place_value_and_expectation() {
    let error = thing("<thing\nsize='-5'/>").expect_err("refused");
    assert_eq!(
        error.message(),
        "XML error: Invalid value for attribute 'size' in element 'thing': '-5'. Expected non-negative integer value"
    );
    let context: Vec<_> = error.context().iter().map(|(k, v)| (*k, v.as_str())).collect();
    assert!(context.contains(&("element", "/thing")) && context.contains(&("line", "1")), "{context:?}");
    assert_eq!(
        thing("<thing/>").expect_err("refused").message(),
        "XML error: Missing required attribute 'size' in element 'thing'"
    );
    let unknown = thing("<thing size='1' colour='blue' what='ever'><odd/></thing>").expect_err("refused");
    assert_eq!(
        unknown.message(),
        "XML error: Invalid value for attribute 'colour' in element 'thing': 'blue'."
    );
}

#[test]
fn hostile_bytes_never_panic() {
    let seed = "<domain type='qemu' a=\"b\"><name>x &amp; y</name><!-- c --><![CDATA[z]]><?pi?><a><b c='d'/></a></domain>";
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    for _ in 0..20_000 {
        let mut bytes = seed.as_bytes().to_vec();
        for _ in 0..1 + next() % 4 {
            if bytes.is_empty() {
                break;
            }
            let at = next() % bytes.len();
            match next() % 3 {
                0 => bytes[at] = b"<>&'\"/=! \n\0]x"[next() % 13],
                1 => _ = bytes.remove(at),
                _ => bytes.truncate(at.max(1)),
            }
        }
        if let Ok(text) = String::from_utf8(bytes)
            && let Ok(doc) = Document::parse(&text, Mode::default(), Domain::Domain)
        {
            let element = doc.root().to_element();
            let mut out = String::new();
            element.dump(&mut out, 0, true);
            assert!(Document::parse(&out, Mode::default(), Domain::Domain).is_ok(), "{text:?} -> {out:?}");
        }
    }
}
