use virt_xml::rt_error::Result;
use virt_xml::{El, Element, Writer, Xml};

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
