//! Title, description and foreign metadata elements.

use virt_error::{Code, Domain as From, Error, Result};
use virt_model::domain::Domain;

/// What is read or set (`virDomainMetadataType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A text of any length.
    Description,
    /// One short line.
    Title,
    /// A foreign element, found by its namespace.
    Element,
}

impl Kind {
    /// From the API's number.
    ///
    /// # Errors
    /// Code 8 for an unknown one.
    pub fn from_number(number: i32) -> Result<Self> {
        match number {
            0 => Ok(Self::Description),
            1 => Ok(Self::Title),
            2 => Ok(Self::Element),
            _ => {
                let text = format!("unknown metadata type '{number}'");
                Err(Error::new(Code::InvalidArg, From::Domain, text))
            }
        }
    }
}

/// The stored text, or the element as a document of its own: the namespace asked for is taken off.
///
/// # Errors
/// Code 80 when there is none; code 8 for arguments that do not fit the kind.
pub fn get(domain: &Domain, kind: Kind, uri: Option<&str>) -> Result<String> {
    let function = "virDomainGetMetadata";
    let found = match (kind, uri) {
        (Kind::Title, None) => domain.title.clone(),
        (Kind::Description, None) => domain.description.clone(),
        (Kind::Title | Kind::Description, Some(_)) => return Err(must(function, "uri", "be NULL")),
        (Kind::Element, None) => return Err(must(function, "uri", "not be NULL")),
        (Kind::Element, Some(uri)) => domain.metadata.document(uri),
    };
    let missing =
        || Error::new(Code::NoDomainMetadata, From::Domain, "Requested metadata element is not present");
    found.ok_or_else(missing)
}

/// Checks the arguments of a change, as the library does before the driver sees them.
///
/// # Errors
/// Code 8.
pub fn check(kind: Kind, value: Option<&str>, key: Option<&str>, uri: Option<&str>) -> Result<()> {
    let function = "virDomainSetMetadata";
    match kind {
        Kind::Title if value.is_some_and(|v| v.contains('\n')) => {
            let text = "metadata title can't contain newlines";
            Err(Error::invalid_arg(From::Domain, function, "metadata", text))
        }
        Kind::Title | Kind::Description if uri.is_some() => Err(must(function, "uri", "be NULL")),
        Kind::Title | Kind::Description if key.is_some() => Err(must(function, "key", "be NULL")),
        Kind::Title | Kind::Description => Ok(()),
        Kind::Element if uri.is_none() => Err(must(function, "uri", "not be NULL")),
        Kind::Element if value.is_some() && key.is_none() => Err(must(function, "key", "not be NULL")),
        Kind::Element => Ok(()),
    }
}

/// Sets or (`None`) removes a text or element. Call [`check`] first.
///
/// # Errors
/// Code 35 for an element that is not XML.
pub fn set(
    domain: &mut Domain,
    kind: Kind,
    value: Option<&str>,
    key: Option<&str>,
    uri: Option<&str>,
) -> Result<()> {
    let text = || value.filter(|v| !v.is_empty()).map(str::to_string);
    match kind {
        Kind::Title => domain.title = text(),
        Kind::Description => domain.description = text(),
        Kind::Element => {
            domain.metadata.set(uri.unwrap_or_default(), key.unwrap_or_default(), value)?;
        }
    }
    Ok(())
}

fn must(function: &'static str, argument: &str, what: &str) -> Error {
    Error::invalid_arg(From::Domain, function, argument, format!("{argument} in {function} must {what}"))
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
        set(&mut domain, Kind::Element, Some("<note a='1'><b>hi</b></note>"), Some("k"), Some(URI)).unwrap();
        assert_eq!(
            stored(&domain),
            "<k:note xmlns:k=\"http://example.org/x\" a=\"1\">\n  <k:b>hi</k:b>\n</k:note>"
        );
        assert_eq!(get(&domain, Kind::Element, Some(URI)).unwrap(), "<note a=\"1\">\n  <b>hi</b>\n</note>");
        set(&mut domain, Kind::Element, Some("<note>2</note>"), Some("kk"), Some(URI)).unwrap();
        assert_eq!(domain.metadata.elements.len(), 1);
        set(&mut domain, Kind::Element, None, Some("kk"), Some(URI)).unwrap();
        let text = get(&domain, Kind::Element, Some(URI)).unwrap_err().message();
        assert_eq!(text, "metadata not found: Requested metadata element is not present");
    }

    #[test]
    fn a_prefix_of_its_own_stays() {
        let mut domain = Domain::default();
        let xml = "<p:note xmlns:p='http://p/q' xmlns:z='http://z'><z:c/></p:note>";
        set(&mut domain, Kind::Element, Some(xml), Some("k2"), Some("http://p/q")).unwrap();
        let want = "<note xmlns:z=\"http://z\" xmlns:k2=\"http://p/q\">\n  <z:c/>\n</note>";
        assert_eq!(get(&domain, Kind::Element, Some("http://p/q")).unwrap(), want);
    }

    #[test]
    fn texts_and_bad_arguments() {
        let mut domain = Domain::default();
        set(&mut domain, Kind::Title, Some("t"), None, None).unwrap();
        assert_eq!(get(&domain, Kind::Title, None).unwrap(), "t");
        set(&mut domain, Kind::Title, Some(""), None, None).unwrap();
        assert!(get(&domain, Kind::Title, None).is_err());
        assert!(check(Kind::Title, Some("a\nb"), None, None).is_err());
        assert!(check(Kind::Element, Some("<a/>"), None, Some(URI)).is_err());
        assert!(set(&mut domain, Kind::Element, Some("<a"), Some("k"), Some(URI)).is_err());
        assert_eq!(
            Kind::from_number(9).unwrap_err().message(),
            "invalid argument: unknown metadata type '9'"
        );
    }
}
