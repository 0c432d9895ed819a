//! An owned element: foreign content that is kept verbatim.

/// An element with everything inside.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Element {
    /// Name as written, with its prefix.
    pub name: String,
    /// Attributes in source order, namespace declarations included.
    pub attrs: Vec<(String, String)>,
    /// Elements and text in source order.
    pub children: Vec<Node>,
}

/// What an [`Element`] holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A child element.
    Element(Element),
    /// Text, entities resolved.
    Text(String),
}

impl Element {
    /// Child elements.
    pub fn elements(&self) -> impl Iterator<Item = &Element> {
        self.children.iter().filter_map(|c| match c {
            Node::Element(e) => Some(e),
            Node::Text(_) => None,
        })
    }

    /// The value of an attribute.
    pub fn attr(&self, name: &str) -> Option<&str> {
        self.attrs.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Text of this element alone.
    pub fn text(&self) -> String {
        let text = |c: &Node| match c {
            Node::Text(t) => Some(t.clone()),
            Node::Element(_) => None,
        };
        self.children.iter().filter_map(text).collect()
    }

    /// The namespace this element declares for its own prefix.
    pub fn own_namespace(&self) -> Option<&str> {
        match self.name.split_once(':') {
            Some((prefix, _)) => self.attr(&format!("xmlns:{prefix}")),
            None => self.attr("xmlns"),
        }
    }

    /// Writes the element the way libxml2 formats a node: double quotes, namespace declarations first, two blanks a
    /// level, and everything on one line inside an element that holds text.
    pub fn dump(&self, out: &mut String, level: usize, indent: bool) {
        out.push('<');
        out.push_str(&self.name);
        let ns = |n: &str| n == "xmlns" || n.starts_with("xmlns:");
        for (n, v) in self.attrs.iter().filter(|a| ns(&a.0)).chain(self.attrs.iter().filter(|a| !ns(&a.0))) {
            out.push(' ');
            out.push_str(n);
            out.push_str("=\"");
            escape(v, true, out);
            out.push('"');
        }
        if self.children.is_empty() {
            out.push_str("/>");
            return;
        }
        out.push('>');
        let indent = indent && !self.children.iter().any(|c| matches!(c, Node::Text(_)));
        for child in &self.children {
            match child {
                Node::Text(t) => escape(t, false, out),
                Node::Element(e) => {
                    if indent {
                        newline(out, level + 1);
                    }
                    e.dump(out, level + 1, indent);
                }
            }
        }
        if indent {
            newline(out, level);
        }
        out.push_str("</");
        out.push_str(&self.name);
        out.push('>');
    }
}

fn newline(out: &mut String, level: usize) {
    out.push('\n');
    for _ in 0..level {
        out.push_str("  ");
    }
}

/// libxml2's own escaping, which leaves single quotes alone.
fn escape(text: &str, attr: bool, out: &mut String) {
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' if attr => out.push_str("&quot;"),
            '\n' if attr => out.push_str("&#10;"),
            '\t' if attr => out.push_str("&#9;"),
            '\r' => out.push_str("&#13;"),
            c => out.push(c),
        }
    }
}
