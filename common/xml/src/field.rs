use virt_error::{Code, Domain, Result};

use crate::{El, Shape, Writer};

/// A type that is an element, or a part of one.
///
/// Derived for almost everything. By hand only where one element's parts depend on each other in a way that no field
/// attribute says.
pub trait Xml: Sized {
    /// Reads the element. Unknown attributes and elements are passed over, as libvirt does.
    fn read(e: El<'_>) -> Result<Self>;
    /// Writes the attributes into the element that was just opened.
    fn write_attrs(&self, w: &mut Writer);
    /// Writes text and child elements.
    fn write_children(&self, w: &mut Writer);
    /// Names of children that are one element even if they are there twice, where this type is a document's root.
    fn joined() -> &'static [&'static str] {
        &[]
    }
    /// Tells which attributes and elements there are, for tests that compare types with a published schema.
    fn shape(shape: &mut Shape) {
        let _ = shape;
    }
}

impl<T: Xml> Xml for Box<T> {
    fn read(e: El<'_>) -> Result<Self> {
        T::read(e).map(Box::new)
    }
    fn write_attrs(&self, w: &mut Writer) {
        T::write_attrs(self, w);
    }
    fn write_children(&self, w: &mut Writer) {
        T::write_children(self, w);
    }
    fn shape(shape: &mut Shape) {
        T::shape(shape);
    }
}

/// libvirt's own words for a value it refuses, where they are not the usual ones.
#[derive(Debug, PartialEq, Eq)]
pub struct Say {
    /// The error number.
    pub code: Code,
    /// Where the error comes from.
    pub domain: Domain,
    /// The text; `{}` stands for the value.
    pub text: &'static str,
}
