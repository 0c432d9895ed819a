//! The tree: nodes and attributes in two vectors, text borrowed from the source where nothing had to be resolved.

use std::borrow::Cow;

use virt_error::{Code, Domain, Error, Result};

use crate::element::{Element, Node as Owned};
use crate::{Bad, Mode, Say};

pub(crate) const NONE: u32 = u32::MAX;

/// A parsed document. Borrowed from its text.
pub struct Document<'a> {
    pub(crate) src: &'a str,
    pub(crate) nodes: Vec<Node<'a>>,
    pub(crate) attrs: Vec<(&'a str, Cow<'a, str>)>,
    pub(crate) mode: Mode,
}

pub(crate) struct Node<'a> {
    pub kind: Kind<'a>,
    pub parent: u32,
    pub next: u32,
    /// Byte offset of the node in the source.
    pub pos: u32,
}

pub(crate) enum Kind<'a> {
    Element { name: &'a str, attrs: (u32, u32), first: u32, last: u32 },
    Text(Cow<'a, str>),
}

impl<'a> Document<'a> {
    /// Reads `text`. `domain` is the error domain of a syntax error (libvirt reports the caller's).
    pub fn parse(text: &'a str, mode: Mode, domain: Domain) -> Result<Self> {
        crate::scan::scan(text, mode, domain)
    }

    /// Children of the root with one of these names count as one element with all before: its children go on with those
    /// of its twins, and it has their attributes, the first of each name.
    pub(crate) fn join(&mut self, names: &[&str]) {
        let mut heads: Vec<(&'a str, u32)> = Vec::new();
        let mut id = match self.nodes.first().map(|n| &n.kind) {
            Some(Kind::Element { first, .. }) if !names.is_empty() => *first,
            _ => NONE,
        };
        while id != NONE {
            let here = id;
            id = self.nodes[here as usize].next;
            let Kind::Element { name, .. } = self.nodes[here as usize].kind else { continue };
            if !names.contains(&name) {
                continue;
            }
            match heads.iter().find(|(known, _)| *known == name) {
                Some((_, head)) => self.append(*head, here),
                None => heads.push((name, here)),
            }
        }
    }

    /// The children keep their parent: errors tell where they stand.
    fn append(&mut self, head: u32, twin: u32) {
        let Kind::Element { attrs: more, first: from, last: to, .. } = self.nodes[twin as usize].kind else {
            return;
        };
        let Kind::Element { attrs: own, first, last, .. } = self.nodes[head as usize].kind else { return };
        let all = self.attrs[own.0 as usize..own.1 as usize].to_vec();
        let new = self.attrs[more.0 as usize..more.1 as usize].iter();
        let new: Vec<_> = new.filter(|(n, _)| all.iter().all(|(known, _)| known != n)).cloned().collect();
        let start = self.attrs.len() as u32;
        self.attrs.extend(all.into_iter().chain(new));
        let end = self.attrs.len() as u32;
        if last != NONE {
            self.nodes[last as usize].next = from;
        }
        if let Kind::Element { attrs, first: head_first, last: head_last, .. } =
            &mut self.nodes[head as usize].kind
        {
            *attrs = (start, end);
            *head_first = if first == NONE { from } else { first };
            *head_last = if to == NONE { last } else { to };
        }
    }

    pub(crate) fn element(&self, id: u32) -> El<'_> {
        El { doc: self, id }
    }

    /// The root element (there always is one).
    pub fn root(&self) -> El<'_> {
        El { doc: self, id: 0 }
    }
}

/// A cursor on one element of a [`Document`].
#[derive(Clone, Copy)]
pub struct El<'d> {
    doc: &'d Document<'d>,
    id: u32,
}

impl<'d> El<'d> {
    fn element(&self) -> (&'d str, (u32, u32), u32) {
        match &self.doc.nodes[self.id as usize].kind {
            Kind::Element { name, attrs, first, .. } => (name, *attrs, *first),
            Kind::Text(_) => ("", (0, 0), NONE),
        }
    }

    /// The name as written, with its prefix.
    pub fn name(&self) -> &'d str {
        self.element().0
    }

    /// The name without its prefix.
    pub fn local_name(&self) -> &'d str {
        let name = self.name();
        name.split_once(':').map_or(name, |(_, local)| local)
    }

    /// The namespace the element is in; `None` when nobody declared its prefix, or a default for one without.
    pub fn namespace(&self) -> Option<&'d str> {
        let prefix = self.name().split_once(':').map(|(prefix, _)| prefix);
        let mut at = Some(*self);
        while let Some(e) = at {
            let found = e.attrs().find(|(n, _)| match prefix {
                Some(prefix) => n.strip_prefix("xmlns:").is_some_and(|p| p == prefix),
                None => *n == "xmlns",
            });
            if let Some((_, uri)) = found {
                return Some(uri);
            }
            at = e.parent();
        }
        None
    }

    /// What the document is read for.
    pub fn mode(&self) -> Mode {
        self.doc.mode
    }

    /// The enclosing element.
    pub fn parent(&self) -> Option<El<'d>> {
        let id = self.doc.nodes[self.id as usize].parent;
        (id != NONE).then_some(El { doc: self.doc, id })
    }

    /// Attributes in source order.
    pub fn attrs(&self) -> impl Iterator<Item = (&'d str, &'d str)> + use<'d> {
        let (from, to) = self.element().1;
        self.doc.attrs[from as usize..to as usize].iter().map(|(n, v)| (*n, &**v))
    }

    /// The value of an attribute.
    pub fn attr(&self, name: &str) -> Option<&'d str> {
        self.attrs().find(|(n, _)| *n == name).map(|(_, v)| v)
    }

    /// Child elements in source order.
    pub fn children(&self) -> impl Iterator<Item = El<'d>> + use<'d> {
        let doc = self.doc;
        let mut id = self.element().2;
        std::iter::from_fn(move || {
            while id != NONE {
                let node = &doc.nodes[id as usize];
                let here = id;
                id = node.next;
                if let Kind::Element { .. } = node.kind {
                    return Some(El { doc, id: here });
                }
            }
            None
        })
    }

    /// Child elements with this name.
    pub fn children_named(&self, name: &'d str) -> impl Iterator<Item = El<'d>> + use<'d> {
        self.children().filter(move |c| c.name() == name)
    }

    /// The first child element with this name.
    pub fn child(&self, name: &str) -> Option<El<'d>> {
        self.children().find(|c| c.name() == name)
    }

    /// The last child element with this name.
    pub fn last_child(&self, name: &str) -> Option<El<'d>> {
        self.children().filter(|c| c.name() == name).last()
    }

    /// All text inside, of descendants too, as an XPath `string()` gives it.
    pub fn text(&self) -> Cow<'d, str> {
        let mut out = Cow::Borrowed("");
        self.gather(&mut out);
        out
    }

    fn gather(&self, out: &mut Cow<'d, str>) {
        let mut id = self.element().2;
        while id != NONE {
            let node = &self.doc.nodes[id as usize];
            match &node.kind {
                Kind::Text(t) if out.is_empty() => *out = Cow::Borrowed(&**t),
                Kind::Text(t) => out.to_mut().push_str(t),
                Kind::Element { .. } => El { doc: self.doc, id }.gather(out),
            }
            id = node.next;
        }
    }

    /// Byte offset in the source.
    pub(crate) fn offset(&self) -> u32 {
        self.doc.nodes[self.id as usize].pos
    }

    /// The line in the source, from 1.
    pub fn line(&self) -> usize {
        let pos = self.doc.nodes[self.id as usize].pos as usize;
        1 + self.doc.src.as_bytes()[..pos.min(self.doc.src.len())].iter().filter(|b| **b == b'\n').count()
    }

    /// Where the element stands: `/domain/devices/disk[2]/target`.
    pub fn path(&self) -> String {
        let mut parts = Vec::new();
        let mut at = Some(*self);
        while let Some(e) = at {
            at = e.parent();
            let name = e.name();
            let twins = at.map(|p| p.children_named(name).position(|c| c.id == e.id).unwrap_or(0));
            match twins {
                Some(n) if at.is_some_and(|p| p.children_named(name).nth(1).is_some()) => {
                    parts.push(format!("/{name}[{}]", n + 1));
                }
                _ => parts.push(format!("/{name}")),
            }
        }
        parts.reverse();
        parts.concat()
    }

    /// An owned copy with everything inside; blank text between elements is left out.
    pub fn to_element(&self) -> Element {
        let mut children = Vec::new();
        let mut id = self.element().2;
        while id != NONE {
            let node = &self.doc.nodes[id as usize];
            match &node.kind {
                Kind::Element { .. } => {
                    children.push(Owned::Element(El { doc: self.doc, id }.to_element()));
                }
                Kind::Text(t) => children.push(Owned::Text(t.to_string())),
            }
            id = node.next;
        }
        let blank = |n: &Owned| matches!(n, Owned::Text(t) if t.trim_ascii().is_empty());
        if children.iter().any(|c| matches!(c, Owned::Element(_))) {
            children.retain(|c| !blank(c));
        }
        Element {
            name: self.name().to_string(),
            attrs: self.attrs().map(|(n, v)| (n.to_string(), v.to_string())).collect(),
            children,
        }
    }

    /// An error at this element, with path and line for logs and gRPC callers.
    pub fn error(&self, code: Code, domain: Domain, text: impl Into<String>) -> Error {
        Error::new(code, domain, text).with("element", self.path()).with("line", self.line())
    }

    /// An error in libvirt's own words for this place.
    pub fn say(&self, say: &Say, value: &str) -> Error {
        self.error(say.code, say.domain, say.text.replace("{}", value)).with("value", value)
    }

    /// "Invalid value for attribute ..." (code 27), as libvirt words it.
    pub fn bad_attr(&self, name: &str, value: &str, bad: Bad) -> Error {
        let start = format!("Invalid value for attribute '{name}' in element '{}'", self.name());
        let expected = bad.expected();
        let text = match bad {
            Bad::Unknown | Bad::Missing => format!("{start}: '{value}'."),
            Bad::Expected(what) => format!("{start}: '{value}'. {what}"),
            Bad::Whole(what) => format!("{start}: {what}"),
            Bad::Own(say) => return self.say(say, value).with("attribute", name),
        };
        let e = self.error(Code::XmlError, Domain::Xml, text).with("attribute", name).with("value", value);
        match expected {
            Some(what) => e.with("expected", what),
            None => e,
        }
    }

    /// "Missing required attribute ..." (code 27).
    pub fn missing_attr(&self, name: &str) -> Error {
        let text = format!("Missing required attribute '{name}' in element '{}'", self.name());
        self.error(Code::XmlError, Domain::Xml, text).with("attribute", name).with("missing", name)
    }

    /// "Invalid value ... for element or attribute" (code 27) for an element's own text.
    pub fn bad_text(&self, value: &str, bad: Bad) -> Error {
        if let Bad::Own(say) = bad {
            return self.say(say, value);
        }
        let text = format!("Invalid value '{value}' for element or attribute './{}[1]'", self.name());
        let e = self.error(Code::XmlError, Domain::Xml, text).with("value", value);
        match bad.expected() {
            Some(what) => e.with("expected", what),
            None => e,
        }
    }
}
