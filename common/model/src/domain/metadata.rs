use virt_xml::rt_error::{Domain, Result};
use virt_xml::{Document, El, Element, Mode, Node, Writer, Xml};

/// `<metadata>`: elements of foreign namespaces, kept verbatim.
///
/// As the reference does, elements of no namespace and text between elements are dropped.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata {
    /// One element a namespace.
    pub elements: Vec<Element>,
}

impl Metadata {
    /// The element of a namespace.
    pub fn get(&self, uri: &str) -> Option<&Element> {
        self.elements.iter().find(|e| e.own_namespace() == Some(uri))
    }

    /// The element of a namespace as a document of its own: the namespace asked for is taken off.
    pub fn document(&self, uri: &str) -> Option<String> {
        let mut out = String::new();
        without_namespace(self.get(uri)?, uri).dump(&mut out, 0, true);
        Some(out)
    }

    /// Sets or (`None`) removes the element of a namespace; `key` is the prefix it gets.
    ///
    /// # Errors
    /// Code 35 for an element that is not XML.
    pub fn set(&mut self, uri: &str, key: &str, value: Option<&str>) -> Result<()> {
        let added = match value {
            None => None,
            Some(xml) => {
                let document = Document::parse(xml, Mode::default(), Domain::Domain)?;
                Some(with_namespace(document.root().to_element(), key, uri))
            }
        };
        self.elements.retain(|e| e.own_namespace() != Some(uri));
        self.elements.extend(added);
        Ok(())
    }
}

impl Xml for Metadata {
    fn read(e: El<'_>) -> Result<Self> {
        let mut elements: Vec<Element> = Vec::new();
        for c in e.children() {
            let mut element = c.to_element();
            // A namespace declared further up must not be lost with what declared it.
            if element.own_namespace().is_none()
                && let Some(uri) = c.namespace()
                && let Some((prefix, _)) = element.name.split_once(':')
            {
                let declaration = (format!("xmlns:{prefix}"), uri.to_string());
                element.attrs.insert(0, declaration);
            }
            // One element a namespace: the first.
            let known = |e: &Element| e.own_namespace() == element.own_namespace();
            if element.own_namespace().is_some() && !elements.iter().any(known) {
                elements.push(element);
            }
        }
        Ok(Self { elements })
    }
    fn write_attrs(&self, _: &mut Writer) {}
    fn write_children(&self, w: &mut Writer) {
        self.elements.iter().for_each(|e| w.foreign(e));
    }
}

/// Declares the namespace on the root and gives its prefix to all elements that have no namespace.
fn with_namespace(mut root: Element, key: &str, uri: &str) -> Element {
    prefix_all(&mut root, key);
    root.attrs.push((format!("xmlns:{key}"), uri.to_string()));
    root
}

fn prefix_all(element: &mut Element, key: &str) {
    // An element with a prefix or a default namespace of its own keeps it, with all it holds.
    if element.attrs.iter().any(|(n, _)| n == "xmlns") {
        return;
    }
    if !element.name.contains(':') {
        element.name = format!("{key}:{}", element.name);
    }
    for child in &mut element.children {
        if let Node::Element(e) = child {
            prefix_all(e, key);
        }
    }
}

/// Takes the element's own prefix off wherever it stands for `uri`, and its declaration.
fn without_namespace(element: &Element, uri: &str) -> Element {
    let mut out = element.clone();
    let prefix = out.name.split_once(':').map(|(p, _)| p.to_string());
    let declaration = prefix.as_ref().map_or_else(|| "xmlns".to_string(), |p| format!("xmlns:{p}"));
    out.attrs.retain(|(n, v)| !(*n == declaration && v == uri));
    if let Some(prefix) = prefix {
        strip(&mut out, &format!("{prefix}:"));
    }
    out
}

fn strip(element: &mut Element, prefix: &str) {
    if let Some(bare) = element.name.strip_prefix(prefix) {
        element.name = bare.to_string();
    }
    for child in &mut element.children {
        if let Node::Element(e) = child {
            strip(e, prefix);
        }
    }
}
