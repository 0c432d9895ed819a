//! From text to tree: quick-xml's events under our limits, with errors in the words of libxml2, which libvirt passes on.

use std::borrow::Cow;

use quick_xml::Reader;
use quick_xml::XmlVersion;
use quick_xml::errors::{Error as XmlFault, IllFormedError, SyntaxError};
use quick_xml::escape::{EscapeError, resolve_predefined_entity};
use quick_xml::events::attributes::AttrError;
use quick_xml::events::{BytesStart, Event};
use virt_error::{Code, Domain, Error, Result};

use crate::Mode;
use crate::document::{Document, Kind, NONE, Node};

/// Nesting the reference's parser allows.
const MAX_DEPTH: usize = 256;
/// Bytes in one document. The wire's string limit is smaller (4 MiB); files on disk may be larger.
const MAX_BYTES: usize = 32 << 20;
/// Attributes in one element: no document has more than some thirty, and checking for twins is quadratic.
const MAX_ATTRS: usize = 256;

struct Scan<'a> {
    doc: Document<'a>,
    /// Open elements: node and byte offset.
    open: Vec<u32>,
    closed: bool,
}

/// What is wrong, and where.
struct Fault {
    at: usize,
    text: String,
}

pub(crate) fn scan(src: &str, mode: Mode, domain: Domain) -> Result<Document<'_>> {
    let mut scan = Scan {
        doc: Document {
            src,
            nodes: Vec::with_capacity(src.len() / 24),
            attrs: Vec::with_capacity(src.len() / 32),
            mode,
        },
        open: Vec::new(),
        closed: false,
    };
    match scan.run() {
        Ok(()) => Ok(scan.doc),
        Err(fault) => Err(report(src, &fault, domain)),
    }
}

impl<'a> Scan<'a> {
    fn run(&mut self) -> Result<(), Fault> {
        let src = self.doc.src;
        if src.is_empty() {
            return fault(0, "Document is empty");
        }
        if src.len() > MAX_BYTES {
            return fault(0, format!("Document is larger than {MAX_BYTES} bytes"));
        }
        let mut reader = Reader::from_str(src);
        reader.config_mut().check_end_names = false;
        loop {
            let at = reader.buffer_position() as usize;
            let event = match reader.read_event() {
                Ok(event) => event,
                Err(e) => return Err(self.fault_of(&e, reader.error_position() as usize)),
            };
            match event {
                Event::Start(tag) => {
                    self.start(&tag, at)?;
                    let id = (self.doc.nodes.len() - 1) as u32;
                    if self.open.len() >= MAX_DEPTH {
                        return fault(
                            at,
                            format!("Excessive depth in document: {MAX_DEPTH} use XML_PARSE_HUGE option"),
                        );
                    }
                    self.open.push(id);
                }
                Event::Empty(tag) => {
                    self.start(&tag, at)?;
                    self.closed = self.open.is_empty();
                }
                Event::End(tag) => self.end(tag.name().as_ref(), at)?,
                Event::Text(text) => self.text(text.xml10_content(), at)?,
                Event::CData(text) => self.text(text.xml10_content(), at)?,
                Event::GeneralRef(name) => {
                    let text = if name.is_char_ref() {
                        match name.resolve_char_ref() {
                            Ok(Some(c)) if legal(c) => Cow::Owned(c.to_string()),
                            _ => return fault(at, "xmlParseCharRef: invalid xmlChar value"),
                        }
                    } else {
                        match resolve_predefined_entity(&name) {
                            Some(text) => Cow::Borrowed(text),
                            None => return fault(at, format!("Entity '{}' not defined", &*name)),
                        }
                    };
                    self.text(text, at)?;
                }
                Event::DocType(_) => return fault(at, "Document type declarations are not allowed"),
                Event::Comment(_) | Event::PI(_) | Event::Decl(_) => {}
                Event::Eof => break,
            }
        }
        match self.open.last() {
            Some(id) => {
                let (name, line) = self.opened(*id);
                fault(src.len(), format!("Premature end of data in tag {name} line {line}"))
            }
            None if !self.closed => fault(src.len(), "Start tag expected, '<' not found"),
            None => Ok(()),
        }
    }

    fn start(&mut self, tag: &BytesStart<'a>, at: usize) -> Result<(), Fault> {
        if self.closed {
            return fault(at, "Extra content at the end of the document");
        }
        let src = self.doc.src;
        // The tag's text as it stands in the source: borrowed for the whole document's life.
        let name_at = at + 1;
        let name = src.get(name_at..name_at + tag.name().as_ref().len()).unwrap_or_default();
        if !name.starts_with(|c: char| c.is_alphabetic() || c == '_' || c == ':') {
            return fault(name_at, "StartTag: invalid element name");
        }
        let from = self.doc.attrs.len();
        let mut attrs = tag.attributes();
        attrs.with_checks(false);
        let base = name_at;
        for attr in attrs {
            let attr = attr.map_err(|e| self.attr_fault(&e, base, name))?;
            let key = attr.key.as_ref();
            let key = borrowed(src, key).unwrap_or_default();
            if self.doc.attrs[from..].iter().any(|(n, _)| *n == key) {
                return fault(base, format!("Attribute {key} redefined"));
            }
            if self.doc.attrs.len() - from >= MAX_ATTRS {
                return fault(base, format!("Element {name} has more than {MAX_ATTRS} attributes"));
            }
            if attr.value.contains('<') {
                return fault(base, "Unescaped '<' not allowed in attributes values");
            }
            let value =
                attr.normalized_value(XmlVersion::Implicit1_0).map_err(|e| self.fault_of(&e, base))?;
            if !value.chars().all(legal) {
                return fault(base, "invalid character in attribute value");
            }
            let value = match value {
                Cow::Borrowed(v) => borrowed(src, v).map_or_else(|| Cow::Owned(v.to_string()), Cow::Borrowed),
                Cow::Owned(v) => match borrowed(src, &v) {
                    Some(v) => Cow::Borrowed(v),
                    None => Cow::Owned(v),
                },
            };
            self.doc.attrs.push((key, value));
        }
        let attrs = (from as u32, self.doc.attrs.len() as u32);
        self.push(Kind::Element { name, attrs, first: NONE, last: NONE }, at);
        Ok(())
    }

    fn end(&mut self, name: &str, at: usize) -> Result<(), Fault> {
        let Some(id) = self.open.pop() else {
            return fault(at, "Extra content at the end of the document");
        };
        if self.name_of(id) != name {
            let (opened, line) = self.opened(id);
            return fault(at, format!("Opening and ending tag mismatch: {opened} line {line} and {name}"));
        }
        self.closed = self.open.is_empty();
        Ok(())
    }

    fn text(&mut self, text: Cow<'a, str>, at: usize) -> Result<(), Fault> {
        let Some(parent) = self.open.last().copied() else {
            return match (text.trim_ascii().is_empty(), self.closed) {
                (true, _) => Ok(()),
                (false, false) => fault(at, "Start tag expected, '<' not found"),
                (false, true) => fault(at, "Extra content at the end of the document"),
            };
        };
        if let Some(bad) = text.char_indices().find(|(_, c)| !legal(*c)) {
            return fault(at + bad.0, format!("PCDATA invalid Char value {}", bad.1 as u32));
        }
        if let Kind::Element { last, .. } = &self.doc.nodes[parent as usize].kind {
            let last = *last;
            if last != NONE
                && let Kind::Text(before) = &mut self.doc.nodes[last as usize].kind
            {
                before.to_mut().push_str(&text);
                return Ok(());
            }
        }
        self.push(Kind::Text(text), at);
        Ok(())
    }

    fn push(&mut self, kind: Kind<'a>, at: usize) {
        let id = self.doc.nodes.len() as u32;
        let parent = self.open.last().copied().unwrap_or(NONE);
        self.doc.nodes.push(Node { kind, parent, next: NONE, pos: at as u32 });
        if parent == NONE {
            return;
        }
        let mut before = NONE;
        if let Kind::Element { first, last, .. } = &mut self.doc.nodes[parent as usize].kind {
            before = std::mem::replace(last, id);
            if before == NONE {
                *first = id;
            }
        }
        if before != NONE {
            self.doc.nodes[before as usize].next = id;
        }
    }

    fn name_of(&self, id: u32) -> &'a str {
        match self.doc.nodes[id as usize].kind {
            Kind::Element { name, .. } => name,
            Kind::Text(_) => "",
        }
    }

    /// Name and line of an open element. Counting lines is linear: for errors only.
    fn opened(&self, id: u32) -> (&'a str, usize) {
        (self.name_of(id), line_of(self.doc.src, self.doc.nodes[id as usize].pos as usize))
    }

    fn attr_fault(&self, e: &AttrError, base: usize, name: &str) -> Fault {
        let src = self.doc.src;
        let (at, text) = match e {
            AttrError::ExpectedEq(p) => (p, "Specification mandates value for attribute".to_string()),
            AttrError::UnquotedValue(p) | AttrError::ExpectedValue(p) => {
                (p, "AttValue: \" or ' expected".to_string())
            }
            AttrError::ExpectedQuote(p, _) => {
                (p, format!("Couldn't find end of Start Tag {name} line {}", line_of(src, base)))
            }
            AttrError::Duplicated(p, _) => (p, "Attribute redefined".to_string()),
        };
        Fault { at: base + at, text }
    }

    fn fault_of(&self, e: &XmlFault, at: usize) -> Fault {
        let src = self.doc.src;
        let text = match e {
            XmlFault::Syntax(
                SyntaxError::UnclosedTag
                | SyntaxError::UnclosedSingleQuotedAttributeValue
                | SyntaxError::UnclosedDoubleQuotedAttributeValue,
            ) => {
                let rest = src.get(at..).unwrap_or_default().trim_start_matches('<');
                if rest.starts_with('/') {
                    "expected '>'".to_string()
                } else {
                    let end = rest.find(|c: char| c.is_whitespace() || c == '/' || c == '>');
                    let name = &rest[..end.unwrap_or(rest.len())];
                    format!("Couldn't find end of Start Tag {name} line {}", line_of(src, at))
                }
            }
            XmlFault::Syntax(SyntaxError::UnclosedComment) => "Comment not terminated".to_string(),
            XmlFault::Syntax(SyntaxError::UnclosedCData) => "CData section not finished".to_string(),
            XmlFault::Syntax(SyntaxError::UnclosedDoctype) => {
                "Document type declarations are not allowed".to_string()
            }
            XmlFault::IllFormed(IllFormedError::UnmatchedEndTag(_)) => {
                "Extra content at the end of the document".to_string()
            }
            XmlFault::Escape(EscapeError::UnrecognizedEntity(_, name)) => {
                format!("Entity '{name}' not defined")
            }
            XmlFault::Escape(EscapeError::UnterminatedEntity(_)) => "EntityRef: expecting ';'".to_string(),
            other => other.to_string(),
        };
        Fault { at, text }
    }
}

fn fault<T>(at: usize, text: impl Into<String>) -> Result<T, Fault> {
    Err(Fault { at, text: text.into() })
}

/// The part of `src` that `part` is a slice of, if it is one.
fn borrowed<'a>(src: &'a str, part: &str) -> Option<&'a str> {
    let from = (part.as_ptr() as usize).checked_sub(src.as_ptr() as usize)?;
    src.get(from..from.checked_add(part.len())?)
}

/// XML 1.0's Char production.
fn legal(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

fn line_of(src: &str, pos: usize) -> usize {
    1 + src.as_bytes()[..pos.min(src.len())].iter().filter(|b| **b == b'\n').count()
}

/// libvirt's report of a parser error: the text, the line, and a caret under the place.
fn report(src: &str, fault: &Fault, domain: Domain) -> Error {
    let mut at = fault.at.min(src.len());
    while !src.is_char_boundary(at) {
        at -= 1;
    }
    let line = line_of(src, at);
    let from = src[..at].rfind('\n').map_or(0, |n| n + 1);
    let to = src[at..].find('\n').map_or(src.len(), |n| at + n);
    // The reference shows the whole line; a hostile line is megabytes long.
    let shown: String = src[from..to].chars().take(400).collect();
    let column = src[from..at].chars().count().min(400);
    // The C library's word for no line at all.
    let shown = if src.is_empty() { "(null)" } else { &shown };
    let text = format!("at line {line}: {}\n{shown}\n{}^", fault.text, "-".repeat(column));
    Error::new(Code::XmlDetail, domain, text).with("line", line)
}
