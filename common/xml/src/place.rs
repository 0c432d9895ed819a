//! Where in its text an element stood: for what is found wrong only after reading.

use virt_error::{Domain, Error, Result};

use crate::document::Kind;
use crate::{Document, El, Mode};

/// The place of an element in the text it was read from. It is no part of the value: any two are equal.
#[derive(Debug, Clone, Copy, Default)]
pub struct Place(u32);

impl PartialEq for Place {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Place {}

/// Context of an error that is not yet told as path and line; it never leaves the daemon.
const OFFSET: &str = "offset";

impl El<'_> {
    /// Where the element stands.
    pub fn place(&self) -> Place {
        Place(self.offset().saturating_add(1))
    }
}

/// Says of an error which element it is about, unless it knows already.
pub trait At {
    /// The element that stood here when it was read; nothing for one that came from no text.
    #[must_use]
    fn at(self, place: Place) -> Self;
    /// The element with this path: `/domain/cpu/numa`.
    #[must_use]
    fn within(self, path: &str) -> Self;
}

impl<T> At for Result<T> {
    fn at(self, place: Place) -> Self {
        match self {
            Err(e) if place.0 > 0 && !placed(&e) => Err(e.with(OFFSET, place.0 - 1)),
            other => other,
        }
    }

    fn within(self, path: &str) -> Self {
        self.map_err(|e| if placed(&e) { e } else { e.with("element", path) })
    }
}

fn placed(e: &Error) -> bool {
    e.fact("element").is_some() || e.fact(OFFSET).is_some()
}

/// Turns the place of an error into path, line and what stands there. `text` is what the refused value was read from.
#[must_use]
pub fn locate(error: Error, text: &str) -> Error {
    let told = ["value", "missing"].iter().any(|k| error.fact(k).is_some());
    if error.fact("line").is_some() && (told || error.fact("element").is_none()) {
        return error;
    }
    let offset = error.fact(OFFSET).and_then(|o| o.parse().ok());
    let path = error.fact("element").map(str::to_string);
    let error = unlocated(error);
    let Ok(doc) = Document::parse(text, Mode::default(), Domain::Xml) else { return error };
    let by_offset = offset.and_then(|o| doc.element_at(o));
    let (found, whole) = match (by_offset, &path) {
        (Some(e), _) => (e, true),
        (None, Some(path)) => follow(doc.root(), path),
        (None, None) => (doc.root(), true),
    };
    let error = match (path, whole) {
        (_, true) => error.without("element").with("element", found.path()),
        (Some(path), false) => error.with("missing", path),
        (None, false) => error,
    };
    let error = error.without("line").with("line", found.line());
    if whole && error.fact("value").is_none() { error.with("value", shown(found)) } else { error }
}

/// Forgets a place in a text that is no longer at hand.
#[must_use]
pub fn unlocated(error: Error) -> Error {
    error.without(OFFSET)
}

/// The element with this path, or the last one on the way there that exists.
fn follow<'d>(root: El<'d>, path: &str) -> (El<'d>, bool) {
    let mut at = root;
    for step in path.split('/').filter(|s| !s.is_empty()).skip(1) {
        let (name, n) = match step.strip_suffix(']').and_then(|s| s.split_once('[')) {
            Some((name, n)) => (name, n.parse().unwrap_or(1)),
            None => (step, 1_usize),
        };
        match at.children().filter(|c| c.name() == name).nth(n.saturating_sub(1)) {
            Some(next) => at = next,
            None => return (at, false),
        }
    }
    (at, true)
}

/// Longest text of an element that is shown.
const SHOWN: usize = 200;

/// The element's start as it was written, or its text. Passwords are not shown.
fn shown(e: El<'_>) -> String {
    let mut out = format!("<{}", e.name());
    for (name, value) in e.attrs() {
        let value = if name.to_ascii_lowercase().contains("passw") { "***" } else { value };
        out.push_str(&format!(" {name}='{value}'"));
    }
    out.push('>');
    if e.children().next().is_none() && !e.name().to_ascii_lowercase().contains("passw") {
        out.push_str(e.text().trim());
    }
    if out.len() > SHOWN {
        let cut = (0..=SHOWN).rev().find(|n| out.is_char_boundary(*n)).unwrap_or(0);
        out.truncate(cut);
        out.push_str("...");
    }
    out
}

impl Document<'_> {
    /// The element that starts at this byte. Nodes stand in the order of the text.
    fn element_at(&self, offset: u32) -> Option<El<'_>> {
        let id = self.nodes.partition_point(|n| n.pos < offset);
        let node = self.nodes.get(id)?;
        let element = matches!(node.kind, Kind::Element { .. }) && node.pos == offset;
        element.then(|| self.element(id as u32))
    }
}
