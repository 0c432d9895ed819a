//! Title, description and foreign metadata elements, which guests and networks have alike.

use virt_xml::rt_error::{Code, Domain as From, Error, Result};

use crate::domain::Domain;
use crate::domain::metadata::Metadata;
use crate::network::Network;

/// What is read or set (`virDomainMetadataType`, `virNetworkMetadataType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A text of any length.
    Description,
    /// One short line.
    Title,
    /// A foreign element, found by its namespace.
    Element,
}

/// A document with a title, a description and foreign elements.
pub trait Described {
    /// Who speaks in errors.
    const FROM: From;
    /// The code for one that is not there.
    const MISSING: Code;
    /// The library's function that reads.
    const GET: &str;
    /// The library's function that sets.
    const SET: &str;

    /// The title.
    fn title(&mut self) -> &mut Option<String>;
    /// The description.
    fn description(&mut self) -> &mut Option<String>;
    /// The foreign elements.
    fn metadata(&mut self) -> &mut Metadata;
    /// Title, description and foreign elements.
    fn parts(&self) -> (&Option<String>, &Option<String>, &Metadata);
}

impl Described for Domain {
    const FROM: From = From::Domain;
    const MISSING: Code = Code::NoDomainMetadata;
    const GET: &str = "virDomainGetMetadata";
    const SET: &str = "virDomainSetMetadata";

    fn title(&mut self) -> &mut Option<String> {
        &mut self.title
    }
    fn description(&mut self) -> &mut Option<String> {
        &mut self.description
    }
    fn metadata(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
    fn parts(&self) -> (&Option<String>, &Option<String>, &Metadata) {
        (&self.title, &self.description, &self.metadata)
    }
}

impl Described for Network {
    const FROM: From = From::Network;
    const MISSING: Code = Code::NoNetworkMetadata;
    const GET: &str = "virNetworkGetMetadata";
    const SET: &str = "virNetworkSetMetadata";

    fn title(&mut self) -> &mut Option<String> {
        &mut self.title
    }
    fn description(&mut self) -> &mut Option<String> {
        &mut self.description
    }
    fn metadata(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
    fn parts(&self) -> (&Option<String>, &Option<String>, &Metadata) {
        (&self.title, &self.description, &self.metadata)
    }
}

fn must<D: Described>(function: &'static str, argument: &str, what: &str) -> Error {
    Error::invalid_arg(D::FROM, function, argument, format!("{argument} in {function} must {what}"))
}

impl Kind {
    /// From the API's number.
    ///
    /// # Errors
    /// Code 8 for an unknown one.
    pub fn from_number<D: Described>(number: i32) -> Result<Self> {
        match number {
            0 => Ok(Self::Description),
            1 => Ok(Self::Title),
            2 => Ok(Self::Element),
            _ => Err(Error::new(Code::InvalidArg, D::FROM, format!("unknown metadata type '{number}'"))),
        }
    }

    /// The stored text, or the element as a document of its own: the namespace asked for is taken off.
    ///
    /// # Errors
    /// [`Described::MISSING`] when there is none; code 8 for arguments that do not fit the kind.
    pub fn get<D: Described>(self, of: &D, uri: Option<&str>) -> Result<String> {
        let (title, description, metadata) = of.parts();
        let found = match (self, uri) {
            (Self::Title, None) => title.clone(),
            (Self::Description, None) => description.clone(),
            (Self::Title | Self::Description, Some(_)) => return Err(must::<D>(D::GET, "uri", "be NULL")),
            (Self::Element, None) => return Err(must::<D>(D::GET, "uri", "not be NULL")),
            (Self::Element, Some(uri)) => metadata.document(uri),
        };
        found.ok_or_else(|| Error::new(D::MISSING, D::FROM, "Requested metadata element is not present"))
    }

    /// Checks the arguments of a change, as the library does before the driver sees them.
    ///
    /// # Errors
    /// Code 8.
    pub fn check<D: Described>(
        self,
        value: Option<&str>,
        key: Option<&str>,
        uri: Option<&str>,
    ) -> Result<()> {
        match self {
            Self::Title if value.is_some_and(|v| v.contains('\n')) => {
                let text = "metadata title can't contain newlines";
                Err(Error::invalid_arg(D::FROM, D::SET, "metadata", text))
            }
            Self::Title | Self::Description if uri.is_some() => Err(must::<D>(D::SET, "uri", "be NULL")),
            Self::Title | Self::Description if key.is_some() => Err(must::<D>(D::SET, "key", "be NULL")),
            Self::Title | Self::Description => Ok(()),
            Self::Element if uri.is_none() => Err(must::<D>(D::SET, "uri", "not be NULL")),
            Self::Element if value.is_some() && key.is_none() => Err(must::<D>(D::SET, "key", "not be NULL")),
            Self::Element => Ok(()),
        }
    }

    /// Sets or (`None`) removes a text or element. Call [`Kind::check`] first.
    ///
    /// # Errors
    /// Code 35 for an element that is not XML.
    pub fn set<D: Described>(
        self,
        of: &mut D,
        value: Option<&str>,
        key: Option<&str>,
        uri: Option<&str>,
    ) -> Result<()> {
        let text = || value.filter(|v| !v.is_empty()).map(str::to_string);
        match self {
            Self::Title => *of.title() = text(),
            Self::Description => *of.description() = text(),
            Self::Element => of.metadata().set(uri.unwrap_or_default(), key.unwrap_or_default(), value)?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URI: &str = "http://example.org/x";

    fn stored(domain: &Domain) -> String {
        let mut out = String::new();
        for e in &domain.metadata.elements {
            e.dump(&mut out, 0, true);
        }
        out
    }

    #[test]
    fn an_element_gets_and_loses_its_prefix() {
        let mut domain = Domain::default();
        Kind::Element.set(&mut domain, Some("<note a='1'><b>hi</b></note>"), Some("k"), Some(URI)).unwrap();
        assert_eq!(
            stored(&domain),
            "<k:note xmlns:k=\"http://example.org/x\" a=\"1\">\n  <k:b>hi</k:b>\n</k:note>"
        );
        assert_eq!(Kind::Element.get(&domain, Some(URI)).unwrap(), "<note a=\"1\">\n  <b>hi</b>\n</note>");
        Kind::Element.set(&mut domain, Some("<note>2</note>"), Some("kk"), Some(URI)).unwrap();
        assert_eq!(domain.metadata.elements.len(), 1);
        Kind::Element.set(&mut domain, None, Some("kk"), Some(URI)).unwrap();
        let text = Kind::Element.get(&domain, Some(URI)).unwrap_err().message();
        assert_eq!(text, "metadata not found: Requested metadata element is not present");
    }

    #[test]
    fn a_prefix_of_its_own_stays() {
        let mut domain = Domain::default();
        let xml = "<p:note xmlns:p='http://p/q' xmlns:z='http://z'><z:c/></p:note>";
        Kind::Element.set(&mut domain, Some(xml), Some("k2"), Some("http://p/q")).unwrap();
        let want = "<note xmlns:z=\"http://z\" xmlns:k2=\"http://p/q\">\n  <z:c/>\n</note>";
        assert_eq!(Kind::Element.get(&domain, Some("http://p/q")).unwrap(), want);
    }

    #[test]
    fn texts_and_bad_arguments() {
        let mut domain = Domain::default();
        Kind::Title.set(&mut domain, Some("t"), None, None).unwrap();
        assert_eq!(Kind::Title.get(&domain, None).unwrap(), "t");
        Kind::Title.set(&mut domain, Some(""), None, None).unwrap();
        assert!(Kind::Title.get(&domain, None).is_err());
        assert!(Kind::Title.check::<Domain>(Some("a\nb"), None, None).is_err());
        assert!(Kind::Element.check::<Domain>(Some("<a/>"), None, Some(URI)).is_err());
        assert!(Kind::Element.set(&mut domain, Some("<a"), Some("k"), Some(URI)).is_err());
        assert_eq!(
            Kind::from_number::<Domain>(9).unwrap_err().message(),
            "invalid argument: unknown metadata type '9'"
        );
    }

    #[test]
    fn a_network_answers_with_its_own_code() {
        let mut net = Network::default();
        let error = Kind::Title.get(&net, None).unwrap_err();
        assert_eq!((error.code(), error.domain()), (Code::NoNetworkMetadata, From::Network));
        Kind::Description.set(&mut net, Some("d"), None, None).unwrap();
        assert_eq!(Kind::Description.get(&net, None).unwrap(), "d");
        let text = Kind::Title.check::<Network>(Some("a"), Some("k"), None).unwrap_err().message();
        assert!(text.ends_with("key in virNetworkSetMetadata must be NULL"), "{text}");
    }
}
