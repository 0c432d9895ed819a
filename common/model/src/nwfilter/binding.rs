//! `<filterbinding>`: a filter on one card of one guest, and the status file of a binding that is in force.

use virt_xml::rt_error::{Domain, Error, Result};
use virt_xml::{Codec, El, Mode, Shape, Value, Writer, Xml};

use super::FilterRef;
use crate::{Mac, Uuid, UuidText};

/// A filter on a card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The guest's name.
    pub owner_name: String,
    /// The guest's UUID.
    pub owner_uuid: Uuid,
    /// The card's device on the host.
    pub port: String,
    /// The bridge it is plugged into.
    pub link: Option<String>,
    /// The card's hardware address.
    pub mac: Mac,
    /// The filter and the values of its variables.
    pub filter: FilterRef,
}

impl Binding {
    /// Reads a document.
    ///
    /// # Errors
    /// libvirt's code and text for what is wrong.
    pub fn parse(text: &str) -> Result<Self> {
        virt_xml::parse(text, "filterbinding", Mode::CONFIG, Domain::Nwfilter)
    }

    /// Writes the document, ending in a newline.
    pub fn format(&self) -> String {
        virt_xml::format(self, "filterbinding", Mode::CONFIG)
    }
}

fn broken(text: impl Into<String>) -> Error {
    Error::internal(Domain::Nwfilter, text)
}

impl Xml for Binding {
    fn read(e: El<'_>) -> Result<Self> {
        // The first value counts, whichever of several elements has it.
        let named = |child: &'static str, attr: &str| {
            let value = e.children_named(child).find_map(|c| c.attr(attr));
            value.filter(|v| !v.is_empty()).map(str::to_string)
        };
        let owner = |child: &str| {
            let text = e.children_named("owner").find_map(|o| o.child(child)).map(|c| c.text().to_string());
            text.filter(|t| !t.is_empty())
        };
        let port = named("portdev", "name").ok_or_else(|| broken("filter binding has no port dev name"))?;
        let link = named("linkdev", "name");
        if link.is_none() && e.child("linkdev").is_some() {
            return Err(broken("filter binding has no link dev name"));
        }
        let owner_name = owner("name").ok_or_else(|| broken("filter binding has no owner name"))?;
        let uuid = owner("uuid").ok_or_else(|| broken("filter binding has no owner UUID"))?;
        let owner_uuid = <UuidText as Codec<Uuid>>::parse(&uuid)
            .map_err(|_| broken(format!("Unable to parse UUID '{uuid}'")))?;
        let mac = named("mac", "address").ok_or_else(|| broken("filter binding has no MAC address"))?;
        let mac = Mac::parse(&mac).map_err(|_| broken(format!("Unable to parse MAC '{mac}'")))?;
        let filter = e.child("filterref").filter(|f| f.attr("filter").is_some_and(|f| !f.is_empty()));
        let filter = filter.ok_or_else(|| broken("filter binding has no filter reference"))?;
        let filter = FilterRef::read(filter)?;
        Ok(Self { owner_name, owner_uuid, port, link, mac, filter })
    }
    fn write_attrs(&self, _: &mut Writer) {}
    fn write_children(&self, w: &mut Writer) {
        w.start("owner");
        w.start("name");
        w.text(&self.owner_name);
        w.end();
        w.leaf::<UuidText, Uuid>("uuid", &self.owner_uuid);
        w.end();
        let devices = [("portdev", Some(&self.port)), ("linkdev", self.link.as_ref())];
        for (element, name) in devices.into_iter().filter_map(|(e, n)| Some((e, n?))) {
            w.start(element);
            w.attr("name", name);
            w.end();
        }
        w.start("mac");
        w.attr("address", &self.mac.to_string());
        w.end();
        w.element("filterref", &self.filter);
    }
    fn shape(s: &mut Shape) {
        s.leaf("owner", "name");
        s.leaf("owner", "uuid");
        s.attr("portdev", "name");
        s.attr("linkdev", "name");
        s.attr("mac", "address");
        s.child::<FilterRef>("", "filterref");
    }
}

/// `<filterbindingstatus>`: the file under /run that tells of a binding in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindingStatus(pub Binding);

impl BindingStatus {
    /// Reads a status file.
    ///
    /// # Errors
    /// As [`Binding::parse`].
    pub fn parse(text: &str) -> Result<Self> {
        virt_xml::parse(text, "filterbindingstatus", Mode::STATUS, Domain::Nwfilter)
    }

    /// Writes a status file.
    pub fn format(&self) -> String {
        virt_xml::format(self, "filterbindingstatus", Mode::STATUS)
    }
}

impl Xml for BindingStatus {
    fn read(e: El<'_>) -> Result<Self> {
        let inner = e.child("filterbinding").ok_or_else(|| broken("a status file has no binding"))?;
        Binding::read(inner).map(Self)
    }
    fn write_attrs(&self, _: &mut Writer) {}
    fn write_children(&self, w: &mut Writer) {
        w.element("filterbinding", &self.0);
    }
}
